from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict, Unpack

import pytest
from pydantic import BaseModel

from nni_diffnas.api.paths import MadeIfMissing, Names, absolute_paths, missing_paths, options_of

if TYPE_CHECKING:
    import torch

HOME = Path("/job")


class Data(BaseModel):
    source: Annotated[str, Names("digits", "cifar10")]
    root: Annotated[Path, MadeIfMissing()] | None = None
    by_class: dict[str, Path] = {}


@dataclass
class Recipe:
    teacher: str | Path = ""
    schedule: str = ""


class More(TypedDict):
    replay: NotRequired[Path | None]
    model: str


class Base:
    def __init__(self, *, seed: int = 0, log: Path | None = None, **options: Unpack[More]) -> None: ...


class Taker(Base):
    """Every way in which a plug-in may name a path."""

    def __init__(
        self,
        data: Annotated[Mapping[str, Any], Data],
        recipes: list[Recipe],
        network: torch.nn.Module | None = None,
        name: str = "",
        **options: Any,
    ) -> None: ...


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"data": {"source": "digits", "root": "kept"}}, {"data": {"source": "digits", "root": "/job/kept"}}),
        ({"data": {"by_class": {"a": "x", "b": "/y"}}}, {"data": {"by_class": {"a": "/job/x", "b": "/y"}}}),
        ({"recipes": [{"teacher": "t", "schedule": "s"}]}, {"recipes": [{"teacher": "/job/t", "schedule": "s"}]}),
        ({"replay": "r", "model": "m", "log": "../l"}, {"replay": "/job/r", "model": "m", "log": "/l"}),
        ({"replay": None, "name": "n", "network": "k"}, {"replay": None, "name": "n", "network": "k"}),
        ({"nobodys": "u"}, {"nobodys": "u"}),
    ],
)
def test_what_the_types_call_a_path_starts_at_the_folder(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert absolute_paths(Taker, options, HOME) == expected


def test_a_name_is_a_name_and_a_path_where_there_is_something(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "pictures").mkdir()
    found = [absolute_paths(Data, {"source": name}, tmp_path)["source"] for name in ("cifar10", "pictures", "nowhere")]
    assert found == ["cifar10", str(tmp_path / "pictures"), "nowhere"]


def test_the_home_folder_may_be_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    found = absolute_paths(Recipe, {"teacher": "~/t", "schedule": "~"}, HOME)
    assert found == {"teacher": "/home/ada/t", "schedule": "~"}


def test_options_are_those_of_the_class_and_of_what_it_hands_on_to() -> None:
    assert list(options_of(Taker)) == ["data", "recipes", "network", "name", "seed", "log", "replay", "model"]


def test_missing_are_full_paths_where_there_is_nothing(tmp_path: Path) -> None:
    data = {"source": "/no/where", "root": "/no/root", "by_class": {"a": str(tmp_path), "b": "relative"}}
    assert missing_paths(Taker, {"data": data}) == {"data.source": "/no/where"}
    recipes = [{"teacher": str(tmp_path)}, {"teacher": "/no/teacher"}]
    assert missing_paths(Taker, {"recipes": recipes}, "space") == {"space.recipes[1].teacher": "/no/teacher"}
