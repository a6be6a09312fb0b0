"""Surrogates: what the search believes of architectures that it has not trained. A Gaussian process or an ensemble.

Both are BoTorch models over features of the (relaxed) one-hot matrix, so that every BoTorch acquisition function takes
them, and its gradient flows back into the matrix.
"""

from __future__ import annotations

import logging
import math
import warnings
from typing import TYPE_CHECKING, Any

import torch

from .features import Features

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["SURROGATES", "fit_ensemble", "fit_gp"]

_logger = logging.getLogger(__name__)

FIT_POINTS = 250
"""Hyper-parameters are fitted to at most so many trials; the posterior uses all of them."""


def _kernel(features: Features) -> Any:
    """Sum of squared-exponential kernels, one for each view; a length scale for each column, but one for all the flow.

    And a linear one of what is thought of the score before training: the trend that it shows, up or down, holds beyond
    the networks that have been trained, where a squared exponential falls back to the mean.

    On one-hot rows this is a Hamming kernel in which values have weights of their own, so that values that act alike
    can become alike. Architectures that differ in all labels, or are two deviations apart in all numbers, begin
    correlated by exp(-1/2) in that view: length scales grow with the root of the dimension, as in Hvarfner et al. 2024
    (arXiv 2402.02229).
    """
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import LinearKernel, RBFKernel, ScaleKernel
    from gpytorch.priors import LogNormalPrior

    probe = torch.zeros(1, features.encoding.labels, features.encoding.width)
    sizes = [view.shape[-1] for view in features.views(probe)]
    parts, first = [], 0
    used = sum(size > 0 for size in sizes)
    for view, size in enumerate(sizes):
        if size == 0:
            continue
        dims = tuple(range(first, first + size))
        # The mode of LogNormal(m + s^2, s) is exp(m). One-hot rows that differ lie sqrt(2) apart, and so do two random
        # architectures in the views that are neither labels nor numbers.
        mode, width = {
            0: (0.5 * math.log(2 * features.encoding.labels), 1.0),
            2: (math.log(2) + 0.5 * math.log(size), 0.7),
        }.get(view, (math.log(2), 0.7))
        prior = LogNormalPrior(mode + width**2, width)
        base = RBFKernel(
            ard_num_dims=None if view == 1 else size,  # the flow has many columns: one length scale for all
            active_dims=dims,
            lengthscale_prior=prior,
            lengthscale_constraint=GreaterThan(0.025, transform=None, initial_value=prior.mode),
        )
        scale = ScaleKernel(
            base, outputscale_prior=LogNormalPrior(1.0 - math.log(used), 1.0), outputscale_constraint=GreaterThan(1e-4)
        )
        scale.outputscale = 1.0 / used
        parts.append(scale)
        if view == 3 and features.guesses:
            # Of mode 0.1 among random architectures, whose columns have deviation 1.
            slopes = LogNormalPrior(math.log(0.1 / features.guesses) + 1.0, 1.0)
            constraint = GreaterThan(1e-5, transform=None, initial_value=slopes.mode)
            guesses = dims[: features.guesses]
            parts.append(LinearKernel(active_dims=guesses, variance_prior=slopes, variance_constraint=constraint))
        first += size
    kernel = parts[0]
    for part in parts[1:]:
        kernel = kernel + part
    return kernel


def _likelihood(doubt: torch.Tensor | None) -> Any:
    """Noise that all trials share, and what some are doubted beyond it."""
    from botorch.models.utils.gpytorch_modules import (
        MIN_INFERRED_NOISE_LEVEL,
        get_gaussian_likelihood_with_lognormal_prior,
    )
    from gpytorch.constraints import GreaterThan
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
    from gpytorch.priors import LogNormalPrior

    if doubt is None or not doubt.any():
        return get_gaussian_likelihood_with_lognormal_prior()
    prior = LogNormalPrior(loc=-4.0, scale=1.0)  # BoTorch's, as above
    return FixedNoiseGaussianLikelihood(
        doubt.clamp_min(1e-6),
        learn_additional_noise=True,
        noise_prior=prior,
        noise_constraint=GreaterThan(MIN_INFERRED_NOISE_LEVEL, transform=None, initial_value=prior.mode),
    )


