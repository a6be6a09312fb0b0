"""`GPTProposer`: a language model proposes architectures (after DiffNAS, arXiv 2310.04750)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import About
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.language_model.exchange import Answer, LanguageModel
from nni_diffnas.language_model.ledger import LedgerRow
from nni_diffnas.language_model.options import FilePath, LanguageModelOptions, open_language_model, read_template

from .fallback import Fallback
from .judging import Judge
from .known import KnownTrials
from .lessons import MAX_CHARACTERS, MAX_LESSONS, one_line
from .notes import Notes
from .offers import Offer, find_offers
from .prompt import write_architecture
from .questions import REFLECTS, Questions, fixed_rng
from .repair import Rejection
from .replaying import Replaying
from .rounds import Asked, JudgedAnswer, Ready, Rounds
from .schema import REASON, REASON_CHARACTERS, answer_schemas
from .template import DEFAULT_TEMPLATE, SYSTEM, check_template

__all__ = ["GPTProposer"]

MAX_WANTED = 16
"""Proposals of one question, fewer where the answer's tokens hold fewer. More free workers get another round."""

_LINE = 30
"""Tokens of the rank, score and cost that the memory puts before an architecture."""


class GPTProposer(AskTellStrategy):
    """Ask a language model for the next architectures; show it costs, budget, lessons and the search memory.

    A round asks for as many different proposals as workers are free. What cannot be trained is sent back with the
    reason, at most ``repairs`` times, each time asking for twice as many alternatives, since a model does not see all
    that has been tried; the last time it chooses among changes of its proposals that can be trained. Slots that stay
    open, and all slots while the model cannot be asked, are filled by mutations of good architectures (origin kind
    ``mutation`` instead of ``proposal``). The model is asked in the background; no free worker waits for it longer than
    ``patience_s``, see `Rounds`.

    The key is read from the environment variable ``OPENAI_API_KEY`` and from nowhere else.

    Args:
        template: file of a prompt template, see `template`; ``None`` means the built-in one.
        memory_tokens: length of the prompt's memory, at least 50.
        repairs: repair messages per round.
        patience_s: seconds that a free worker waits for the model before a mutation takes the slot.
        questions: asked at once where several workers are free; more than one helps where the server answers them side
            by side.
        language_model: a model made by the caller; then the options of how to reach one do not count.
        **options: those of `LanguageModelOptions` (``model``, ``base_url``, ``replay``, ``prices``, ...), and those of
            `AskTellStrategy`.

    Raises:
        JobError: no key and no ``base_url``, or an option that cannot be used.
        StrategyError: an option out of range, or a template that cannot be filled.
    """

    def __init__(
        self,
        *,
        template: FilePath | None = None,
        memory_tokens: int = 2000,
        repairs: int = 3,
        patience_s: float = 30.0,
        questions: int = 1,
        language_model: LanguageModel | None = None,
        **options: Annotated[Any, LanguageModelOptions],
    ) -> None:
        reached = {name: options.pop(name) for name in LanguageModelOptions.names() if name in options}
        super().__init__(**options)
        if isinstance(language_model, str):
            raise StrategyError(
                f"language_model is {language_model!r}: name a model by 'model'; this takes one that a script has made."
            )
        if not memory_tokens >= 50 or not 0 <= repairs <= 20:
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
        self._model = language_model or open_language_model(LanguageModelOptions(**reached, seed=self.options.seed))
        self._notes = Notes(self._model, self.log)
        self._rounds = Rounds(self, self._model, repairs, patience_s, questions)
        self._known: KnownTrials
        self._questions: Questions
        self._judge: Judge
        self._replaying: Replaying

    @property
    def _about(self) -> About:
        return self.search.about

    @property
    def lessons(self) -> tuple[str, ...]:
        """What the model has learned, in its own words."""
        return self._notes.lessons

    # The hooks -------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Render what stays the same in every prompt, open the transcript, take over lessons of a shared memory."""
        search, notes = self.search, self._notes
        notes.space = search.space.key
        self._known = known = KnownTrials(self, lambda: self._rounds.coming)
        count, seed = self._model.tokens.text, self.options.seed
        self._questions = Questions(known, notes, self._template, self.memory_tokens, count, seed)
        self._judge = Judge(search.space, known, notes)
        self._replaying = Replaying(self._model, search.space, known, notes, self.fallback)
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
                    notes.lessons = tuple(event.body["lessons"])

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
        drawn = self.search.space.sample(fixed_rng(self.options.seed, 0))
        line = tokens.text(write_architecture(self.search.space.complete(drawn))) + _LINE
        first = tokens.text(SYSTEM + self.prompt(1))
        lessons = tokens.text("x" * MAX_LESSONS * MAX_CHARACTERS) // 2
        grown = [min(self.memory_tokens, line * number) for number in range(suggestions)]
        answer = self._proposal_tokens + lessons // REFLECTS
        told = self._model.forecast([first + lessons + memory for memory in grown], answer)
        if self._rounds.per_answer == 1 and self._model.order is None:
            told += (
                f"; answer_tokens of {self._model.answer_tokens} hold one proposal of about {self._proposal_tokens} "
                f"tokens, so that several free workers take several questions"
            )
        return told

    def check(self) -> None:
        """Find a wrong key, model or address with one small request, before anything is trained.

        A model that proves slow is asked while the first networks train, before anything is known of them.
        """
        self._model.check()
        first = self._model.tokens.text(SYSTEM + self.prompt(1))
        self._rounds.expect(self._model.expected_seconds(first, self._proposal_tokens) or 0.0)

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Hand out what is ready, or what fills its place; see `Rounds`. A transcript is replayed in its order."""
        if len({self.search.space.key_of(t.architecture) for t in self.search.trials}) >= self.search.space.size:
            return []
        if self._model.order is not None:
            return self._replaying.next(self._model.order)
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
        self._questions.results += len(trials)
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
            "rejections": [rejection.to_json() for rejection in self._notes.rejections],
            "queue": [
                [r.suggestion.architecture, r.suggestion.kind, r.suggestion.parent, r.round, r.slot]
                for r in self._rounds.ready
            ],
            "replayed": self._replaying.done,
            "results": [self._questions.results, *self._questions.reflected],
            "ledger": [] if self._about.memory is not None else [row.to_json() for row in self._model.ledger.rows],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; where there is a memory, `setup` has taken the ledger from its journal."""
        self._rounds.number = max(int(state["round"]), self._model.last_round)
        self._notes.lessons = tuple(state["lessons"])
        self._notes.rejections = [Rejection(**body) for body in state["rejections"]]
        queue = [(a, kind, parent, *(place or (int(state["round"]), -1))) for a, kind, parent, *place in state["queue"]]
        order = self._model.order
        if order is None:
            self._rounds.ready = [Ready(r, slot, Suggestion(dict(a), kind, p)) for a, kind, p, r, slot in queue]
        # Version 0.1 handed out whole rounds, and counted these.
        begun = sum(round <= int(state["round"]) for round, _ in order or ()) - len(queue)
        self._replaying.done = int(state.get("replayed", begun))
        self._questions.results, *reflected = state.get("results", (0, 0, 0))
        self._questions.reflected = reflected[0], reflected[1]
        if self._about.memory is None:
            self._model.ledger.restore(state["ledger"])

    # What rounds need ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many are in training."""
        return len(self.search.pending)

    def compose(self, wanted: int, coming: Sequence[Architecture], memory_tokens: int | None) -> Asked:
        """Word a question: see `Rounds`."""
        return self._questions.compose(self._rounds.number, wanted, coming, memory_tokens)

    def offers(self, refused: Sequence[Architecture]) -> tuple[Offer, ...]:
        """What can be trained near these proposals."""
        return find_offers(self.search.space, refused, self._known.refusal, self.search.rng)

    def schemas(self, wanted: int, offers: Sequence[Offer]) -> tuple[Mapping[str, Any], ...]:
        """Of the answer to a repair message."""
        among = [offer.architecture for offer in offers]
        return answer_schemas(self.search.space, wanted, reflect=False, among=among)

    def prompt(self, wanted: int) -> str:
        """The prompt that would be sent now.

        Args:
            wanted: proposals.
        """
        return self._questions.prompt(wanted)

    def judge(self, answer: Answer, round: int, step: int, example: Architecture | None, most: int) -> JudgedAnswer:
        """Read an answer: see `Rounds`."""
        return self._judge.judge(answer, round, step, example, most)

    def fallback(self) -> Fallback:
        """What fills slots now."""
        return Fallback(self.search, self._known.trials(), self._known.refusal)

    def log(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write into the memory's journal, where there is one."""
        if self._about.memory is not None:
            self._about.memory.log(kind, self._about.experiment, body)

    def _enter(self, row: LedgerRow) -> None:
        self.log("ledger", row.to_json())
