"""Reads proposals and lessons out of whatever a model wrote. Data only: nothing in an answer is ever executed.

An answer is searched for JSON first (bare, fenced, or amid prose), then for pairs of a known label and a known value
in any other notation (Python dictionaries, YAML, bullet lists). Everything else in it is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nni_diffnas.api.space import Architecture, Space, Value, same_value

from .lessons import clean_lessons

__all__ = ["Answered", "read_answer", "read_proposal", "read_value"]

MAX_PROPOSALS = 64
"""More than any question asks for; what follows is ignored."""

_MAX_STARTS = 300
_THOUGHT = re.compile(r"[<\[](/?)(?:think|thinking|thought|reasoning)[>\]]", re.IGNORECASE)


@dataclass(frozen=True)
class Answered:
    """What an answer says.

    Args:
        proposals: one dictionary each, of labels or other names to values, as written; not validated.
        lessons: cleaned.
    """

    proposals: tuple[dict[str, Any], ...]
    lessons: tuple[str, ...]


def read_answer(text: str, space: Space, *, cut_off: bool = False) -> Answered:
    """Find proposals and lessons in an answer; never raises.

    Args:
        text: the answer.
        space: of the proposals.
        cut_off: it ends in the middle; a last proposal that is not JSON may be half of one, and is left out.
    """
    text = _without_thoughts(text)
    proposals: list[dict[str, Any]] = []
    lessons: tuple[str, ...] = ()
    for value in _json_values(text):
        if isinstance(value, dict):
            lessons = clean_lessons(value.get("lessons")) or lessons
        proposals += _proposals(value, space)
    if not proposals:
        proposals = list(_pairs(text, space))[: -1 if cut_off else None]
    return Answered(tuple(proposals[:MAX_PROPOSALS]), lessons)


def _without_thoughts(text: str) -> str:
    """What is left of an answer without what the model thought before it: drafts that it may have rejected.

    Where only the end of a thought is marked, the server's template has begun it before the answer.
    """
    kept: list[str] = []
    thinking, position = False, 0
    for mark in _THOUGHT.finditer(text):
        if mark.group(1):
            if not thinking:
                kept.clear()
            thinking, position = False, mark.end()
        elif not thinking:
            kept.append(text[position : mark.start()])
            thinking = True
    return " ".join(kept if thinking else [*kept, text[position:]])


def _json_values(text: str) -> Iterator[Any]:
    """Outermost JSON objects and arrays in a text, in order."""
    decoder = json.JSONDecoder()
    position, starts = 0, 0
    while starts < _MAX_STARTS:
        found = re.compile(r"[{\[]").search(text, position)
        if found is None:
            return
        starts += 1
        try:
            value, position = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            position = found.end()
            continue
        yield value


def _proposals(value: Any, space: Space, depth: int = 0) -> list[dict[str, Any]]:
    """Objects that look like architectures, at the places where models put them."""
    if depth > 3:
        return []
    if isinstance(value, list):
        return [proposal for item in value for proposal in _proposals(item, space, depth + 1)]
    if not isinstance(value, dict):
        return []
    for name in ("proposals", "proposal", "architectures", "architecture"):
        if name in value and name not in space.choices:
            return _proposals(value[name], space, depth + 1)
    flat = _flatten(value)
    if any(_label(name, space) for name in flat):
        return [flat]
    return [p for item in value.values() if isinstance(item, dict) for p in _proposals(item, space, depth + 1)]


def _flatten(body: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """``{"level0": {"width": 8}}`` as ``{"level0.width": 8}``."""
    flat: dict[str, Any] = {}
    for name, value in body.items():
        if isinstance(value, Mapping) and value and depth < 3:
            flat.update(_flatten(value, f"{prefix}{name}.", depth + 1))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _label(name: str, space: Space) -> str | None:
    """The label that a name means; spaces and case are forgiven where that leaves one label."""
    if name in space.choices:
        return name
    wanted = name.strip().strip("`'\"*").casefold()
    fitting = [label for label in space.labels if label.casefold() == wanted]
    return fitting[0] if len(fitting) == 1 else None


def read_value(space: Space, label: str, value: Any) -> Value | None:
    """The label's choice that ``value`` means (``"16"`` and ``16.0`` mean 16, ``"yes"`` means true), or ``None``."""
    values = space.choices[label]
    for choice in values:
        if same_value(choice, value):
            return choice
    for former, today in space.former.get(label, ()):
        if same_value(former, value) and today in values:
            return today
    fitting = [choice for choice in values if _means(value, choice)]
    return fitting[0] if len(fitting) == 1 else None


def _means(value: Any, choice: Value) -> bool:
    text = value.strip().strip("`'\"*").casefold() if isinstance(value, str) else json.dumps(value, default=str)
    if isinstance(choice, bool):
        return text in (("true", "yes", "on", "1") if choice else ("false", "no", "off", "0"))
    if isinstance(choice, str):
        return text == choice.strip().casefold()
    if isinstance(value, bool) or len(text) > 40:
        return False
    try:
        return float(text) == float(choice)
    except ValueError:
        return False


def read_proposal(space: Space, written: Mapping[str, Any]) -> tuple[Architecture, list[str]]:
    """Turn a written proposal into an assignment of choices, and say what does not fit.

    Returns:
        The labels that could be read, and one complaint for each that could not (none means: validate it).
    """
    chosen: Architecture = {}
    complaints = []
    for name, value in written.items():
        label = _label(name, space)
        if label is None:
            continue  # a comment, a rationale, an instruction: nothing that the space asks for
        if value is None and label in space.conditions:
            continue
        choice = read_value(space, label, value)
        if choice is None:
            complaints.append(
                f"{label} cannot be {_short(value)}: choose one of {json.dumps(list(space.choices[label]))}"
            )
        else:
            chosen[label] = choice
    present = space.present(chosen)
    for label in present:
        if label not in chosen and not any(c.startswith(f"{label} cannot") for c in complaints):
            complaints.append(f"{label} has no value: choose one of {_values(space, label)}")
    return {label: chosen[label] for label in present if label in chosen}, complaints


def _values(space: Space, label: str) -> str:
    return json.dumps(list(space.choices[label]))


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pairs(text: str, space: Space) -> Iterator[dict[str, Any]]:
    """Proposals in any notation that puts a value behind its label; a label that comes again begins the next one."""
    names = "|".join(re.escape(label) for label in sorted(space.labels, key=len, reverse=True))
    # Every repetition is bounded: an answer of 50,000 quotes must not take minutes.
    marks = "[\"'`*]{0,4}"
    pattern = re.compile(
        rf"(?<![\w.])({names}){marks}\s{{0,8}}(?:[:=]|is\b)\s{{0,8}}({marks}[\w.+-]{{1,60}})", re.IGNORECASE
    )
    current: dict[str, Any] = {}
    for match in pattern.finditer(text):
        label = _label(match.group(1), space)
        if label is None:
            continue
        value = match.group(2).strip("\"'`*").rstrip(".")
        if label in current:
            yield current
            current = {}
        current[label] = None if value.casefold() in ("null", "none") and value not in space.choices[label] else value
    if current:
        yield current
