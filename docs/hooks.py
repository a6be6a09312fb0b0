"""Hooks of the documentation's build: where the package lies, and the page of the command, written from the command."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[1]
_house = tempfile.TemporaryDirectory()


def on_startup(**_: Any) -> None:
    """Lay the package out as it is installed, the wings inside it: in the clone they lie beside it."""
    package = Path(_house.name) / "nni_diffnas"
    shutil.copytree(ROOT / "nni_diffnas", package)
    for wing in ("search_spaces", "strategies", "evaluators"):
        shutil.copytree(ROOT / wing, package / wing)
    sys.path.insert(0, _house.name)


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: Any) -> Any:
    """Let the reference be generated from there."""
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_house.name]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put every subcommand with its arguments and options in the place of ``{{ commands }}``."""
    if "{{ commands }}" not in markdown:
        return markdown
    import typer

    from nni_diffnas.cli import app

    subcommands: dict[str, Any] = getattr(typer.main.get_command(app), "commands", {})
    return markdown.replace("{{ commands }}", "\n".join(_section(*item) for item in subcommands.items()))


def _section(name: str, command: Any) -> str:
    lines = [f"## `nni-diffnas {name}`", "", command.help or "", "", "| | |", "|---|---|"]
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        names = (parameter.metavar or parameter.name.upper()) if argument else ", ".join(parameter.opts)
        default = parameter.default
        shown = "" if callable(default) or default in (None, False, "", ()) else f" (default: {default})"
        lines.append(f"| `{names}` | {(getattr(parameter, 'help', '') or '').replace('|', '/')}{shown} |")
    return "\n".join(lines) + "\n"
