"""Random configurations of all kinds of UNets, small enough to build by the dozen."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from nni_diffnas.search_spaces.unet.layers import Resample, Skips
from nni_diffnas.search_spaces.unet.plan import Attention, BlockKind, Middle, UNetConfig, UpDepth


def random_config(rng: np.random.Generator, **fixed: Any) -> UNetConfig:
    """Two or three levels, every choice drawn; ``fixed`` takes the place of what is drawn."""

    def one(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    levels = 2 + int(rng.integers(2))
    skips = one(get_args(Skips))
    sides = [(16 // patch) >> level for patch in (1, 2) for level in range(levels)]
    patch = one((1, 2))
    offset = levels * (patch - 1)
    drawn: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": one((1, 3)),
        "out_channels": one((1, 3, 6)),
        "widths": tuple(one((8, 12, 16, 24)) for _ in range(levels)),
        "depths": tuple(one((1, 2, 3)) for _ in range(levels)),
        "attention": tuple(one(get_args(Attention)) for _ in range(levels)),
        "middle": one(get_args(Middle)),
        "heads": one((1, 2, 4)),
        "inner_width": one((0.5, 1.0, 1.5)),
        "time_embedding_dim": one((16, 32)),
        "num_classes": one((None, 5)),
        "norm_groups": one((4, 8)),
        "scale_shift": one((False, True)),
        "blocks": tuple(one(get_args(BlockKind)) for _ in range(levels)),
        "kernels": tuple(one([k for k in (3, 5, 7) if k <= max(sides[offset + i], 3)]) for i in range(levels)),
        "expansion": one((2, 3, 4)),
        "resample": one(get_args(Resample)),
        "skips": skips,
        "up_depth": "more" if skips == "all" else one(get_args(UpDepth)),
        "patch": patch,
    }
    if sides[offset + levels - 1] < 3:
        drawn["blocks"] = (*drawn["blocks"][:-1], "gated")
    return UNetConfig(**{**drawn, **fixed})
