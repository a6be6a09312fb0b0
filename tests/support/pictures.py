"""Pictures on disk, and image sets read from them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nni_diffnas.evaluators.images.image_set import ImageSet, images
from nni_diffnas.evaluators.images.settings import DataSettings


def load(source: object, **options: Any) -> ImageSet:
    few = {} if source == "digits" else {"held_out": 0}
    return images(DataSettings(source=str(source), **{**few, **options}))


def write(path: Path, size: tuple[int, int] = (6, 6), mode: str = "RGB", value: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).convert(mode).save(path)


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
