"""`Acquisition`: how much a further trial of an architecture promises, differentiable in the relaxed architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .features import Features
from .surrogate import SURROGATES

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

    def agrees(self, other: Known) -> bool:
        """Whether the finished trials are the same."""
        return torch.equal(self.matrices, other.matrices) and torch.equal(self.targets, other.targets)


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
    """BoTorch's LogEI (Ament et al. 2023, eq. 8), for all points in one call, on the closed form of the posterior.

    BoTorch's own class takes each point as a batch of its own, for which gpytorch builds the covariance of all trials
    anew: seconds at 2,000 trials. Here the trials are factorised once and a point costs a product of matrices.
    """

    def __init__(self, model: Any, pending: torch.Tensor | None) -> None:
        x, y = model.train_inputs[0], model.train_targets
        self._parts = [
            (part.base_kernel.active_dims, part.base_kernel.lengthscale[0], part.outputscale)
            for part in getattr(model.covar_module, "kernels", [model.covar_module])
        ]
        self._constant = model.mean_module.constant
        self._prior = sum(scale for _, _, scale in self._parts)
        noise = model.likelihood.noise
        self._condition(x, y - self._constant, noise)
        self.best = self.posterior(x)[0].max()
        if pending is not None:
            # Fantasies at their posterior mean leave the mean as it is and take away the doubt around them.
            fantasies = self.posterior(pending)[0] - self._constant
            self._condition(torch.cat([x, pending]), torch.cat([y - self._constant, fantasies]), noise)

    def _condition(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> None:
        self._x = [(x[:, dims] / length) for dims, length, _ in self._parts]
        covariance = self._kernel(x)
        factor = torch.linalg.cholesky(covariance + (noise + 1e-6) * torch.eye(len(x), dtype=x.dtype))
        self._weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
        self._inverse = torch.cholesky_inverse(factor)

    def _kernel(self, x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for (dims, length, scale), known in zip(self._parts, self._x, strict=True):
            ours = x[:, dims] / length
            squares = ours.square().sum(1)[:, None] + known.square().sum(1) - 2 * ours @ known.T
            part = scale * torch.exp(-0.5 * squares.clamp_min(0))
            total = part if total is None else total + part
        assert total is not None
        return total

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``n x d`` inputs to ``n`` means and ``n`` variances, without noise."""
        k = self._kernel(x)
        variance = self._prior - ((k @ self._inverse) * k).sum(1)
        return self._constant + k @ self._weights, variance.clamp_min(1e-12)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``n x 1 x d`` inputs to ``n`` values."""
        from botorch.acquisition.analytic import _log_ei_helper

        mean, variance = self.posterior(x[:, 0])
        deviation = variance.sqrt()
        values: torch.Tensor = _log_ei_helper((mean - self.best) / deviation) + deviation.log()
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
        observed, pending = features.inputs(known.matrices), features.inputs(known.pending)
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
            if isinstance(model, SingleTaskGP):
                return _LogEI(model.requires_grad_(False), pending)
            best_mean = model.posterior(observed).mean.max()
        return qLogExpectedImprovement(model, best_f=best_mean, sampler=sampler_of(model), X_pending=pending)

    def __call__(self, p: torch.Tensor) -> torch.Tensor:
        """``n`` values of ``n x L x V`` matrices of probabilities."""
        found: torch.Tensor = self._function(self.features.inputs(p)[:, None])
        return found
