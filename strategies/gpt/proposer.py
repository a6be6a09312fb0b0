"""`GPTProposer`: a language model proposes architectures (after DiffNAS, arXiv 2310.04750)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nni_diffnas.api.errors import BudgetError, StrategyError
from nni_diffnas.api.family import sample_within
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import About
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.language_model.exchange import Answer, LanguageModel, Message
from nni_diffnas.language_model.ledger import LedgerRow
from nni_diffnas.language_model.options import FilePath, LanguageModelOptions, open_language_model, read_template

from .fallback import Fallback
from .lessons import MAX_CHARACTERS, MAX_LESSONS, one_line, render_lessons
from .memory_section import render_memory
from .parsing import read_answer, read_proposal
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
    write_architecture,
)
from .repair import Rejection
from .rounds import Asked, Judged, Ready, Rounds
from .schema import REASON, REASON_CHARACTERS, answer_schemas
from .template import DEFAULT_TEMPLATE, SYSTEM, check_template, fill_template

__all__ = ["GPTProposer"]

MAX_WANTED = 16
"""Proposals of one question, fewer where the answer's tokens hold fewer. More free workers get another round."""

_KEPT_REJECTIONS = 12
_REFLECTS = 4
"""Results after which lessons are asked for again."""

_LINE = 30
"""Tokens of the rank, score and cost that the memory puts before an architecture."""


