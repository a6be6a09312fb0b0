"""What fills the last slots of a space finds the last architectures, whatever the same batch has taken."""

from __future__ import annotations

import torch

from nni_diffnas.api.space import Architecture, Space
from nni_diffnas.api.strategy import SearchView
from nni_diffnas.api.trial import Suggestion
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided, RandomSearch
from nni_diffnas.strategies.gpt.fallback import Fallback

SPACE = Space({"a": tuple(range(30))})
TAKEN: list[Architecture] = [{"a": value} for value in range(29)]


def test_the_fall_back_of_the_language_model_finds_the_last_one() -> None:
    for seed in range(20):
        view = Search(RandomSearch(seed=seed), SPACE).view

        def refusal(architecture: Architecture, view: SearchView = view) -> str:
            return "trained before, by another search" if architecture == {"a": 3} else view.refusal(architecture)

        fallback = Fallback(view, [], refusal)
        assert fallback.find(TAKEN) == Suggestion({"a": 29}, "random")
        assert fallback.find([*TAKEN[:3], *TAKEN[4:]]) == Suggestion({"a": 29}, "random")
        assert fallback.find([*TAKEN[:3], *TAKEN[4:], {"a": 29}]) is None


def test_the_fall_back_of_the_generator_finds_the_last_one() -> None:
    for seed in range(20):
        strategy = DiffusionGuided(seed=seed)
        strategy.begin(Search(RandomSearch(seed=seed), SPACE).view)  # no generator has to be trained for it
        assert strategy._fallback(torch.Generator(), TAKEN) == Suggestion({"a": 29}, "random")
