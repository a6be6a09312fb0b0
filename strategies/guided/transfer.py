"""`TaskPredictor`: what earlier searches on other data sets say of a new one, before any trial.

After the dataset-aware predictor of DiffusionNAG (arXiv 2305.16943): an encoder of the data set and one of the
architecture, trained together on (data set, architecture, score) rows. Theirs is a Set-Transformer, ours Deep Sets
(Zaheer et al. 2017, arXiv 1703.06114, theorem 2), ``g(mean of f(element))``: seconds on a core, and few rows do not
feed more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Objective, Trial

from .features import Features

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Experience", "TaskPredictor"]


@dataclass(frozen=True)
class Experience:
    """What is known of one data set: its elements, and the scores of architectures on it.

    Args:
        elements: ``m x d`` features, one row an image (or a class); ``m`` may differ between data sets, ``d`` not.
        architectures: ``n`` of one space.
        scores: ``n`` finite numbers, more is better.

    Raises:
        StrategyError: the elements are no matrix of finite numbers, or the scores do not fit the architectures.
    """

    elements: ArrayLike
    architectures: Sequence[Architecture]
    scores: Sequence[float]

    def __post_init__(self) -> None:
        matrix = np.asarray(self.elements, dtype=np.float32)
        if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
            raise StrategyError(
                f"The elements of a data set are {matrix.shape}: give finite features, one row an image."
            )
        if len(self.architectures) != len(self.scores) or not np.isfinite(np.asarray(self.scores, float)).all():
            raise StrategyError(
                f"{len(self.architectures)} architectures come with {len(self.scores)} scores: give each a finite one."
            )
        object.__setattr__(self, "elements", matrix)

    @classmethod
    def of(cls, elements: ArrayLike, trials: Iterable[Trial], objective: Objective) -> Experience:
        """From trials on one data set, as `nni_diffnas.memory.SearchMemory.trials` returns them.

        Args:
            elements: of the data set.
            trials: of one space and protocol; those without a score are left out.
            objective: what is wanted of them.
        """
        scored = [(trial.architecture, objective.score(trial.metrics)) for trial in trials]
        known = [(architecture, score) for architecture, score in scored if score is not None]
        return cls(elements, [architecture for architecture, _ in known], [score for _, score in known])


class _Network(nn.Module):
    """``g(set) + a(architecture) + <u(set), v(architecture)>``: how hard, how good, how well suited."""

    def __init__(self, elements: int, columns: int, width: int) -> None:
        super().__init__()
        self.element = nn.Sequential(nn.Linear(elements, width), nn.SiLU(), nn.Linear(width, width))
        self.task = nn.Sequential(nn.SiLU(), nn.Linear(width, width + 1))
        self.architecture = nn.Sequential(
            *(nn.Linear(columns, 2 * width), nn.SiLU(), nn.Linear(2 * width, width), nn.SiLU()),
            nn.Linear(width, width + 1),
        )

    def sets(self, elements: torch.Tensor, of: torch.Tensor, count: int) -> torch.Tensor:
        """``M x d`` elements of ``count`` sets, ``of`` saying whose each is, to ``count x (width + 1)``."""
        encoded = self.element(elements)
        total = encoded.new_zeros(count, encoded.shape[1]).index_add(0, of, encoded)
        sizes = torch.bincount(of, minlength=count).clamp_min(1)[:, None]
        found: torch.Tensor = self.task(total / sizes)
        return found

    def join(self, task: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        encoded = self.architecture(x)
        suits = (task[..., 1:] * encoded[..., 1:]).sum(-1) / encoded.shape[-1] ** 0.5
        found: torch.Tensor = task[..., 0] + encoded[..., 0] + suits
        return found


class TaskPredictor:
    """Predicts scores on data sets that no search has seen.

    Args:
        features: views of the space that all rows come from.
        experiences: of two or more data sets.
        scale: ``task`` standardises the scores of each data set by themselves, so that only the order of its
            architectures counts (Fréchet distances of different data sets have different units); ``all`` standardises
            them together, so that how hard a data set is is learned too.
        aware: whether the data set is looked at; without it the predictor is the task-blind control.
        seed: of weights and order.
        steps: of AdamW on 256 rows each, with a cosine from 3e-3 to 0.
        width: of the encoders.

    Raises:
        StrategyError: fewer than two data sets, no rows, elements of different widths.
    """

    def __init__(
        self,
        features: Features,
        experiences: Sequence[Experience],
        *,
        scale: Literal["task", "all"] = "task",
        aware: bool = True,
        seed: int = 0,
        steps: int = 400,
        width: int = 32,
    ) -> None:
        self.features = features
        matrices = [torch.as_tensor(np.asarray(each.elements)) for each in experiences]
        rows = [(task, i) for task, each in enumerate(experiences) for i in range(len(each.scores))]
        if len(experiences) < 2 or not rows or len({matrix.shape[1] for matrix in matrices}) > 1:
            raise StrategyError(
                f"{len(experiences)} data sets with {len(rows)} rows cannot teach a transfer: give at least two, with "
                f"elements of one width."
            )
        encoding = features.encoding
        x = torch.cat([self._columns(encoding.one_hot(encoding.indices(e.architectures))) for e in experiences])
        y = torch.from_numpy(np.concatenate([self._targets(e, scale) for e in experiences])).float()
        y = (y - y.mean()) / y.std().clamp_min(1e-6)
        of_row = torch.tensor([task for task, _ in rows])
        stacked = torch.cat(matrices)
        self._mean, self._deviation = stacked.mean(0), stacked.std().clamp_min(1e-6)
        self.aware = aware
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = _Network(stacked.shape[1], x.shape[1], width)
        prepared = [self._elements(matrix) for matrix in matrices]
        optimizer = torch.optim.AdamW(self._network.parameters(), lr=3e-3, weight_decay=0.1, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            batch = torch.randint(len(y), (min(256, len(y)),), generator=order)
            tasks, at = torch.unique(of_row[batch], return_inverse=True)
            chosen = [prepared[task] for task in tasks.tolist()]
            of = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(each) for each in chosen]))
            encoded = self._network.sets(torch.cat(chosen), of, len(chosen))
            loss = (self._network.join(encoded[at], x[batch]) - y[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self._network.requires_grad_(False)

    @staticmethod
    def _targets(experience: Experience, scale: str) -> Any:
        scores = np.asarray(experience.scores, dtype=np.float64)
        return scores if scale == "all" or not len(scores) else (scores - scores.mean()) / (scores.std() or 1.0)

    def _columns(self, p: torch.Tensor) -> torch.Tensor:
        p = p.float()
        return torch.cat([self.features.labels(p), self.features.flow(p)], dim=-1)

    def _elements(self, matrix: torch.Tensor) -> torch.Tensor:
        scaled = (matrix - self._mean) / self._deviation
        return scaled if self.aware else torch.zeros_like(scaled)

    def encode(self, elements: ArrayLike) -> torch.Tensor:
        """``m x d`` elements of a data set to what the predictor keeps of it."""
        matrix = self._elements(torch.as_tensor(np.asarray(elements, dtype=np.float32)))
        return self._network.sets(matrix, torch.zeros(len(matrix), dtype=torch.long), 1)[0]

    def predict(self, task: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` (relaxed) architectures to ``...`` standardised scores on an encoded data set."""
        return self._network.join(task, self._columns(p))
