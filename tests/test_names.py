"""A name of a type says which one is meant: no two modules of the package define the same."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def types_of(module: ast.Module) -> Iterator[str]:
    """Classes, and assignments to names that are written like a class's."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            yield from [name] if name[0].isupper() and not name.isupper() else []


def test_no_two_types_share_a_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for room in ("nni_diffnas", "search_spaces", "strategies", "evaluators"):
        for file in (ROOT / room).rglob("*.py"):
            for name in types_of(ast.parse(file.read_text())):
                if not name.startswith("_"):
                    found[name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_the_ground_floor_has_at_most_twenty_rooms() -> None:
    rooms = {path.stem for path in (ROOT / "nni_diffnas").iterdir() if path.suffix in ("", ".py")}
    assert len(rooms - {"__init__", "__pycache__"}) <= 20
