"""`Acquisition`: how much a further trial of an architecture promises, differentiable in the relaxed architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.multi_objective import logei as multi_objective
from botorch.models import SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import Model, ModelList
from botorch.posteriors.gpytorch import GPyTorchPosterior
from botorch.sampling.index_sampler import IndexSampler
from botorch.sampling.list_sampler import ListSampler
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from gpytorch.distributions import MultivariateNormal
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood

from nni_diffnas.api.pareto import pareto_front

from .features import Features
from .observations import Known
from .surrogate import SURROGATES

__all__ = ["Acquisition", "fit_models"]

_SAMPLES = 32

# Otherwise the first suggestion for several objectives compiles a C++ kernel, a minute in which the search stands
# still; the suggestions behind it take as long with the kernel as without.
multi_objective._load_attempted = True


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
    fitted = known.targets.shape[1] - len(exact)
    models = [
        SURROGATES[surrogate](features, known.matrices, known.targets[:, i], seed, known.doubt if i == 0 else None)
        for i in range(fitted)
    ]
    return models + [GenericDeterministicModel(f) for f in exact]


class _AtOnce(Model):
    """A Gaussian process that says of each of many points by itself, all of them in one call.

    Analytic acquisition functions take each point as a batch of its own, for which gpytorch expands all trials: seconds
    for one call at 2,000 trials, hundredths of a second this way (``benchmarks/suggest_scale.py``).
    """

    def __init__(self, process: Any) -> None:
        super().__init__()
        self._process = process
        self._num_outputs = 1

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    def posterior(self, X: torch.Tensor, *args: Any, **options: Any) -> GPyTorchPosterior:  # noqa: N803  # BoTorch's name
        """``n x 1 x d`` points to the posterior of each."""
        found = self._process.posterior(X.squeeze(-2))
        variance = found.variance.clamp_min(1e-12)
        # A batch of n normals of one dimension each.
        return GPyTorchPosterior(MultivariateNormal(found.mean, variance[..., None]))


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
        size = torch.Size([_SAMPLES])

        def sampler_of(model: Model) -> Any:
            gaussian = isinstance(model, SingleTaskGP)
            return SobolQMCNormalSampler(size, seed=seed) if gaussian else IndexSampler(size, seed=seed)

        targets, observed = known.targets[: known.candidates], observed[: known.candidates]
        if len(models) > 1:
            front = pareto_front(-targets.numpy())
            # Only the front and its like matter for the hypervolume; the rest would only cost time.
            best = torch.argsort(targets.sum(1), descending=True)[:12]
            baseline = torch.cat([observed[front], observed[best]])
            return multi_objective.qLogNoisyExpectedHypervolumeImprovement(
                ModelList(*models),
                ref_point=infer_reference_point(targets[front].double()).tolist(),
                X_baseline=baseline[:32],
                sampler=ListSampler(*map(sampler_of, models)),
                X_pending=pending,
                prune_baseline=False,
                cache_root=False,
            )
        (model,) = models
        with torch.no_grad():
            mean = model.posterior(observed).mean
            if isinstance(model, SingleTaskGP):
                model = model.requires_grad_(False)
                if pending is not None:
                    # Fantasies at their posterior mean leave the mean as it is and take away the doubt around them.
                    means = model.posterior(pending).mean
                    doubts = isinstance(model.likelihood, FixedNoiseGaussianLikelihood)
                    known_noise = {"noise": torch.full_like(means, 1e-6)} if doubts else {}
                    model = model.condition_on_observations(pending, means, **known_noise)
                return LogExpectedImprovement(_AtOnce(model), best_f=mean.max())
        return qLogExpectedImprovement(model, best_f=mean.max(), sampler=sampler_of(model), X_pending=pending)

    def __call__(self, p: torch.Tensor) -> torch.Tensor:
        """``n`` values of ``n x L x V`` matrices of probabilities."""
        found: torch.Tensor = self._function(self.features.inputs(p)[:, None])
        return found
