"""Hooks of the documentation: where the package lies, and what is written from its code: commands and options."""

from __future__ import annotations

import html
import importlib
import inspect
import json
import re
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
    """Put all subcommands in the place of ``{{ commands }}``, and a section's fields in that of ``{{ options PATH }}``.

    Where another default follows the path, it is that of the fields without one.
    """
    if "{{ commands }}" in markdown:
        markdown = markdown.replace("{{ commands }}", _commands())
    return re.sub(r"{{ options ([\w.]+)(?:: ([^}]+))? }}", lambda found: _options(*found.groups("required")), markdown)


def _commands() -> str:
    import typer

    from nni_diffnas.cli import app

    subcommands: dict[str, Any] = getattr(typer.main.get_command(app), "commands", {})
    return "\n".join(_command(*item) for item in subcommands.items())


def _command(name: str, command: Any) -> str:
    lines = [f"## `nni-diffnas {name}`", "", html.escape(command.help or ""), "", "| | | default |", "|---|---|---|"]
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        names = (parameter.metavar or parameter.name.upper()) if argument else ", ".join(parameter.opts)
        default, said = parameter.default, getattr(parameter, "help", "") or ""
        switch = isinstance(default, bool) or name == "help"
        none = switch or callable(default) or default in (None, "", ())
        shown = "required" if parameter.required else "" if none else f"`{default}`"
        lines.append(f"| `{names}` | {_cell(html.escape(said.replace(' [required]', '')))} | {shown} |")
    return "\n".join(lines) + "\n"


def _options(path: str, otherwise: str) -> str:
    """The fields of a pydantic model: what its docstring says of each, the values that it takes, and its default."""
    import griffe

    module, _, name = path.rpartition(".")
    model = getattr(importlib.import_module(module), name)
    schema = model.model_json_schema()
    lines = [f"## {name} {{ #{path} }}", ""]
    for section in griffe.parse_google(griffe.Docstring(inspect.getdoc(model) or ""), warnings=False):
        if section.kind is not griffe.DocstringSectionKind.parameters:
            lines += [section.value, ""] if isinstance(section.value, str) else []
            continue
        said = {each.name: each.description for each in section.value}
        own = set(inspect.get_annotations(model)) - {"model_config"}
        if wrong := (set(said) - set(model.model_fields)) | (own - set(said)):
            raise ValueError(f"{path}: its docstring and its fields differ in {sorted(wrong)}.")
        lines += ["| option | value | default | |", "|---|---|---|---|"]
        for option, text in said.items():
            known = schema["properties"][option]
            default = otherwise if option in schema.get("required", ()) else _default(model, option, known)
            lines.append(f"| `{option}` | {_values(known)} | {default} | {_cell(text)} |")
        lines.append("")
    return "\n".join(lines)


def _values(schema: dict[str, Any]) -> str:
    """The values that a field takes, in words."""
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(map(_values, schema["anyOf"])))
    if "$ref" in schema:
        return f"a section: {schema['$ref'].rpartition('/')[2].strip('_')}"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of: {_values(schema['items'])}"
    words = {"string": schema.get("format", "text"), "boolean": "`true`, `false`", "object": "a section"}
    ends = [
        f"{said} {schema[key]:,}"
        for key, said in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return " ".join([words.get(schema["type"], schema["type"]), *ends])


def _default(model: Any, option: str, schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "its own"
    default = model.model_fields[option].get_default(call_default_factory=True)
    return "" if default in ((), [], {}) else f"`{json.dumps(default).strip(chr(34))}`"


def _cell(text: str) -> str:
    """Text for a table."""
    return " ".join(text.split()).replace("|", "/")
