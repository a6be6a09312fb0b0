"""`GPTProposer`: a language model proposes architectures (after DiffNAS, arXiv 2310.04750)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import About
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.language_model.exchange import LanguageModel, Message, Question
from nni_diffnas.language_model.ledger import LedgerRow, estimate_tokens
from nni_diffnas.language_model.options import FilePath, LanguageModelOptions, open_language_model, read_template

from .fallback import Fallback
from .lessons import MAX_CHARACTERS, MAX_LESSONS, one_line, render_lessons
from .memory_section import render_memory
from .parsing import read_answer, read_proposal
from .prompt import (
    render_answer_format,
    render_choices,
    render_costs,
    render_flow,
    render_task,
    render_window,
    write_architecture,
)
from .repair import Rejection, render_repair
from .schema import answer_schema
from .template import DEFAULT_TEMPLATE, SYSTEM, check_template, fill_template

__all__ = ["GPTProposer"]

MAX_WANTED = 16
"""Proposals of one question, fewer where the answer's tokens hold fewer. More free workers get another round."""

_KEPT_REJECTIONS = 12
_LINE = 30
"""Tokens of the rank, score and cost that the memory puts before an architecture."""


class GPTProposer(AskTellStrategy):
    """Ask a language model for the next architectures; show it costs, budget, lessons and the search memory.

    A round asks for as many different proposals as workers are free. What cannot be trained is sent back with the
    reason, at most ``repairs`` times, each time asking for twice as many alternatives, since a model does not see all
    that has been tried. Slots that stay open, and all slots while the model cannot be asked, are filled by mutations of
    good architectures (origin kind ``mutation`` instead of ``proposal``). So a search never waits for a model that does
    not answer: one call lasts at most (repairs + 1) x (retries + 1) time limits plus the waits.

    The key is read from the environment variable ``OPENAI_API_KEY`` and from nowhere else.

    Args:
        model: name of the model at the server.
        base_url: of an OpenAI-compatible server; ``None`` means OpenAI.
        replay: transcript whose answers are used instead of a model's.
        template: file of a prompt template, see `template`; ``None`` means the built-in one.
        memory_tokens: length of the prompt's memory, at least 50 (estimated at 3 bytes a token).
        repairs: repair messages per round.
        language_model: a model made by the caller; then the options of how to reach one do not count.
        transcript, timeout_s, retries, backoff_s, answer_tokens, temperature, structured, prices, max_cost_usd, \
max_tokens, max_requests: see `LanguageModelOptions`.
        **options: of `AskTellStrategy`.

    Raises:
        JobError: no key and no ``base_url``, or an option that cannot be used.
        StrategyError: an option out of range, or a template that cannot be filled.
    """

    def __init__(
        self,
        *,
        model: str = "gpt-4",
        base_url: str | None = None,
        replay: FilePath | None = None,
        template: FilePath | None = None,
        memory_tokens: int = 2000,
        repairs: int = 3,
        language_model: LanguageModel | None = None,
        transcript: FilePath | None = None,
        timeout_s: float = 120.0,
        retries: int = 4,
        backoff_s: float = 1.0,
        answer_tokens: int = 2000,
        temperature: float | None = None,
        structured: bool = True,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
        max_requests: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if memory_tokens < 50 or not 0 <= repairs <= 20:
            raise StrategyError(
                f"memory_tokens is {memory_tokens} and repairs {repairs}: take at least 50 tokens and 0 to 20 repairs."
            )
        self.memory_tokens, self.repairs = memory_tokens, repairs
        self._template = check_template(DEFAULT_TEMPLATE if template is None else read_template(template))
        self._model = language_model or open_language_model(
            LanguageModelOptions(
                model=model,
                base_url=base_url,
                replay=replay,
                transcript=transcript,
                timeout_s=timeout_s,
                retries=retries,
                backoff_s=backoff_s,
                answer_tokens=answer_tokens,
                temperature=temperature,
                structured=structured,
                prices=prices,
                max_cost_usd=max_cost_usd,
                max_tokens=max_tokens,
                max_requests=max_requests,
                seed=self.options.seed,
            )
        )
        self.lessons: tuple[str, ...] = ()
        self._rejections: list[Rejection] = []
        self._queue: list[Suggestion] = []
        self._round = 0
        self._parts: dict[str, str] = {}

    @property
    def _about(self) -> About:
        return self.search.about

    # The hooks -------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Render what stays the same in every prompt, open the transcript, take over lessons of a shared memory."""
        example = (
            self.search.space.sample(self._fixed_rng()) if self.search.family is None else self.search.family.default
        )
        self._parts = {
            "task": render_task(self._about.task or self._about.protocol, self.search.objective),
            "choices": render_choices(self.search.space, self.search.family),
            "flow": render_flow(self.search.space),
            "costs": render_costs(self.search.family),
            "window": render_window(self.search.budget),
            "answer_format": render_answer_format(self.search.space, self.search.space.validate(example)),
        }
        self._schema = answer_schema(self.search.space)
        room = self._model.answer_tokens - estimate_tokens("x" * MAX_LESSONS * MAX_CHARACTERS)
        each = estimate_tokens(write_architecture(self.search.space.complete(self.search.space.validate(example))))
        self._per_answer = min(MAX_WANTED, max(1, room // each))
        about = {
            "space": self.search.space.key,
            "task": self._about.task,
            "strategy": type(self).__name__,
            "seed": self.options.seed,
        }
        self._model.open(self._about.folder, about, self._enter)
        self._round = self._model.last_round
        if self._about.memory is not None:
            # What was spent before a resume; the journal knows it even where a kill lost the last snapshot.
            self._model.ledger.restore(
                event.body for event in self._about.memory.events("ledger", self._about.experiment)
            )
            for event in self._about.memory.events("lessons"):
                if event.body.get("space") == self.search.space.key:
                    self.lessons = tuple(event.body["lessons"])

    def forecast(self, suggestions: int) -> str:
        """What a question for each suggestion costs, the memory growing with them."""
        line = (
            estimate_tokens(write_architecture(self.search.space.complete(self.search.space.sample(self._fixed_rng()))))
            + _LINE
        )
        first = estimate_tokens(SYSTEM + self.prompt(1))
        lessons = estimate_tokens("x" * MAX_LESSONS * MAX_CHARACTERS) // 2
        grown = [min(self.memory_tokens, line * number) for number in range(suggestions)]
        return self._model.forecast([first + lessons + memory for memory in grown], lessons + line)

    def check(self) -> None:
        """Find a wrong key, model or address with one small request, before anything is trained."""
        self._model.check()

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Hand out what is left of the last round, else ask for a new one; where that is too short, comes the next."""
        if not self._queue:
            self._queue = self._ask_round(min(count, self._per_answer))
        taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    def update(self, trials: Sequence[Trial]) -> None:
        """Note the results in the transcript; the next prompt reads them from the memory."""
        for trial in trials:
            score = trial.metrics.get(self.search.objective.metric)
            self._model.note(
                "ended",
                {
                    "architecture": trial.architecture,
                    "status": trial.status,
                    "score": score,
                    "reason": one_line(trial.reason, 200),
                },
            )

    def summary(self) -> str:
        """What the model did and cost, for the end of the search."""
        mine = [trial for trial in self.search.trials if trial.experiment == self._about.experiment]
        kinds = {kind: sum(trial.origin.kind == kind for trial in mine) for kind in ("proposal", "mutation")}
        return (
            f"{self._model.name}: {kinds['proposal']} trials proposed by the model, {kinds['mutation']} by mutation; "
            f"{self._model.ledger.describe()}"
        )

    @property
    def language_model(self) -> LanguageModel:
        """The model that is asked, with its ledger."""
        return self._model

    def state(self) -> dict[str, Any]:
        """Return lessons, rejections, what is queued, and the ledger where no memory keeps it."""
        return {
            "round": self._round,
            "lessons": list(self.lessons),
            "rejections": [rejection.to_json() for rejection in self._rejections],
            "queue": [[s.architecture, s.kind, s.parent] for s in self._queue],
            "ledger": [] if self._about.memory is not None else [row.to_json() for row in self._model.ledger.rows],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; where there is a memory, `setup` has taken the ledger from its journal."""
        self._round = max(int(state["round"]), self._model.last_round)
        self.lessons = tuple(state["lessons"])
        self._rejections = [Rejection(**body) for body in state["rejections"]]
        self._queue = [Suggestion(dict(a), kind, parent) for a, kind, parent in state["queue"]]
        if self._about.memory is None:
            self._model.ledger.restore(state["ledger"])

    # A round ---------------------------------------------------------------------------------------------------------

    def _ask_round(self, wanted: int) -> list[Suggestion]:
        if len({self.search.space.key_of(t.architecture) for t in self.search.trials}) >= self.search.space.size:
            return []
        self._round += 1
        recorded = self._model.recorded(self._round)
        if recorded is not None:
            wanted = recorded.wanted
        self._model.note("asked", {"round": self._round, "wanted": wanted})
        accepted, why = self._converse(wanted)
        suggestions = [Suggestion(architecture, "proposal") for architecture in accepted]
        fallback = Fallback(self.search, self.remembered(), self.refusal)
        for slot in range(len(accepted), wanted):
            fill = recorded.fills.get(slot) if recorded is not None else None
            taken = [suggestion.architecture for suggestion in suggestions]
            filled = fallback.find(taken) if fill is None else fallback.repeat(fill)
            if filled is None:
                break
            suggestions.append(filled)
            parent = next((t.architecture for t in self.search.trials if t.id == filled.parent), None)
            body = {"round": self._round, "slot": slot, "architecture": filled.architecture, "parent": parent}
            self._model.note("filled", body)
            self._log("fallback", {**body, "why": why})
        return suggestions

    def _converse(self, wanted: int) -> tuple[list[Architecture], str]:
        """Ask for proposals and repairs; return what can be trained, and why it is fewer than wanted."""
        messages = [Message("system", SYSTEM), Message("user", self.prompt(wanted))]
        accepted: list[Architecture] = []
        why = "no repair was left"
        for step in range(self.repairs + 1):
            answer = self._model.ask(Question(self._round, step, tuple(messages), self._schema))
            if answer.fault:
                return accepted, answer.fault
            said = read_answer(answer.text, self.search.space)
            self._learn(said.lessons)
            rejections = []
            for written in said.proposals:
                if len(accepted) == wanted:
                    break
                architecture, rejection = self._judge(written, accepted)
                if architecture is not None:
                    self._model.note(
                        "accepted", {"round": self._round, "slot": len(accepted), "architecture": architecture}
                    )
                    accepted.append(architecture)
                if rejection is not None:
                    rejections.append(rejection)
            if not said.proposals:
                rejections.append(Rejection(one_line(answer.text, 100), "no proposal could be read in this answer"))
            self._refuse(step, rejections)
            if len(accepted) == wanted:
                return accepted, ""
            missing = wanted - len(accepted)
            alternatives = max(missing, min(self._per_answer, missing * 2 ** (step + 1)))
            repair = render_repair(rejections, len(accepted), missing, alternatives)
            messages += [Message("assistant", answer.text[:8000]), Message("user", repair)]
        return accepted, why

    def _judge(
        self, written: Mapping[str, Any], accepted: Sequence[Architecture]
    ) -> tuple[Architecture | None, Rejection | None]:
        architecture, complaints = read_proposal(self.search.space, written)
        shown = one_line(write_architecture(architecture), 600)
        if complaints:
            return None, Rejection(shown, "; ".join(complaints))
        if architecture in accepted:
            return None, Rejection(shown, "the same as another of these proposals")
        why = self.refusal(architecture)
        return (None, Rejection(shown, why)) if why else (architecture, None)

    def refusal(self, architecture: Architecture) -> str:
        """Say why an architecture may not be trained: as `rejection`, about to be, or trained before in this memory."""
        why = self.search.refusal(architecture)
        if any(architecture == coming.architecture for coming in self._queue):
            why = why or "about to be trained"
        if not why and self._about.memory is not None:
            before = self._about.memory.find(
                self.search.space.key, self.search.space.key_of(architecture), self._about.protocol
            )
            why = "already trained or pending in an earlier search of this memory" if before else ""
        return why

    def _refuse(self, step: int, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            body = {"round": self._round, "step": step, **rejection.to_json()}
            self._model.note("rejected", body)
            self._log("proposal rejected", body)
        self._rejections = [*self._rejections, *rejections][-_KEPT_REJECTIONS:]

    def _learn(self, lessons: tuple[str, ...]) -> None:
        if lessons and lessons != self.lessons:
            self.lessons = lessons
            self._log("lessons", {"round": self._round, "lessons": list(lessons), "space": self.search.space.key})

    def prompt(self, wanted: int) -> str:
        """The prompt that would be sent now, for `wanted` proposals."""
        memory = render_memory(
            self.search.space, self.search.objective, self.remembered(), self._rejections, self.memory_tokens
        )
        parts = {**self._parts, "lessons": render_lessons(self.lessons), "memory": memory, "count": str(wanted)}
        return fill_template(self._template, parts)

    def remembered(self) -> list[Trial]:
        """Trials of this space under this protocol: those of the shared memory, then those of this search."""
        known = {trial.id: trial for trial in self.search.trials}
        earlier: list[Trial] = []
        if self._about.memory is not None:
            others = self._about.memory.trials(space_key=self.search.space.key, protocol=self._about.protocol)
            earlier = [trial for trial in others if trial.id not in known]
        same = [
            t if t.protocol == self._about.protocol or not t.metrics else replace(t, metrics={}) for t in known.values()
        ]
        return [*earlier, *same]

    # Records ---------------------------------------------------------------------------------------------------------

    def _enter(self, row: LedgerRow) -> None:
        self._log("ledger", row.to_json())

    def _log(self, kind: str, body: Mapping[str, Any]) -> None:
        if self._about.memory is not None:
            self._about.memory.log(kind, self._about.experiment, body)

    @staticmethod
    def _fixed_rng() -> Any:
        import numpy as np

        return np.random.default_rng(0)
