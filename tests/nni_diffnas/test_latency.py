"""Measured and additive latency: pinned threads, one timing per layer, a file that survives, budgets on it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import JobError
from nni_diffnas.api.family import Family, sample_within
from nni_diffnas.latency import LatencyTable, TimedFamily, measure_latency
from nni_diffnas.search_spaces import UNetFamily


class Witness(torch.nn.Module):
    """Notes under which conditions it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append((torch.get_num_threads(), self.training, torch.is_grad_enabled()))
        return image


@dataclass(frozen=True)
class Square:
    """A layer with a known shape."""

    side: int

    def build(self) -> torch.nn.Module:
        return torch.nn.Linear(self.side, self.side)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(batch, self.side),)


def test_times_pinned_and_leaves_no_trace() -> None:
    threads = torch.get_num_threads()
    witness = Witness().train()
    found = measure_latency(witness, torch.zeros(1), warmup=2, repeats=5, threads=threads + 1)
    assert witness.seen == [(threads + 1, False, False)] * 7
    assert torch.get_num_threads() == threads
    assert witness.training
    assert (found.repeats, found.threads) == (5, threads + 1)
    assert found.median_ms > 0
    assert found.spread_ms >= 0
    assert found.device


def test_inputs_may_have_names() -> None:
    witness = Witness()
    assert measure_latency(witness, image=torch.zeros(1), warmup=0, repeats=2).repeats == 2
    assert len(witness.seen) == 2


def test_too_few_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats=1"):
        measure_latency(Witness(), torch.zeros(1), repeats=1)


def test_each_distinct_layer_is_timed_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    table = LatencyTable(path, repeats=3)
    total = table.estimate([Square(8), Square(8), Square(16)])
    assert set(table.entries) == {"Square(side=8)", "Square(side=16)"}
    assert total == pytest.approx(2 * table.entries["Square(side=8)"] + table.entries["Square(side=16)"])

    again = LatencyTable(path)
    monkeypatch.setattr(LatencyTable, "measure", lambda *_: pytest.fail("timed again"))
    assert again.estimate([Square(8), Square(16)]) == pytest.approx(sum(table.entries.values()))
    assert LatencyTable(path, batch=2).entries == {}
    (content,) = json.loads(path.read_text()).values()
    assert content == table.entries


def test_two_writers_keep_each_others_timings(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    one, two = LatencyTable(path, repeats=3), LatencyTable(path, repeats=3)
    one.estimate([Square(8)])
    two.estimate([Square(16)])
    assert set(LatencyTable(path).entries) == {"Square(side=8)", "Square(side=16)"}


@pytest.mark.parametrize("content", ["not json", "[1, 2]", '{"cpu": 3}'])
def test_a_foreign_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(JobError, match=re.escape(str(path))):
        LatencyTable(path)


def test_no_layers_have_no_latency() -> None:
    with pytest.raises(ValueError, match="without parts"):
        LatencyTable().estimate([])


def test_a_budget_can_bound_the_latency() -> None:
    family = UNetFamily("digits", base_width=8, depths=[1, 2], width_factors=[1.0])
    timed = TimedFamily(family, LatencyTable(repeats=3))
    cost = timed.cost(family.default)
    assert cost.params == family.cost(family.default).params
    assert cost.latency_ms is not None
    budget = Budget({"latency_ms": Window(max=cost.latency_ms)})
    found = timed.cost(sample_within(timed, budget, np.random.default_rng(0)))
    assert found.latency_ms is not None
    assert found.latency_ms <= cost.latency_ms


def test_a_family_without_parts_is_refused() -> None:
    class Silent(UNetFamily):
        parts = Family.parts

    with pytest.raises(JobError, match="Silent"):
        TimedFamily(Silent("digits"), LatencyTable())
