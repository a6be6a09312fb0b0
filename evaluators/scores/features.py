"""Feature spaces for the Fréchet distance, named by the job: Inception, a network trained on the labels, a random one.

What happens to be installed never chooses: a name always means the same features, and is stored with every score.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nni_diffnas.api.errors import DataError
from nni_diffnas.cache import cached_folder, fingerprint

from ..images.image_set import ImageSet
from ..training.optimizer import AdamW, learning_rate

__all__ = ["Extractor", "ExtractorKind", "FeatureNetwork", "labels_extractor", "random_extractor"]

ExtractorKind = Literal["inception", "inception-768", "labels", "random"]

FEATURES = 64
# Changes whenever the network or its training changes, so that an older cache is not taken for the new one.
RECIPE = 1


@dataclass(frozen=True)
class Extractor:
    """Where the features of images come from; `fidelity.extract` computes them.

    Args:
        name: of the feature space, unique to its weights: part of the protocol of every score.
        layer: torch-fidelity's name of the layer.
        weights: file of the weights; ``None``: torch-fidelity downloads its own.
        accuracy: of a network trained on labels, on the held-out images; NaN for the others.
    """

    name: str
    layer: str
    weights: Path | None
    accuracy: float = math.nan


class FeatureNetwork(nn.Module):
    """A small convolutional network; features ``[batch, 64]`` come before its last non-linearity.

    Args:
        channels: of the images.
        size: shorter side of the images in pixels; halved by convolutions until it is at most 4.
        classes: number of labels it can tell; 0 for none.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        width = 32
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU()]
        while True:
            wider = min(2 * width, 128)
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.GroupNorm(8, wider), nn.ReLU()]
            width, size = wider, (size + 1) // 2
            if size <= 4:
                break
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(width * 16, FEATURES)]
        self.channels = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes) if classes else None

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of uint8 images ``[batch, 1 or 3, height, width]``; grey and colour are converted."""
        images = pixels.float() / 127.5 - 1.0
        if images.shape[1] != self.channels:
            images = images.mean(dim=1, keepdim=True).expand(-1, self.channels, -1, -1)
        features: Tensor = self.body(images)
        return features

    def logits(self, pixels: Tensor) -> Tensor:
        """Scores ``[batch, classes]`` of the labels."""
        assert self.head is not None
        scores: Tensor = self.head(torch.relu(self(pixels)))
        return scores


def _seeded_network(images: ImageSet, classes: int, seed: int) -> FeatureNetwork:
    channels, height, width = images.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeatureNetwork(channels, min(height, width), classes)


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:8]


def _save(network: FeatureNetwork, kind: str, accuracy: float, images: ImageSet, folder: Path) -> None:
    from safetensors.torch import save_file

    channels, height, width = images.shape
    classes = network.head.out_features if network.head is not None else 0
    shape = {"channels": channels, "size": min(height, width), "classes": classes}
    save_file(network.state_dict(), folder / "network.safetensors", {key: str(value) for key, value in shape.items()})
    about = {"name": f"{kind}-{_weights_hash(network)}", "accuracy": accuracy if math.isfinite(accuracy) else None}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _load(folder: Path) -> Extractor:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    accuracy = math.nan if about["accuracy"] is None else float(about["accuracy"])
    return Extractor(about["name"], "features", folder / "network.safetensors", accuracy)


def random_extractor(images: ImageSet, seed: int = 0) -> Extractor:
    """Features of a network with random weights that follow from ``seed``: for images without labels.

    Saxe et al., "On Random Weights and Unsupervised Feature Learning" (2011): such features tell textures apart.
    """

    def make(folder: Path) -> None:
        _save(_seeded_network(images, 0, seed), f"random-{seed}", math.nan, images, folder)

    return _load(cached_folder(f"features/random-{fingerprint(RECIPE, seed, images.shape)}", make))


def labels_extractor(images: ImageSet, *, seed: int = 0, passes: int = 40) -> Extractor:
    """Features of a network trained once, by this function, to tell the labels of the training images.

    Args:
        images: with labels; the held-out ones are not trained on but measure the accuracy.
        seed: of the weights and the order of images.
        passes: over the training images, at most 64,000 images in all of them beyond the third.

    Raises:
        DataError: there are no labels to learn from.
    """
    if images.labels is None or images.classes < 2:
        raise DataError(
            f"evaluator.extractor 'labels' learns from labels, of which the data has {images.classes} classes: "
            f"give labels for two classes at least, or choose another extractor."
        )
    labels = images.labels

    def make(folder: Path) -> None:
        network, accuracy = _train_on_labels(images, labels, seed, passes)
        _save(network, "labels", accuracy, images, folder)

    return _load(cached_folder(f"features/labels-{fingerprint(RECIPE, images.split, seed, passes)}", make))


def _train_on_labels(
    images: ImageSet, labels: NDArray[np.int64], seed: int, passes: int
) -> tuple[FeatureNetwork, float]:
    network = _seeded_network(images, images.classes, seed)
    order, batch = np.random.default_rng(seed), 64
    count = len(images.training)
    passes = min(passes, max(3, 64_000 // count))
    total = passes * math.ceil(count / batch)
    optimizer, step = AdamW(list(network.parameters()), betas=(0.9, 0.999), decay=0.01), 0
    for _ in range(passes):
        shuffled = order.permutation(images.training)
        for start in range(0, count, batch):
            chosen = shuffled[start : start + batch]
            scores = network.logits(torch.from_numpy(images.pixels[chosen]))
            target = torch.from_numpy(labels[chosen])
            nn.functional.cross_entropy(scores, target, label_smoothing=0.05).backward()
            step += 1
            optimizer.step(learning_rate(2e-3, step / total, warmup=0.1), clip=1.0)
    return network, _accuracy(network, images, labels)


@torch.inference_mode()
def _accuracy(network: FeatureNetwork, images: ImageSet, labels: NDArray[np.int64]) -> float:
    right = 0
    for start in range(0, len(images.held_out), 256):
        chosen = images.held_out[start : start + 256]
        guessed = network.logits(torch.from_numpy(images.pixels[chosen])).argmax(dim=1).numpy()
        right += int((guessed == labels[chosen]).sum())
    return right / len(images.held_out) if len(images.held_out) else math.nan
