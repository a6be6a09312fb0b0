"""What the author of a strategy has to learn is what CONTRIBUTING.md lists."""

from __future__ import annotations

import re
from pathlib import Path

from nni_diffnas.api.strategy import SearchView, StrategyHooks

CONTRIBUTING = Path(__file__).resolve().parents[3] / "CONTRIBUTING.md"


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_ten_names_make_a_strategy_and_the_others_are_named_beside_them() -> None:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("### Ten names make a strategy")[2]
    ten, _, others = section.partition("Few strategies need more")
    first = re.findall(r"`(\w+)`", ten.partition("`Search` does the rest")[0])
    listed = [name for name in first if name in public(StrategyHooks) | public(SearchView)]
    assert len(listed) == 10
    further = set(re.findall(r"`(\w+)`", others.partition("\n\n")[0]))
    given_by_the_doors = {"search", "begin"}
    assert {*listed, *further} == (public(StrategyHooks) | public(SearchView)) - given_by_the_doors
