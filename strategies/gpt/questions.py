"""Wording the questions: what stays the same in every prompt, and what grows with the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nni_diffnas.api.errors import BudgetError
from nni_diffnas.api.family import sample_within
from nni_diffnas.api.space import Architecture
from nni_diffnas.language_model.exchange import Message

from .known import KnownTrials
from .lessons import render_lessons
from .memory_section import render_memory
from .notes import Notes
from .prompt import (
    render_answer_format,
    render_choices,
    render_costs,
    render_example,
    render_flow,
    render_reflection,
    render_task,
    render_wanted,
    render_window,
)
from .rounds import Asked
from .schema import answer_schemas
from .template import SYSTEM, fill_template

__all__ = ["REFLECTS", "Questions", "fixed_rng"]

REFLECTS = 4
"""Results after which lessons are asked for again."""


def fixed_rng(seed: int, number: int) -> np.random.Generator:
    """Random numbers that cost the search none of its own."""
    return np.random.default_rng([seed, number])


class Questions:
    """Words the questions of one search.

    Args:
        known: the search, and what has been tried.
        notes: lessons and rejections.
        template: of the prompt.
        memory_tokens: length of the prompt's memory.
        count: estimates the tokens of a text.
        seed: of the network that shows the form of a proposal.
    """

    def __init__(
        self,
        known: KnownTrials,
        notes: Notes,
        template: str,
        memory_tokens: int,
        count: Callable[[str], int],
        seed: int,
    ) -> None:
        self._known, self._notes = known, notes
        self._template, self._memory_tokens, self._count, self._seed = template, memory_tokens, count, seed
        self.results = 0
        """Trials that have ended."""
        self.reflected = (0, 0)
        """How many had when lessons were last asked for, and in which round that was."""
        search, about = known.search, known.search.about
        self._parts = {
            "task": render_task(about.task or about.protocol, search.objective),
            "choices": render_choices(search.space, search.family),
            "flow": render_flow(search.space),
            "costs": render_costs(search.family, search.budget),
            "window": render_window(search.budget),
            "answer_format": render_answer_format(search.space),
        }

    def compose(self, round: int, wanted: int, coming: Sequence[Architecture], memory_tokens: int | None) -> Asked:
        """Word a question: see `Rounds`."""
        reflect = self._reflects(round)
        example = self._example(round, coming)
        text = self.prompt(wanted, coming, memory_tokens, example, reflect=reflect)
        schemas = answer_schemas(self._known.search.space, wanted, reflect=reflect)
        return Asked((Message("system", SYSTEM), Message("user", text)), schemas, example)

    def _reflects(self, round: int) -> bool:
        """Whether the round that is being asked asks for lessons; it may be worded more than once."""
        at, last = self.reflected
        if self.results - at >= REFLECTS and last != round:
            self.reflected = self.results, round
        return self.reflected[1] == round > 0

    def prompt(
        self,
        wanted: int,
        coming: Sequence[Architecture] = (),
        memory_tokens: int | None = None,
        example: Architecture | None = None,
        *,
        reflect: bool = False,
    ) -> str:
        """The prompt that would be sent now.

        Args:
            wanted: proposals.
            coming: about to be trained.
            memory_tokens: length of the memory; ``None`` means that of the options.
            example: shows the form of a proposal.
            reflect: ask for lessons.
        """
        limit = self._memory_tokens if memory_tokens is None else min(memory_tokens, self._memory_tokens)
        search, trials, rejections = self._known.search, self._known.trials(), self._notes.rejections
        memory = render_memory(search.space, search.objective, trials, rejections, limit, coming, self._count)
        parts = {
            **self._parts,
            "lessons": render_lessons(self._notes.lessons),
            "memory": memory,
            "count": str(wanted),
            "wanted": render_wanted(wanted),
            "example": render_example(example),
            "reflection": render_reflection() if reflect else "",
        }
        return fill_template(self._template, parts).rstrip() + "\n"

    def _example(self, round: int, coming: Sequence[Architecture]) -> Architecture | None:
        """An architecture that may be trained and that nothing speaks for; ``None`` where none is found."""
        rng, search = fixed_rng(self._seed, round), self._known.search

        def fresh(drawn: Architecture) -> bool:
            return drawn not in coming and not self._known.refusal(drawn)

        if search.family is None:
            return next(filter(fresh, (search.space.sample(rng) for _ in range(100))), None)
        try:
            return sample_within(search.family, search.budget, rng, 200, fresh)
        except BudgetError:
            return None
