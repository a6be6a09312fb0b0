"""The exception tree: one root, and each leaf is also the built-in error that it refines.

Every message is one sentence that names the offending field and value and says what to do.
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "DataError",
    "DiffNASError",
    "JobError",
    "MemoryFileError",
    "PluginError",
    "SpaceError",
    "StrategyError",
    "TrialFailure",
]


_HEAD, _TAIL = 1200, 600


class DiffNASError(Exception):
    """Root of everything that nni-diffnas raises on purpose.

    A message that quotes somebody's file at great length is cut in its middle: the remedy stands at its end.
    """

    def __str__(self) -> str:
        said = super().__str__()
        return said if len(said) <= _HEAD + _TAIL else f"{said[:_HEAD]} ... {said[-_TAIL:]}"


class JobError(DiffNASError, ValueError):
    """A job file, or an NNI config that uses one, holds something that cannot be run."""


class SpaceError(DiffNASError, ValueError):
    """An architecture or a search space is malformed: unknown label, unknown choice, bad condition."""


class BudgetError(DiffNASError, ValueError):
    """A budget window that no architecture of the space can meet."""


class DataError(DiffNASError, ValueError):
    """Images that cannot be read or do not fit the job."""


class PluginError(DiffNASError, LookupError):
    """No installed package offers the named space, strategy or evaluator."""


class MemoryFileError(DiffNASError, OSError):
    """A search-memory file that is foreign, damaged or of a newer version."""


class StrategyError(DiffNASError, RuntimeError):
    """A strategy broke its contract, or was used out of order."""


class TrialFailure(DiffNASError, RuntimeError):
    """A trial that cannot give a score: divergence, no memory, time limit. The message is its reason."""
