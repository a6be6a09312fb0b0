"""`DiffusionGuided` on the main job, on spaces of which little is known, and on NNI's own MobileNetV3."""

import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import BY_HAND, RECOMMENDED, REFERENCE
from nni_diffnas.job import load_job
from nni_diffnas.search_spaces import TableFamily
from nni_diffnas.searching.narrowing import narrow_family
from nni_diffnas.searching.open import make_strategy
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.table import load_table
from nni_diffnas.testing import SmallFamily

EXAMPLES = Path(__file__).parents[3] / "examples"


def score(architecture) -> float:
    """Any score that is the same in each run."""
    return zlib.crc32(repr(sorted(architecture.items())).encode()) / 2**32


def quick(**options) -> DiffusionGuided:
    plain = {"training_steps": 10, "candidates": 16, "sampler_steps": 4, "cache": lambda name, make: make()}
    return DiffusionGuided(objective="score", direction="maximize", train_first="none", **plain, **options)


@pytest.mark.slow
def test_the_main_job_starts_by_hand_and_from_other_kinds_and_guides_the_rest() -> None:
    config = yaml.safe_load((EXAMPLES / "digits" / "config.yml").read_text())
    assert config["tuner"]["name"] == "DiffusionGuided"
    assert config["maxTrialNumber"] == 12
    job = load_job(EXAMPLES / "digits" / config["trialCodeDirectory"] / config["tuner"]["classArgs"].pop("job"))
    options = {k: v for k, v in config["tuner"]["classArgs"].items() if k != "optimize_mode"}
    strategy = make_strategy("DiffusionGuided", job, None, {**options, "cache": lambda name, make: make()})
    family = job.make_family()
    searched = yaml.safe_load((EXAMPLES / "digits" / config["searchSpaceFile"]).read_text())
    narrowed = narrow_family(family, searched)
    search = Search(strategy, narrowed.space, narrowed)
    pending = search.ask(config["trialConcurrency"])
    while len(search.trials) < config["maxTrialNumber"]:
        ended = pending.pop(0)
        search.tell(ended.id, {"rfid": score(ended.architecture)})
        pending += search.ask(1)
    kinds = [trial.origin.kind for trial in search.trials]
    assert kinds[0] == REFERENCE  # the budget forbids the default network
    by_hand = kinds.count(BY_HAND)
    first = [BY_HAND] * by_hand + [RECOMMENDED] * 2 + ["start"] * 2
    assert kinds[1:] == first + ["guided"] * (11 - len(first))
    assert 1 <= by_hand <= 4
    assert all(search.view.budget.admits(family.cost(trial.architecture)) for trial in search.trials[1:])
    assert strategy.pool.invalid == 0


def test_a_table_that_states_neither_costs_nor_edges_is_searched(tmp_path: Path) -> None:
    choices = np.array(list(itertools.product(range(3), repeat=4)))
    values = -np.abs(choices - [2, 0, 1, 2]).sum(1, keepdims=True)
    np.savez(tmp_path / "table.npz", labels=list("abcd"), choices=choices, metrics=["score"], values=values)
    table = load_table(tmp_path / "table.npz")
    family = TableFamily.of(table)
    assert (table.costs, family.gains) == ({}, ())
    search = Search(quick(), family.space, family)
    for _ in range(14):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"score": float(table.column("score")[table.row(trial.architecture)])})
    assert [trial.origin.kind for trial in search.trials] == ["start"] * 4 + ["guided"] * 10
    assert max(trial.metrics["score"] for trial in search.trials) == 0


def test_a_small_family_that_states_no_gains_is_searched() -> None:
    family = SmallFamily()
    assert not family.gains
    search = Search(quick(seed=1), family.space, family)
    for _ in range(8):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"score": score(trial.architecture)})
    assert [trial.origin.kind for trial in search.trials] == ["start"] * 4 + ["guided"] * 4


@pytest.mark.slow
def test_nnis_mobilenetv3_is_searched_by_its_native_labels() -> None:
    from nni.nas.hub.pytorch import MobileNetV3Space

    hub = MobileNetV3Space()
    strategy = DiffusionGuided(
        objective="accuracy", direction="maximize", unguided=3, training_steps=5, candidates=8, sampler_steps=4,
        cache=lambda name, make: make(),
    )  # fmt: skip
    search = Search(strategy, Space.from_mutables(hub.simplify()))
    assert len(search.space.labels) == 67
    for _ in range(5):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"accuracy": score(trial.architecture)})
    assert [trial.origin.kind for trial in search.trials] == ["start"] * 3 + ["guided"] * 2
    network = hub.freeze(search.trials[-1].architecture)
    weights = sum(int(np.prod(parameter.shape)) for parameter in network.parameters())
    assert weights > 100_000
