"""Judging an answer: which of its proposals can be trained, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nni_diffnas.api.space import Architecture, Space
from nni_diffnas.language_model.exchange import Answer

from .known import KnownTrials
from .lessons import one_line
from .notes import Notes
from .parsing import read_answer, read_proposal
from .prompt import write_architecture
from .repair import Rejection
from .rounds import JudgedAnswer
from .schema import REASON, REASON_CHARACTERS

__all__ = ["Judge"]

_LONGEST = 600
"""Characters of a rejected proposal that are kept."""


@dataclass(frozen=True)
class Judge:
    """Judges the answers of one search.

    Args:
        space: what is searched.
        known: what has been tried.
        notes: keeps lessons and rejections.
    """

    space: Space
    known: KnownTrials
    notes: Notes

    def judge(self, answer: Answer, round: int, step: int, example: Architecture | None, most: int) -> JudgedAnswer:
        """Read an answer: see `Rounds`."""
        said = read_answer(answer.text, self.space, cut_off=answer.cut_off)
        self.notes.learn(round, said.lessons)
        accepted: list[tuple[Architecture, str]] = []
        rejected: list[Rejection] = []
        refused: list[Architecture] = []
        for written in said.proposals:
            if len(accepted) == most:
                break
            architecture, rejection = self._verdict(written, [known for known, _ in accepted], example)
            if rejection is None:
                reason = written.get(REASON, "") if REASON not in self.space.choices else ""
                accepted.append((architecture, one_line(reason, REASON_CHARACTERS) if isinstance(reason, str) else ""))
            else:
                rejected.append(rejection)
                if set(architecture) == set(self.space.present(architecture)) and architecture not in refused:
                    refused.append(architecture)
        if rejected:
            self.notes.refuse(round, step, rejected)
        elif not said.proposals:
            rejected = [Rejection(one_line(answer.text, 100), "no proposal could be read in this answer")]
            self.notes.refuse(round, step, rejected, show=False)
        return JudgedAnswer(tuple(accepted), tuple(rejected), tuple(refused))

    def _verdict(
        self, written: Mapping[str, Any], accepted: Sequence[Architecture], example: Architecture | None
    ) -> tuple[Architecture, Rejection | None]:
        architecture, complaints = read_proposal(self.space, written)
        if complaints:
            why = "; ".join(complaints)
        elif architecture in accepted:
            why = "the same as another of these proposals"
        elif architecture == example:
            why = "this is the network that was drawn to show the form; propose one of your own"
        else:
            why = self.known.refusal(architecture)
        return architecture, Rejection(one_line(write_architecture(architecture), _LONGEST), why) if why else None
