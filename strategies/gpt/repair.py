"""What is said to a model whose proposals cannot be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .offers import Offer
from .prompt import write_architecture

__all__ = ["Rejection", "render_repair"]

_SHOWN = 12


@dataclass(frozen=True)
class Rejection:
    """A proposal that will not be trained.

    Args:
        proposal: as it could be read; one line.
        why: malformed, outside the space, outside the budget (and by how much), or already known.
    """

    proposal: str
    why: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"proposal": self.proposal, "why": self.why}


def render_repair(
    rejections: Sequence[Rejection],
    accepted: int,
    missing: int,
    asked: int,
    *,
    cut_off: bool = False,
    offers: Sequence[Offer] = (),
) -> str:
    """Ask for the proposals that are still missing, saying what was wrong with each rejected one.

    Args:
        rejections: of the last answer.
        accepted: proposals of this round that will be trained.
        missing: that are still wanted.
        asked: proposals to choose them from, at least ``missing``.
        cut_off: the answer reached the limit of its tokens.
        offers: to choose the proposals from; where there are none, the model is free.
    """
    different = list(dict.fromkeys(rejections))
    lines = [f"- {rejection.proposal}: {rejection.why}" for rejection in different[:_SHOWN]]
    if len(different) > _SHOWN:
        lines.append(f"- and {len(different) - _SHOWN} more")
    kept = f"{accepted} of your proposals {'is' if accepted == 1 else 'are'} accepted. " if accepted else ""
    what = "These cannot be trained:\n" + "\n".join(lines) if lines else "No proposal could be read in your answer."
    spare = f" The first {missing} that can be trained will be: put the best first." if asked > missing else ""
    cut = "Your answer was cut off at its limit: be shorter. " if cut_off else ""
    if offers:
        changes = "\n".join(f"- {write_architecture(offer.changes)}" for offer in offers)
        return (
            f"{cut}{kept}{what}\nWith one of these changes they can be:\n{changes}\nChoose the best {missing}, and say "
            f"the whole architecture in the same format."
        )
    return (
        f"{cut}{kept}{what}\nPropose {asked} other architecture{'s' if asked > 1 else ''} instead, different from all "
        f"before, in the same format; say only the new ones.{spare}"
    )
