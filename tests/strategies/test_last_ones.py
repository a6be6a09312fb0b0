"""What fills the last slots of a space finds the last architectures, whatever the same batch has taken."""

from __future__ import annotations

from collections.abc import Sequence

from nni_diffnas.api.space import Architecture, Space
from nni_diffnas.api.strategy import AskTellStrategy
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.gpt.fallback import Fallback

SPACE = Space({"a": tuple(range(30))})
TAKEN: list[Architecture] = [{"a": value} for value in range(29)]


class Remembers(AskTellStrategy):
    """Refuses one architecture that another search has trained."""

    def suggest(self, count: int) -> Sequence[Suggestion]:
        return []

    def update(self, trials: Sequence[Trial]) -> None:
        """Nothing to learn."""

    def remembered(self) -> list[Trial]:
        return []

    def refusal(self, architecture: Architecture) -> str:
        return "trained before" if architecture == {"a": 3} else self.rejection(architecture)


def test_the_fall_back_of_the_language_model_finds_the_last_one() -> None:
    for seed in range(20):
        search = Remembers(seed=seed)
        search.bind(SPACE)
        assert Fallback(search).find(TAKEN) == Suggestion({"a": 29}, "random")
        assert Fallback(search).find([*TAKEN[:3], *TAKEN[4:]]) == Suggestion({"a": 29}, "random")
        assert Fallback(search).find([*TAKEN[:3], *TAKEN[4:], {"a": 29}]) is None


def test_the_fall_back_of_the_generator_finds_the_last_one() -> None:
    for seed in range(20):
        search = DiffusionGuided(seed=seed)
        search._space = SPACE  # no generator has to be trained for it
        assert search._fallback(TAKEN) == Suggestion({"a": 29}, "random")
        assert search._fallback([*TAKEN, {"a": 29}]) is None
