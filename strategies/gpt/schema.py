"""JSON schema of an answer, generated from the space, for servers that hold their model to one."""

from __future__ import annotations

from typing import Any

from nni_diffnas.api.space import Space, Value

__all__ = ["answer_schema"]

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def answer_schema(space: Space) -> dict[str, Any]:
    """Schema in the strict subset that OpenAI's structured output takes: all fields required, none added.

    A label that does not always apply may be ``null``.
    """
    properties = {label: _choice(values, label in space.conditions) for label, values in space.choices.items()}
    return _object(
        {
            "lessons": {"type": "array", "items": {"type": "string"}},
            "proposals": {"type": "array", "items": _object(properties)},
        }
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _choice(values: tuple[Value, ...], optional: bool) -> dict[str, Any]:
    groups: dict[str, list[Value]] = {}
    for value in values:
        groups.setdefault(_TYPES[type(value)], []).append(value)
    shapes: list[dict[str, Any]] = [{"type": kind, "enum": group} for kind, group in groups.items()]
    if optional:
        shapes.append({"type": "null"})
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
