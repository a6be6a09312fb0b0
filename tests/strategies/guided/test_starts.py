"""Where a guided search starts: what the prior likes, spread out, and other networks for other seeds."""

import math

import numpy as np
import pytest

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.family import sample_within
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import BY_HAND, RECOMMENDED
from nni_diffnas.search_spaces import NASBench201Family, UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.features import Features
from nni_diffnas.strategies.guided.prior import AnalyticFlow, Prior

CELLS = NASBench201Family()


def guided(**options) -> DiffusionGuided:
    plain = {"training_steps": 5, "candidates": 16, "sampler_steps": 4, "cache": lambda name, make: make()}
    return DiffusionGuided(**{"objective": "score", "direction": "maximize", **plain, **options})


def started(family, count: int = 4, **options) -> list[dict]:
    search = Search(guided(unguided=count, train_first="none", **options), family.space, family)
    trials = search.ask(count)
    assert {trial.origin.kind for trial in trials} == {"random" if options.get("starts") == "random" else "start"}
    return [trial.architecture for trial in trials]


def test_the_flow_is_the_sum_over_paths_of_the_products_of_gains() -> None:
    encoding = Encoding(CELLS.space)
    flow = AnalyticFlow(Features(encoding, CELLS.cuts), CELLS)

    def cell(**operations: str) -> float:
        chosen = {label: operations.get(label.replace("cell/", "e"), "none") for label in CELLS.space.labels}
        scaled = float(flow(encoding.one_hot(encoding.indices([chosen]))))
        return scaled * flow._deviation + flow._mean

    def expected(*paths: list[float]) -> float:
        """Each path as its kernels; 0 stands for an operation without weights."""
        total = [
            sum(math.prod(0.5 * k * math.sqrt(width) if k else 1.0 for k in path) for path in paths)
            for width in (16, 32, 64)
        ]
        return float(np.mean(np.log1p(total)))

    assert cell() == pytest.approx(0, abs=1e-5)
    assert cell(e0_3="conv_3x3") == pytest.approx(expected([3]), rel=1e-5)
    through = cell(e0_1="conv_1x1", e1_3="conv_3x3", e0_3="skip_connect", e1_2="conv_3x3")  # node 2 leads nowhere
    assert through == pytest.approx(expected([1, 3], [0]), rel=1e-5)


def test_starts_are_liked_spread_out_and_differ_by_seed() -> None:
    prior = Prior(Features(Encoding(CELLS.space), CELLS.cuts), CELLS)
    rng = np.random.default_rng(0)
    usual = prior.rank([CELLS.space.sample(rng) for _ in range(500)])
    seeds = [started(CELLS, seed=seed) for seed in range(3)]
    assert all((prior.rank(cells) > np.quantile(usual, 0.9)).all() for cells in seeds)
    assert len({tuple(cell.values()) for cells in seeds for cell in cells}) == 12
    assert started(CELLS, seed=1) == seeds[1]
    usual_spread = started(CELLS, starts="random")
    assert (prior.rank(usual_spread) > np.quantile(usual, 0.9)).mean() < 1


def test_costs_guess_at_the_score_where_the_family_promises_by_them() -> None:
    search = Search(guided(), CELLS.space, CELLS)
    assert search.strategy.features.guesses == 3, "the flow, MACs and parameters"
    unets = UNetFamily("digits")
    assert not Prior(Features(Encoding(unets.space), unets.cuts), unets).goes_by_costs


def test_beside_networks_by_hand_and_the_recommended_ones_starts_bring_the_other_kinds() -> None:
    family = UNetFamily("pixels16")
    budget = Budget({"macs": Window(max=family.cost(family.default).macs / 2)})
    search = Search(guided(budget=budget), family.space, family)
    trials = []
    while len(trials) < 9:
        (trial,) = search.ask(1)
        trials.append(trial)
        search.tell(trial.id, {"score": 1.0})
    by_hand = [trial for trial in trials if trial.origin.kind == BY_HAND]
    starts = [trial.architecture for trial in trials if trial.origin.kind == "start"]
    recommended = [trial.architecture for trial in trials if trial.origin.kind == RECOMMENDED]
    assert (len(by_hand), len(recommended), len(starts)) == (4, 2, 2)
    for label in ("resample", "skips"):
        assert len({start[label] for start in (*starts, *recommended)}) > 1
    blocks = {value for start in (*starts, *recommended) for label, value in start.items() if label.endswith(".block")}
    assert blocks >= {"gated", "convnext"}
    assert all(budget.admits(family.cost(start)) for start in starts)
    rng = np.random.default_rng(0)
    within = [family.promise(sample_within(family, budget, rng)) for _ in range(200)]
    assert min(map(family.promise, starts)) > np.quantile(within, 0.8)


@pytest.mark.parametrize("starts", ["prior", "spread"])
def test_a_space_of_which_nothing_is_known_is_filled(starts) -> None:
    space = Space(dict.fromkeys("abcd", (0, 1, 2)))
    search = Search(guided(starts=starts), space)
    drawn = [tuple(trial.architecture.values()) for trial in search.ask(3)]
    assert all(sum(a != b for a, b in zip(one, two, strict=True)) >= 3 for one in drawn for two in drawn if one != two)


def test_where_all_starts_fail_there_are_more_of_them() -> None:
    search = Search(guided(train_first="none"), CELLS.space, CELLS)
    for _ in range(6):
        (trial,) = search.ask(1)
        assert trial.origin.kind == "start"
        search.tell_failed(trial.id, "diverged")
