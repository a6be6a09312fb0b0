"""Our feature spaces inside torch-fidelity, and Inception's from it. Importing torch-fidelity takes over a second."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import (
    FEATURE_EXTRACTORS_REGISTRY,
    register_feature_extractor,
)
from torch_fidelity.utils import create_feature_extractor

from nni_diffnas.api.errors import DataError
from nni_diffnas.cache import cached_folder, fingerprint

from .features import Extractor, FeatureNetwork

__all__ = ["INCEPTION", "extract", "inception_extractor", "inception_state", "register_extractor"]

INCEPTION = "inception-v3-compat"


class NetworkFeatures(FeatureExtractorBase):
    """torch-fidelity's view of a `FeatureNetwork` that was saved with safetensors."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **_: Any
    ) -> None:
        super().__init__(name, features_list)
        from safetensors import safe_open

        if feature_extractor_weights_path is None:
            raise DataError(f"The feature extractor {name!r} has no weights of its own: pass their path.")
        with safe_open(feature_extractor_weights_path, framework="pt") as file:
            shape = {key: int(value) for key, value in file.metadata().items()}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dictionary
        self.network = FeatureNetwork(**shape)
        self.network.load_state_dict(state)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer."""
        return ("features",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The one layer, for every metric."""
        return "features"

    @staticmethod
    def can_be_compiled() -> bool:
        """Compiling would take longer than all that it computes."""
        return False

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """Features of uint8 images ``[batch, 1 or 3, height, width]``."""
        return (self.network(input),)


def register_extractor(extractor: Extractor) -> None:
    """Make ``extractor.name`` known to torch-fidelity in this process, where it is one of ours."""
    if extractor.layer == "features" and extractor.name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(extractor.name, NetworkFeatures)


def extract(
    extractor: Extractor, batches: Iterator[NDArray[np.uint8]], device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Features ``[images, features]`` of batches of uint8 images ``[batch, 1 or 3, height, width]``.

    Raises:
        DataError: the weights cannot be had or do not fit.
    """
    register_extractor(extractor)
    ours = extractor.layer == "features"
    try:
        network = create_feature_extractor(
            extractor.name if ours else INCEPTION,
            [extractor.layer],
            cuda=False,
            verbose=False,
            feature_extractor_weights_path=None if extractor.weights is None else str(extractor.weights),
        ).to(device)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        where = "cannot be downloaded" if extractor.weights is None else f"in {str(extractor.weights)!r} cannot be used"
        raise DataError(
            f"The weights of evaluator.extractor {extractor.name!r} {where} ({str(error).splitlines()[0]}): "
            f"set evaluator.extractor_weights to a file that holds them."
        ) from error
    results: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches:
            pixels = torch.from_numpy(np.array(batch)).to(device)  # a copy: torch warns of read-only memory
            if not ours:
                pixels = pixels.expand(-1, 3, -1, -1)
            (features,) = network(pixels)
            results.append(features.float().cpu())
    return torch.cat(results).numpy()


class _Unfilled(FeatureExtractorInceptionV3):
    """The Inception network without weights; torch-fidelity's own insists on a complete file."""

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def inception_state(arrays: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Complete state dictionary for torch-fidelity's Inception from weights up to ``Mixed_6e``, batch norm folded.

    Batch norm becomes the identity plus the folded bias (running variance 1 - 0.001, since torch adds that epsilon);
    what lies beyond is zero, and its features mean nothing.

    Args:
        arrays: ``<layer>.conv.weight`` and ``<layer>.bn.bias``.

    Raises:
        DataError: a layer is missing, unknown or of the wrong shape.
    """
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    state: dict[str, Tensor] = {
        key: torch.zeros_like(value) for key, value in _Unfilled(INCEPTION, ["768"], empty).state_dict().items()
    }
    needed = {key for key in state if key.endswith((".conv.weight", ".bn.bias")) and "Mixed_7" not in key}
    if needed != set(arrays):
        odd = sorted(needed ^ set(arrays))[0]
        raise DataError(
            f"The Inception weights are {'missing' if odd in needed else 'given beyond'} {odd!r}: "
            f"use the arrays <layer>.conv.weight and <layer>.bn.bias up to Mixed_6e."
        )
    for key, array in arrays.items():
        if tuple(array.shape) != tuple(state[key].shape):
            raise DataError(
                f"The Inception weights {key!r} have the shape {tuple(array.shape)}, not {tuple(state[key].shape)}: "
                f"use those of the FID network (2015-12-05)."
            )
        state[key] = torch.from_numpy(np.array(array, dtype=np.float32))
        if key.endswith(".bn.bias"):
            layer = key.removesuffix("bias")
            state[layer + "weight"] = torch.ones_like(state[key])
            state[layer + "running_var"] = torch.full_like(state[key], 1.0 - 0.001)
    return state


def inception_extractor(layer: str, weights: Path | None) -> Extractor:
    """torch-fidelity's Inception up to a layer.

    Args:
        layer: ``2048`` or ``768``.
        weights: ``.pth`` with torch-fidelity's state dictionary, or ``.npz`` as `inception_state` describes (``768``
            only); ``None``: torch-fidelity downloads them.

    Raises:
        DataError: there is no such file, or it does not hold the weights.
    """
    name = "inception" if layer == "2048" else f"inception-{layer}"
    if weights is None:
        return Extractor(name, layer, None)
    if not weights.is_file():
        raise DataError(f"evaluator.extractor_weights {str(weights)!r} is not a file: name one, or leave it out.")
    if weights.suffix != ".npz":
        return Extractor(name, layer, weights)
    if layer == "2048":
        raise DataError(
            f"evaluator.extractor_weights {str(weights)!r} holds Inception up to its 768 features: "
            f"choose the extractor 'inception-768', or give torch-fidelity's .pth."
        )

    def make(folder: Path) -> None:
        with np.load(weights, allow_pickle=False) as file:
            torch.save(inception_state(dict(file.items())), folder / "inception.pth")

    state = weights.stat()
    key = fingerprint(str(weights.absolute()), state.st_size, state.st_mtime_ns)
    return Extractor(name, layer, cached_folder(f"features/inception-{key}", make) / "inception.pth")
