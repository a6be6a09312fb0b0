"""`Acquisition`: how much a further trial of an architecture promises, differentiable in the relaxed architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .features import Features
from .surrogate import SURROGATES, inputs

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["Acquisition", "Known", "fit_models"]

_SAMPLES = 32


@dataclass(frozen=True)
class Known:
    """What the search has learned.

    Args:
        matrices: ``n x L x V`` one-hot matrices of the finished trials.
        targets: ``n x m`` targets, one column an objective, more is better.
        pending: ``k x L x V`` one-hot matrices of the trials under way.
    """

    matrices: torch.Tensor
    targets: torch.Tensor
    pending: torch.Tensor


def fit_models(
    features: Features,
    known: Known,
    surrogate: str,
    seed: int,
    exact: Sequence[Callable[[torch.Tensor], torch.Tensor]] = (),
) -> list[Model]:
    """One surrogate for each column of targets; the last columns may be known exactly.

    Args:
        features: views of the space.
        known: the trials.
        surrogate: ``gp`` or ``ensemble``.
        seed: of the fit.
        exact: for each of the last columns, ``... x d`` inputs to ``... x 1`` targets.
    """
    from botorch.models.deterministic import GenericDeterministicModel

    fitted = known.targets.shape[1] - len(exact)
    models = [SURROGATES[surrogate](features, known.matrices, known.targets[:, i], seed) for i in range(fitted)]
    return models + [GenericDeterministicModel(f) for f in exact]


class _LogEI:
    """BoTorch's LogEI (Ament et al. 2023, eq. 8), for all points in one call.

    BoTorch's own class takes each point as a batch of its own, for which gpytorch builds the covariance of all trials
    anew: seconds at 2,000 trials.
    """

    def __init__(self, model: Any, best: torch.Tensor) -> None:
        self.model, self.best = model.requires_grad_(False), best

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``n x 1 x d`` inputs to ``n`` values."""
        from botorch.acquisition.analytic import _log_ei_helper

        posterior = self.model.posterior(x[:, 0])
        deviation = posterior.variance[:, 0].clamp_min(1e-12).sqrt()
        values: torch.Tensor = _log_ei_helper((posterior.mean[:, 0] - self.best) / deviation) + deviation.log()
        return values


class Acquisition:
    """Logarithm of the expected improvement, of the score or (several objectives) of the dominated hypervolume.

    One objective: LogEI over the best posterior mean among the observed architectures, since the scores are noisy;
    pending trials are fantasies at their posterior mean. An ensemble, or several objectives: qLogEI and qLogNEHVI over
    32 joint samples, pending trials included (Ament et al. 2023, arXiv 2310.20708; Daulton et al. 2021, arXiv
    2105.08195).

    Args:
        features: views of the space.
        known: the trials.
        models: from `fit_models`.
        seed: of the joint samples.
    """

    def __init__(self, features: Features, known: Known, models: Sequence[Model], seed: int) -> None:
        self.features = features
        observed, pending = inputs(features, known.matrices), inputs(features, known.pending)
        self._function = self._make(models, observed, known, pending if len(pending) else None, seed)

    @staticmethod
    def _make(
        models: Sequence[Any], observed: torch.Tensor, known: Known, pending: torch.Tensor | None, seed: int
    ) -> Any:
        from botorch.acquisition.logei import qLogExpectedImprovement
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.models import SingleTaskGP
        from botorch.models.model import ModelList
        from botorch.models.model_list_gp_regression import ModelListGP
        from botorch.sampling.index_sampler import IndexSampler
        from botorch.sampling.list_sampler import ListSampler
        from botorch.sampling.normal import SobolQMCNormalSampler
        from botorch.utils.multi_objective.hypervolume import infer_reference_point
        from botorch.utils.multi_objective.pareto import is_non_dominated

        size = torch.Size([_SAMPLES])

        def sampler_of(model: Model) -> Any:
            gaussian = isinstance(model, SingleTaskGP)
            return SobolQMCNormalSampler(size, seed=seed) if gaussian else IndexSampler(size, seed=seed)

        if len(models) > 1:
            front = known.targets[is_non_dominated(known.targets)]
            # Only the front and its like matter for the hypervolume; the rest would only cost time.
            best = torch.argsort(known.targets.sum(1), descending=True)[:12]
            baseline = torch.cat([observed[is_non_dominated(known.targets)], observed[best]])
            processes = [model for model in models if isinstance(model, SingleTaskGP)]
            joint = ModelListGP(*processes) if len(processes) == len(models) else ModelList(*models)
            return qLogNoisyExpectedHypervolumeImprovement(
                joint,
                ref_point=infer_reference_point(front.double()).tolist(),
                X_baseline=baseline[:32],
                sampler=ListSampler(*map(sampler_of, models)),
                X_pending=pending,
                prune_baseline=False,
                cache_root=False,
            )
        (model,) = models
        with torch.no_grad():
            best_mean = model.posterior(observed).mean.max()
            if isinstance(model, SingleTaskGP):
                if pending is not None:
                    model = model.condition_on_observations(pending, model.posterior(pending).mean)
                return _LogEI(model, best_mean)
        return qLogExpectedImprovement(model, best_f=best_mean, sampler=sampler_of(model), X_pending=pending)

    def __call__(self, p: torch.Tensor) -> torch.Tensor:
        """``n`` values of ``n x L x V`` matrices of probabilities."""
        found: torch.Tensor = self._function(inputs(self.features, p)[:, None])
        return found
