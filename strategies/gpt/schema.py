"""JSON schema of an answer, generated from the space, for servers that hold their model to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nni_diffnas.api.space import Architecture, Space, Value

from .lessons import MAX_CHARACTERS, MAX_LESSONS

__all__ = ["REASON", "REASON_CHARACTERS", "answer_schemas"]

REASON = "reason"
"""Field of a proposal that says why it is made; a space that has a label of this name does without."""

REASON_CHARACTERS = 100

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def answer_schemas(
    space: Space, count: int, *, reflect: bool, among: Sequence[Architecture] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Schemas of an answer: one that bounds everything, and one for servers that refuse to bound.

    Both keep to the strict subset that OpenAI's structured output takes: all fields required, none added. The second
    has no ``minItems``, ``maxItems`` and ``maxLength``. Proposals come first, so that an answer that reaches its limit
    of tokens has them. A label that does not always apply may be ``null``.

    Args:
        space: of the proposals.
        count: the most proposals that are wanted.
        reflect: lessons are asked for, too.
        among: proposals are chosen from these; by default they are free.
    """
    free = {label: _choice(values, label in space.conditions) for label, values in space.choices.items()}
    fixed = [
        {label: _choice((each[label],), False) if label in each else {"type": "null"} for label in space.choices}
        for each in among
    ]

    def schema(bounded: bool) -> dict[str, Any]:
        def items(of: dict[str, Any], least: int, most: int) -> dict[str, Any]:
            bounds = {"minItems": least, "maxItems": most} if bounded else {}
            return {"type": "array", "items": of, **bounds}

        def text(most: int) -> dict[str, Any]:
            return {"type": "string", **({"maxLength": most} if bounded else {})}

        reason = {} if REASON in space.choices else {REASON: text(REASON_CHARACTERS)}
        shapes = [_object({**properties, **reason}) for properties in fixed or [free]]
        fields = {"proposals": items(shapes[0] if len(shapes) == 1 else {"anyOf": shapes}, 1, count)}
        if reflect:
            fields["lessons"] = items(text(MAX_CHARACTERS), 0, MAX_LESSONS)
        return _object(fields)

    return schema(True), schema(False)


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