def fit_gp(
    features: Features, matrices: torch.Tensor, targets: torch.Tensor, seed: int, doubt: torch.Tensor | None = None
) -> Model:
    """Gaussian process with the kernel above, hyper-parameters at their posterior mode.

    Args:
        features: views of the space.
        matrices: ``n x L x V`` one-hot matrices of the observed architectures.
        targets: ``n`` targets of mean 0 and standard deviation 1.
        seed: picks the trials that hyper-parameters are fitted to, where there are more than `FIT_POINTS`.
        doubt: ``n`` variances of the targets beside the noise that all share; none by default.
    """
    from botorch.exceptions.errors import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch import settings
    from gpytorch.mlls import ExactMarginalLogLikelihood

    x, y = features.inputs(matrices), targets.double()[:, None]
    subset = torch.arange(len(x))
    if len(x) > FIT_POINTS:
        best = torch.argsort(targets, descending=True)[: FIT_POINTS // 2]
        rest = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        chosen = dict.fromkeys([*best.tolist(), *rest.tolist()])
        subset = torch.tensor(list(chosen)[:FIT_POINTS])

    def model_of(rows: torch.Tensor) -> Any:
        return SingleTaskGP(
            x[rows],
            y[rows],
            covar_module=_kernel(features),
            likelihood=_likelihood(None if doubt is None or not doubt.any() else doubt[rows]),
            outcome_transform=None,
        )

    model = model_of(subset)
    # For few trials most of a fit's time is bookkeeping: lazy kernels and checks of the inputs save nothing here.
    with warnings.catch_warnings(), settings.lazily_evaluate_kernels(False), settings.debug(False):
        warnings.simplefilter("ignore")  # few points: the optimizer's line search complains, the mode is good enough
        try:
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs={"options": {"maxiter": 30}}
            )
        except ModelFittingError as error:
            _logger.warning("The Gaussian process keeps its prior hyper-parameters: %s", error)
            model = model_of(subset)
    if len(subset) < len(x):
        state = model.state_dict()
        model = model_of(torch.arange(len(x)))
        model.load_state_dict(state)
    made: Model = model.eval()
    return made


class _Members(torch.nn.Module):
    """Independent multilayer perceptrons, evaluated at once."""

    def __init__(self, members: int, columns: int, width: int, generator: torch.Generator) -> None:
        super().__init__()

        def weight(a: int, b: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(members, a, b, generator=generator) / math.sqrt(a))

        self.first, self.second, self.last = weight(columns, width), weight(width, width), weight(width, 1)
        self.first_bias = torch.nn.Parameter(torch.zeros(members, 1, width))
        self.second_bias = torch.nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``... x n x d`` to ``... x members x n x 1``."""
        x = x.to(self.first.dtype).unsqueeze(-3)
        h = torch.nn.functional.silu(x @ self.first + self.first_bias)
        h = torch.nn.functional.silu(h @ self.second + self.second_bias)
        return h @ self.last


def fit_ensemble(
    features: Features,
    matrices: torch.Tensor,
    targets: torch.Tensor,
    seed: int,
    doubt: torch.Tensor | None = None,
    members: int = 8,
    steps: int = 150,
    width: int = 48,
) -> Model:
    """Ensemble of perceptrons, each trained on its own bootstrap sample and its own random starting weights.

    Args:
        features: views of the space.
        matrices: ``n x L x V`` one-hot matrices.
        targets: ``n`` targets.
        seed: of weights and bootstraps.
        doubt: not heeded: bootstraps doubt all trials alike.
        members: of the ensemble.
        steps: of AdamW on at most 256 architectures each.
        width: of the two hidden layers.
    """
    from botorch.models.ensemble import EnsembleModel

    class Ensemble(EnsembleModel):  # botorch is loaded only here
        def __init__(self, network: _Members) -> None:
            super().__init__()
            self._num_outputs = 1
            self.network = network

        def forward(self, X: torch.Tensor) -> torch.Tensor:  # noqa: N803  # BoTorch's name
            outputs: torch.Tensor = self.network(X)
            return outputs.double()

    generator = torch.Generator().manual_seed(seed)
    x, y = features.inputs(matrices).float(), targets.float()
    network = _Members(members, x.shape[1], width, generator)
    # Bayesian bootstrap: exponential weights leave no trial out entirely.
    importance = -torch.rand(members, len(x), generator=generator).clamp_min(1e-6).log()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2, fused=True)
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=generator)[:256]
        error = (network(x[rows])[..., 0] - y[rows]).square()
        loss = (importance[:, rows] * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)
    return Ensemble(network).eval()


SURROGATES = {"gp": fit_gp, "ensemble": fit_ensemble}
"""How a surrogate is made, by the name under which users choose it."""