class GPTProposer(AskTellStrategy):
    """Ask a language model for the next architectures; show it costs, budget, lessons and the search memory.

    A round asks for as many different proposals as workers are free. What cannot be trained is sent back with the
    reason, at most ``repairs`` times, each time asking for twice as many alternatives, since a model does not see all
    that has been tried. Slots that stay open, and all slots while the model cannot be asked, are filled by mutations of
    good architectures (origin kind ``mutation`` instead of ``proposal``). The model is asked in the background; no free
    worker waits for it longer than ``patience_s``, see `Rounds`.

    The key is read from the environment variable ``OPENAI_API_KEY`` and from nowhere else.

    Args:
        model: name of the model at the server.
        base_url: of an OpenAI-compatible server; ``None`` means OpenAI.
        replay: transcript whose answers are used instead of a model's.
        template: file of a prompt template, see `template`; ``None`` means the built-in one.
        memory_tokens: length of the prompt's memory, at least 50.
        repairs: repair messages per round.
        patience_s: seconds that a free worker waits for the model before a mutation takes the slot.
        questions: asked at once where several workers are free; more than one helps where the server answers them side
            by side.
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
        patience_s: float = 30.0,
        questions: int = 1,
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
        if not 0 <= patience_s < 1e6 or not 1 <= questions <= MAX_WANTED:
            raise StrategyError(
                f"patience_s is {patience_s} and questions {questions}: take at least 0 seconds and 1 to {MAX_WANTED} "
                f"questions."
            )
        self.memory_tokens = memory_tokens
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
        self._rounds = Rounds(self, self._model, repairs, patience_s, questions)
        self._rejections: list[Rejection] = []
        self._replayed = 0
        self._read = 0
        self._results = 0
        self._reflected = (0, 0)
        self._parts: dict[str, str] = {}

    @property
    def _about(self) -> About:
        return self.search.about

    # The hooks -------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Render what stays the same in every prompt, open the transcript, take over lessons of a shared memory."""
        self._parts = {
            "task": render_task(self._about.task or self._about.protocol, self.search.objective),
            "choices": render_choices(self.search.space, self.search.family),
            "flow": render_flow(self.search.space),
            "costs": render_costs(self.search.family, self.search.budget),
            "window": render_window(self.search.budget),
            "answer_format": render_answer_format(self.search.space),
        }
        self._rounds.per_answer = min(MAX_WANTED, max(1, self._model.answer_tokens // self._proposal_tokens))
        about = {
            "space": self.search.space.key,
            "task": self._about.task,
            "strategy": type(self).__name__,
            "seed": self.options.seed,
        }
        self._model.open(self._about.folder, about, self._enter)
        self._rounds.number = self._model.last_round
        if self._about.memory is not None:
            # What was spent before a resume; the journal knows it even where a kill lost the last snapshot.
            self._model.ledger.restore(
                event.body for event in self._about.memory.events("ledger", self._about.experiment)
            )
            for event in self._about.memory.events("lessons"):
                if event.body.get("space") == self.search.space.key:
                    self.lessons = tuple(event.body["lessons"])

    @property
    def _proposal_tokens(self) -> int:
        """The most that one proposal takes of an answer, as far as is known."""
        longest = {
            label: max(values, key=lambda value: len(str(value))) for label, values in self.search.space.choices.items()
        }
        return self._model.tokens.text(write_architecture({**longest, REASON: "x" * REASON_CHARACTERS}))

    def forecast(self, suggestions: int) -> str:
        """What a question for each suggestion costs, the memory growing with them."""
        tokens = self._model.tokens
        line = (
            tokens.text(write_architecture(self.search.space.complete(self.search.space.sample(self._fixed_rng(0)))))
            + _LINE
        )
        first = tokens.text(SYSTEM + self.prompt(1))
        lessons = tokens.text("x" * MAX_LESSONS * MAX_CHARACTERS) // 2
        grown = [min(self.memory_tokens, line * number) for number in range(suggestions)]
        answer = self._proposal_tokens + lessons // _REFLECTS
        told = self._model.forecast([first + lessons + memory for memory in grown], answer)
        if self._rounds.per_answer == 1 and self._model.order is None:
            told += (
                f"; answer_tokens of {self._model.answer_tokens} hold one proposal of about {self._proposal_tokens} "
                f"tokens, so that several free workers take several questions"
            )
        return told

    def check(self) -> None:
        """Find a wrong key, model or address with one small request, before anything is trained."""
        self._model.check()

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Hand out what is ready, or what fills its place; see `Rounds`. A transcript is replayed in its order."""
        if len({self.search.space.key_of(t.architecture) for t in self.search.trials}) >= self.search.space.size:
            return []
        if self._model.order is not None:
            return self._replay(self._model.order)
        return self._rounds.next(count)

    def update(self, trials: Sequence[Trial]) -> None:
        """Note the results in the transcript, and take in what has been answered; the next prompt reads the memory."""
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
        self._results += len(trials)
        self._rounds.attend()

    def summary(self) -> str:
        """What the model did and cost, for the end of the search."""
        self._model.abandon()
        mine = [trial for trial in self.search.trials if trial.experiment == self._about.experiment]
        kinds = {kind: sum(t.origin.kind == kind for t in mine) for kind in ("proposal", "mutation", "random")}
        return (
            f"{self._model.name}: {kinds['proposal']} trials proposed by the model, {kinds['mutation']} by mutation, "
            f"{kinds['random']} at random; {self._model.ledger.describe()}"
        )

    @property
    def language_model(self) -> LanguageModel:
        """The model that is asked, with its ledger."""
        return self._model

    def state(self) -> dict[str, Any]:
        """Return lessons, rejections, what is ready, and the ledger where no memory keeps it."""
        return {
            "round": self._rounds.number,
            "lessons": list(self.lessons),
            "rejections": [rejection.to_json() for rejection in self._rejections],
            "queue": [
                [r.suggestion.architecture, r.suggestion.kind, r.suggestion.parent, r.round, r.slot]
                for r in self._rounds.ready
            ],
            "replayed": self._replayed,
            "results": [self._results, *self._reflected],
            "ledger": [] if self._about.memory is not None else [row.to_json() for row in self._model.ledger.rows],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; where there is a memory, `setup` has taken the ledger from its journal."""
        self._rounds.number = max(int(state["round"]), self._model.last_round)
        self.lessons = tuple(state["lessons"])
        self._rejections = [Rejection(**body) for body in state["rejections"]]
        queue = [(a, kind, parent, *(place or (int(state["round"]), -1))) for a, kind, parent, *place in state["queue"]]
        order = self._model.order
        if order is None:
            self._rounds.ready = [Ready(r, slot, Suggestion(dict(a), kind, p)) for a, kind, p, r, slot in queue]
        # Version 0.1 handed out whole rounds, and counted these.
        begun = sum(round <= int(state["round"]) for round, _ in order or ()) - len(queue)
        self._replayed = int(state.get("replayed", begun))
        self._results, *reflected = state.get("results", (0, 0, 0))
        self._reflected = reflected[0], reflected[1]
        if self._about.memory is None:
            self._model.ledger.restore(state["ledger"])

    # What rounds need ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether anything is in training."""
        return bool(self.search.pending)

    def compose(self, wanted: int, coming: Sequence[Architecture], memory_tokens: int | None) -> Asked:
        """Word a question: see `Rounds`."""
        reflect = self._reflects()
        example = self._example(coming)
        text = self.prompt(wanted, coming, memory_tokens, example, reflect=reflect)
        schemas = answer_schemas(self.search.space, wanted, reflect=reflect)
        return Asked((Message("system", SYSTEM), Message("user", text)), schemas, example)

    def _reflects(self) -> bool:
        """Whether the round that is being asked asks for lessons; it may be worded more than once."""
        at, round = self._reflected
        if self._results - at >= _REFLECTS and round != self._rounds.number:
            self._reflected = self._results, self._rounds.number
        return self._reflected[1] == self._rounds.number > 0

    def schemas(self, wanted: int) -> tuple[Mapping[str, Any], ...]:
        """Of the answer to a repair message."""
        return answer_schemas(self.search.space, wanted, reflect=False)

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
        limit = self.memory_tokens if memory_tokens is None else min(memory_tokens, self.memory_tokens)
        trials, rejections = self.remembered(), self._rejections
        memory = render_memory(
            self.search.space, self.search.objective, trials, rejections, limit, coming, self._model.tokens.text
        )
        parts = {
            **self._parts,
            "lessons": render_lessons(self.lessons),
            "memory": memory,
            "count": str(wanted),
            "wanted": render_wanted(wanted),
            "example": render_example(example),
            "reflection": render_reflection() if reflect else "",
        }
        return fill_template(self._template, parts).rstrip() + "\n"

    def _example(self, coming: Sequence[Architecture]) -> Architecture | None:
        """An architecture that may be trained and that nothing speaks for; ``None`` where none is found."""
        rng = self._fixed_rng(self._rounds.number)

        def fresh(drawn: Architecture) -> bool:
            return drawn not in coming and not self.refusal(drawn)

        if self.search.family is None:
            return next(filter(fresh, (self.search.space.sample(rng) for _ in range(100))), None)
        try:
            return sample_within(self.search.family, self.search.budget, rng, 200, fresh)
        except BudgetError:
            return None

    def judge(self, answer: Answer, round: int, step: int, example: Architecture | None, most: int) -> Judged:
        """Read an answer: see `Rounds`."""
        said = read_answer(answer.text, self.search.space, cut_off=answer.cut_off)
        if said.lessons and said.lessons != self.lessons:
            self.lessons = said.lessons
            self._log("lessons", {"round": round, "lessons": list(said.lessons), "space": self.search.space.key})
        accepted: list[tuple[Architecture, str]] = []
        rejected: list[Rejection] = []
        for written in said.proposals:
            if len(accepted) == most:
                break
            architecture, rejection = self._verdict(written, [known for known, _ in accepted], example)
            if rejection is None:
                reason = written.get(REASON, "") if REASON not in self.search.space.choices else ""
                accepted.append((architecture, one_line(reason, REASON_CHARACTERS) if isinstance(reason, str) else ""))
            else:
                rejected.append(rejection)
        if rejected:
            self._refuse(round, step, rejected)
        elif not said.proposals:
            rejected = [Rejection(one_line(answer.text, 100), "no proposal could be read in this answer")]
            self._refuse(round, step, rejected, show=False)
        return Judged(tuple(accepted), tuple(rejected))

    def _verdict(
        self, written: Mapping[str, Any], accepted: Sequence[Architecture], example: Architecture | None
    ) -> tuple[Architecture, Rejection | None]:
        architecture, complaints = read_proposal(self.search.space, written)
        if complaints:
            why = "; ".join(complaints)
        elif architecture in accepted:
            why = "the same as another of these proposals"
        elif architecture == example:
            why = "this is the network that was drawn to show the form; propose one of your own"
        else:
            why = self.refusal(architecture)
        return architecture, Rejection(one_line(write_architecture(architecture), 600), why) if why else None

    def refusal(self, architecture: Architecture) -> str:
        """Say why an architecture may not be trained: as `rejection`, about to be, or trained before in this memory."""
        why = self.search.refusal(architecture)
        if architecture in self._rounds.coming:
            why = why or "about to be trained"
        if not why and self._about.memory is not None:
            before = self._about.memory.find(
                self.search.space.key, self.search.space.key_of(architecture), self._about.protocol
            )
            why = "already trained or pending in an earlier search of this memory" if before else ""
        return why

    def _refuse(self, round: int, step: int, rejections: Sequence[Rejection], *, show: bool = True) -> None:
        """Keep what was rejected on record; the next prompts show each once."""
        for rejection in rejections:
            body = {"round": round, "step": step, **rejection.to_json()}
            self._model.note("rejected", body)
            self._log("proposal rejected", body)
        if show:
            latest = {rejection.proposal: rejection for rejection in rejections}
            earlier = [rejection for rejection in self._rejections if rejection.proposal not in latest]
            self._rejections = [*earlier, *latest.values()][-_KEPT_REJECTIONS:]

    def fallback(self) -> Fallback:
        """What fills slots now."""
        return Fallback(self.search, self.remembered(), self.refusal)

    def log(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write into the journal."""
        self._log(kind, body)

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

    # A replay --------------------------------------------------------------------------------------------------------

    def _replay(self, order: Sequence[tuple[int, int]]) -> list[Suggestion]:
        """What the transcript had trained next; beyond its end, and where that may not be trained here, a mutation.

        One at a time: its parent may be the one before.
        """
        fallback = self.fallback()
        suggested: Suggestion | None = None
        if self._replayed < len(order):
            suggested = self._recorded(*order[self._replayed], fallback)
            self._replayed += 1
        if suggested is None or self.refusal(suggested.architecture):
            suggested = fallback.find([])
        return [] if suggested is None else [suggested]

    def _recorded(self, round: int, slot: int, fallback: Fallback) -> Suggestion | None:
        recorded = self._model.recorded(round)
        if recorded is None:
            return None
        if round > self._read:
            self._read = round
            for text in recorded.answers.values():
                self.lessons = read_answer(text, self.search.space).lessons or self.lessons
        if slot in recorded.fills:
            return fallback.repeat(recorded.fills[slot])
        return Suggestion(recorded.accepted[slot], "proposal") if slot in recorded.accepted else None

    # Records ---------------------------------------------------------------------------------------------------------

    def _enter(self, row: LedgerRow) -> None:
        self._log("ledger", row.to_json())

    def _log(self, kind: str, body: Mapping[str, Any]) -> None:
        if self._about.memory is not None:
            self._about.memory.log(kind, self._about.experiment, body)

    def _fixed_rng(self, number: int) -> np.random.Generator:
        """Random numbers that cost the search none of its own."""
        return np.random.default_rng([self.options.seed, number])
