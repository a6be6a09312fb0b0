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
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/README.md")])
STUDIES = sorted((DOCS / "studies").glob("*.md"))


@cache
def strings() -> tuple[str, ...]:
    """Every string of the package, with ``…`` in the place of values."""
    found: list[str] = []
    for folder in ("nni_diffnas", "search_spaces", "strategies", "evaluators"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def quoted() -> Iterator[str]:
    for line in (DOCS / "troubleshooting.md").read_text().splitlines():
        if line.startswith("| `") and "WsConnection" not in line:
            yield line.split("`")[1]


@pytest.mark.parametrize("message", list(quoted()))
def test_troubleshooting_quotes_real_messages(message: str) -> None:
    pieces = [piece.strip() for piece in message.split("…")]
    assert any(all(piece in string.replace("\n", " ") for piece in pieces) for string in strings())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"(?<![\w/])((?:benchmarks|docs|examples|tests)/[\w./-]+\w)", text):
        made = ("teacher", "search_space.json", "winner", "YYYY-MM-NAME.md")
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


def commands_of(page: Path) -> Iterator[str]:
    """Commands in code, one each: of blocks by line, a backslash at its end joined, of prose by code span."""
    text = page.read_text()
    blocks = re.findall(r"```(?:console|bash)\n(.*?)```", text, re.DOTALL)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *re.findall(r"`([^`]+)`", prose)]:
        yield from re.split(r"&&|\s#\s", " ".join(line.split()).removeprefix("$ "))


def source_of(script: Path) -> str:
    """A script's text, and that of the scripts beside it which it takes something from: its options, perhaps."""
    text = script.read_text()
    beside = (script.parent / f"{name}.py" for name in re.findall(r"^from (\w+) import", text, re.MULTILINE))
    return text + "".join(file.read_text() for file in beside if file.is_file())


def options_of(command: str) -> list[str]:
    return re.findall(r"(?<=\s)--[a-z][a-z-]*", command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_commands_exist(page: Path) -> None:
    import typer

    from nni_diffnas.cli import app

    subcommands = getattr(typer.main.get_command(app), "commands", {})
    for command in commands_of(page):
        if script := re.match(r"(?:\w+=\S+ )*(?:time )?python ((?:benchmarks|examples|tests)/[\w/]+\.py)", command):
            known = source_of(ROOT / script[1])
            assert all(f'"{option}"' in known for option in options_of(command)), command
        elif own := re.match(r"nni-diffnas ([a-z]+)", command):
            opts = {name for parameter in subcommands[own[1]].params for name in parameter.opts}
            assert set(options_of(command)) <= opts, command


@pytest.mark.parametrize("study", STUDIES, ids=lambda page: page.stem)
def test_a_study_has_a_question_a_date_and_a_command(study: Path) -> None:
    title, date = [line for line in study.read_text().splitlines() if line][:2]
    assert re.fullmatch(r"# .*\?", title)
    assert re.match(r"\*\d+.* \d{4}", date), "the date and the machine come first"
    assert re.match(r"\d{4}-\d{2}-", study.name)
    run = r"(?:python|pytest|nnictl|nni-diffnas) "
    assert re.search(rf"^\$ .*{run}", study.read_text(), re.MULTILINE)


def test_every_claim_has_a_study_or_a_test() -> None:
    rows = [line for line in (DOCS / "evidence.md").read_text().splitlines() if line.startswith("| ")]
    for row in rows:
        if not row.startswith("| claim |") and "not measured" not in row:
            last = row.rstrip("| ").rsplit("|", 1)[1]
            assert re.search(r"\]\(studies/[\w.-]+\.md\)|`(?:(?:pytest|python) |\.ci/)", last), row


HISTORY = r"until now|earlier version|no part of the repository|was the default then|used to be|formerly|previously"


@pytest.mark.parametrize("page", sorted({*PAGES} - {*STUDIES}), ids=lambda page: str(page.relative_to(ROOT)))
def test_history_is_for_studies_and_the_changelog(page: Path) -> None:
    assert page.name == "CHANGELOG.md" or not (found := re.search(HISTORY, page.read_text())), found


def test_docstrings_and_messages_tell_no_history() -> None:
    assert not (found := re.search(HISTORY, "\n".join(strings()))), found


def test_pages_that_the_code_names_exist() -> None:
    files = [path for folder in ("nni_diffnas", "search_spaces", "strategies", "evaluators", "benchmarks", "examples")
             for kind in ("*.py", "*.yml") for path in (ROOT / folder).rglob(kind)]  # fmt: skip
    for file in files:
        for name in re.findall(r"\bdocs/[\w./-]+\.(?:md|png)", file.read_text()):
            assert (ROOT / name).exists(), f"{file.relative_to(ROOT)} names {name}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


FOUND = sorted((ROOT / "examples" / "found").glob("*.json"))


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.stem)
def test_the_gallery_shows_every_network_that_comes_along_and_what_trains_it(file: Path) -> None:
    page = (DOCS / "gallery.md").read_text()
    name = f"examples/found/{file.name}"
    assert f"`{name}`" in page
    assert f"images/{file.stem}.svg" in page
    assert f"nni-diffnas train examples/found/job.yml --arch {name}" in page


def test_all_runs_every_benchmark() -> None:
    import all as everything

    scripts = {file.stem for file in (ROOT / "benchmarks").glob("*.py")}
    others = {"all", "rank_signals", "reporting", "small_images", "stand_ins", "workers"}
    others |= {"gallery_pictures", "guided_picture", "pays_picture"}
    others |= {"long_training", "students", "teachers"}
    others |= {"ablation", "language_model", "unet_table"}  # of a journal; with a model; hours of training
    assert {benchmark.script for benchmark in everything.BENCHMARKS} == scripts - others
