"""What earlier searches on other data sets give to the first trials on a new one."""

import numpy as np
import pytest

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.features import Features
from nni_diffnas.strategies.guided.transfer import Experience, TaskPredictor

SPACE = Space(dict.fromkeys("abcd", (0, 1, 2)))
RNG = np.random.default_rng(0)


def elements(wanted: float):
    """Of a data set on which small (-1) or large (1) values are good."""
    return np.random.default_rng(int(10 * wanted) + 50).normal(size=(12, 3)) * 0.2 + [wanted, 0.0, 1.0]


def score(architecture, wanted: float) -> float:
    return wanted * sum(int(value) for value in architecture.values())


def experiences() -> list[Experience]:
    found = []
    for wanted in (-1.0, -0.8, -0.6, 0.6, 0.8, 1.0):
        drawn = [SPACE.sample(RNG) for _ in range(15)]
        trials = [
            Trial(f"t{i}", "e", a, Origin("RandomSearch", "random"), "succeeded", {"fid": -score(a, wanted)})
            for i, a in enumerate(drawn)
        ]
        failed = Trial("f", "e", drawn[0], Origin("RandomSearch", "random"), "failed")
        found.append(Experience.of(elements(wanted), [*trials, failed], Objective("fid", "minimize")))
    return found


EXPERIENCES = experiences()


def test_failed_trials_teach_nothing() -> None:
    assert [len(each.scores) for each in EXPERIENCES] == [15] * 6


def test_order_on_a_new_data_set_is_right_only_when_it_is_looked_at() -> None:
    encoding = Encoding(SPACE)
    drawn = encoding.sample(60, np.random.default_rng(3))
    correlations = {}
    for aware in (True, False):
        predictor = TaskPredictor(Features(encoding), EXPERIENCES, aware=aware, steps=200)
        for wanted in (-0.7, 0.7):
            truth = [score(a, wanted) for a in encoding.architectures(drawn)]
            guess = predictor.predict(predictor.encode(elements(wanted)), encoding.one_hot(drawn)).numpy()
            correlations[aware, wanted] = float(np.corrcoef(truth, guess)[0, 1])
    assert min(correlations[True, -0.7], correlations[True, 0.7]) > 0.8
    assert min(correlations[False, -0.7], correlations[False, 0.7]) < 0.3


@pytest.mark.parametrize(("wanted", "best"), [(-0.7, 0), (0.7, 8)])
def test_the_first_suggestion_on_a_new_data_set_follows_the_others(wanted, best) -> None:
    strategy = DiffusionGuided(
        objective=Objective("score", "maximize"), experience=EXPERIENCES, dataset=elements(wanted),
        training_steps=10, candidates=16, sampler_steps=5, cache=lambda name, make: make(),
    )  # fmt: skip
    search = Search(strategy, SPACE)
    (first,) = search.ask(1)
    assert first.origin.kind == "transferred"
    assert abs(sum(int(value) for value in first.architecture.values()) - best) <= 1
    for _ in range(5):
        search.tell(first.id, {"score": score(first.architecture, wanted)})
        (first,) = search.ask(1)
    assert first.origin.kind == "guided"


def test_what_cannot_teach_is_refused() -> None:
    with pytest.raises(StrategyError, match="go together"):
        DiffusionGuided(experience=EXPERIENCES)
    with pytest.raises(StrategyError, match="one row an image"):
        Experience(np.zeros(3), [], [])
    with pytest.raises(StrategyError, match="a finite one"):
        Experience(np.zeros((1, 3)), [{"a": 0, "b": 0, "c": 0, "d": 0}], [float("nan")])
    features = Features(Encoding(SPACE))
    with pytest.raises(StrategyError, match="1 data sets"):
        TaskPredictor(features, EXPERIENCES[:1])
    with pytest.raises(StrategyError, match="one width"):
        TaskPredictor(features, [EXPERIENCES[0], Experience(np.zeros((2, 5)), [], [])])
