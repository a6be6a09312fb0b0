"""The documentation quotes what there is: messages as the code writes them, files that exist, commands that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("examples/*/README.md")])


@cache
def messages() -> str:
    """Every string of the package, one a line, with ``…`` in the place of values."""
    found: list[str] = []
    for folder in ("nni_diffnas", "search_spaces", "strategies", "evaluators"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def quoted() -> Iterator[str]:
    for line in (DOCS / "troubleshooting.md").read_text().splitlines():
        if line.startswith("| `") and "WsConnection" not in line:
            yield line.split("`")[1]


@pytest.mark.parametrize("message", list(quoted()))
def test_troubleshooting_quotes_real_messages(message: str) -> None:
    pieces = [piece.strip() for piece in message.split("…")]
    for piece in pieces:
        if len(piece) > 12:
            assert piece in messages().replace("\n", " "), piece


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"(?<![\w/])((?:benchmarks|examples|tests)/[\w./-]+\w)", text):
        made = ("teacher", "search_space.json", "winner")
        assert (ROOT / name).exists() or name.endswith(made), name
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_are_marked_so_that_mkdocs_finds_them(page: Path) -> None:
    assert not re.search(r'--8(?!<-- "[\w./:-]+"$)', page.read_text(), re.MULTILINE)


HOSTS = {"arxiv.org", "github.com", "localhost:8080"}
"""Sites that pages may link to: CI has no network to follow a link, so that a new site is looked at by a person."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_other_sites_are_well_formed_and_go_to_known_ones(page: Path) -> None:
    for link in re.findall(r"\]\((https?:[^)]*)\)|<(https?:[^>]*)>", page.read_text()):
        address = urlsplit("".join(link))
        assert address.netloc in HOSTS, link
        assert address.scheme == "https" or address.netloc.startswith("localhost:"), link
        assert re.fullmatch(r"[\w./~#?=&%+:-]*", address.path + address.fragment + address.query), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_leave_no_tilde_to_whom_it_means_nothing(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        assert '"~' not in block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_names_exist(page: Path) -> None:
    import typer

    from nni_diffnas.cli import app

    known = set(getattr(typer.main.get_command(app), "commands", {}))
    named = set(re.findall(r"(?:`|\$ |^|&& )nni-diffnas ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= known


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_all_runs_every_benchmark() -> None:
    import all as everything

    scripts = {file.stem for file in (ROOT / "benchmarks").glob("*.py")}
    others = {"all", "guided_picture", "reporting", "stand_ins"}
    assert {benchmark.script for benchmark in everything.BENCHMARKS} == scripts - others
