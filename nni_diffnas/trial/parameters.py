"""What travels to a trial: one flat dictionary of labels and settings, as NNI ships and shows it."""

from __future__ import annotations

from collections.abc import Mapping

from ..api.space import Architecture, Space, Value
from ..api.trial import Trial

__all__ = ["SETTING_PREFIX", "TRIAL_ID", "parameters_of", "split_parameters"]

SETTING_PREFIX = "run."
"""Parameters under this prefix are settings of the run, not labels of the architecture."""

TRIAL_ID = "run.trial"
"""The parameter that carries a trial's id through NNI, so that results find it again after a resume."""


def split_parameters(parameters: Mapping[str, Value]) -> tuple[Architecture, dict[str, Value]]:
    """Separate the architecture (all its labels) from the settings of the run."""
    architecture = {label: value for label, value in parameters.items() if not label.startswith(SETTING_PREFIX)}
    settings = {
        label.removeprefix(SETTING_PREFIX): value
        for label, value in parameters.items()
        if label.startswith(SETTING_PREFIX) and label != TRIAL_ID
    }
    return architecture, settings


def parameters_of(trial: Trial, space: Space) -> dict[str, Value]:
    """Flat parameters of a trial: every label, then the settings."""
    settings = {f"{SETTING_PREFIX}{name}": value for name, value in trial.settings.items()}
    return {**space.complete(trial.architecture), **settings, TRIAL_ID: trial.id}
