"""`Ending`: how a trial ended without metrics, where it could not say why itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = ["Ending"]


class Ending(StrEnum):
    """How a trial ended without metrics, where somebody else had to say so; the value is what records keep."""

    STOPPED = "stopped"
    """By an assessor, a time limit or a person."""
    CRASHED = "crashed"
    """Its process ended with an error and has written no reason."""
    KILLED = "killed"
    """Its process was killed."""
    SILENT = "silent"
    """Its process ended well, and nothing was reported."""
    REFUSED = "refused"
    """A filter kept it from being trained."""

    @property
    def sentence(self) -> str:
        """What people and language models read."""
        return _SENTENCES[self]

    @property
    def may_report(self) -> bool:
        """Whether it was inferred: such a trial may still report, since NNI may have run it in another job."""
        return self in (Ending.CRASHED, Ending.KILLED, Ending.SILENT)

    @property
    def faultless(self) -> bool:
        """Whether it says nothing against the job."""
        return self in (Ending.STOPPED, Ending.REFUSED)

    @classmethod
    def of_sentence(cls, sentence: str) -> Self | None:
        """Inverse of `sentence`, for what version 0.1 recorded; ``None`` for what a trial has said itself."""
        return next((each for each in cls if each.sentence == sentence), None)


_SENTENCES = {
    Ending.STOPPED: "stopped early: by the assessor, by maxTrialDuration or by hand",
    Ending.CRASHED: "the trial's process ended with an error before it could say why: see its stderr in the web UI",
    Ending.KILLED: "the trial's process was killed: by the system, where memory ran out, or by hand",
    Ending.SILENT: "the trial ended without reporting a final result",
    Ending.REFUSED: "refused by a filter before it was trained",
}
"""Records of version 0.1 hold these: they stay as they are."""
