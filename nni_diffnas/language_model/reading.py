"""A transcript for people: round by round what was proposed, why, and how it scored."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api.errors import JobError
from .transcript import read_transcript

__all__ = ["render_transcript", "shares"]

_ANSWER = 600


def shares(proposals: Iterable[tuple[int, int]], fillings: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """How each round's places were filled: ``(round, proposals at once, proposals after repairs, fillings)``.

    Args:
        proposals: that were accepted, each with its round and the number of the repair that it answered, 0 for none.
        fillings: rounds of what took the place of proposals.
    """
    counts: dict[int, list[int]] = {}
    for round, step in proposals:
        counts.setdefault(round, [0, 0, 0])[min(step, 1)] += 1
    for round in fillings:
        counts.setdefault(round, [0, 0, 0])[2] += 1
    return [(round, at_once, repaired, filled) for round, (at_once, repaired, filled) in sorted(counts.items())]


def _places(entries: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, int, int]]:
    """`shares` of a transcript."""
    step: dict[int, int] = {}  # of the answer before, which older transcripts do not repeat
    proposals: list[tuple[int, int]] = []
    for entry in entries:
        if entry["event"] == "exchange":
            step[entry["round"]] = entry["step"]
        elif entry["event"] == "accepted":
            proposals.append((entry["round"], entry.get("step", step.get(entry["round"], 0))))
    return shares(proposals, [entry["round"] for entry in entries if entry["event"] == "filled"])


def render_transcript(path: Path) -> str:
    """Write a transcript in words.

    Args:
        path: of the file.

    Raises:
        JobError: no such file, or no transcript.
    """
    entries = read_transcript(path)
    try:
        lines = _render(entries)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise JobError(
            f"Transcript {str(path)!r} is damaged: an entry has no usable {error}; give one that a search has written."
        ) from error
    return "\n".join("".join(filter(_shows, line)) for line in lines)


def _render(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    head = entries[0]
    ends = {_key(entry["architecture"]): entry for entry in entries if entry["event"] == "ended"}
    lines = [f"{head.get('model')} at {head.get('server')}: {head.get('task') or 'no task was recorded'}"]
    for entry in entries[1:]:
        lines += _lines(entry, ends)
    found = _places(entries)
    if found:
        proposed, repaired, filled = (sum(row[i] for row in found) for i in (1, 2, 3))
        lines += [
            "",
            f"{len(found)} rounds: {proposed} proposals at once, {repaired} after repairs, {filled} places filled "
            f"without the model",
        ]
    return lines


def _shows(character: str) -> bool:
    """Whether a terminal shows a character; what a server or a stranger wrote must not move its cursor."""
    return not unicodedata.category(character).startswith("C")


def _key(architecture: Mapping[str, Any]) -> str:
    return json.dumps(architecture, sort_keys=True)


def _lines(entry: Mapping[str, Any], ends: Mapping[str, Mapping[str, Any]]) -> list[str]:
    match entry["event"]:
        case "asked":
            return ["", f"round {entry['round']}: {entry['wanted']} wanted"]
        case "exchange":
            said = entry["fault"] or " ".join(str(entry["answer"]).split())[:_ANSWER]
            seconds = sum(attempt["latency_s"] for attempt in entry["attempts"])
            what = "answer" if entry["step"] == 0 else f"answer to repair {entry['step']}"
            cut = " (cut off)" if entry.get("cut_off") else ""
            return [f"  {what}{cut}, {seconds:.1f} s: {said}"]
        case "accepted" | "filled" as event:
            end = ends.get(_key(entry["architecture"]))
            score = "not ended" if end is None else end["reason"] or f"score {end['score']}"
            why = f" because: {entry['reason']}" if entry.get("reason") else ""
            what = "proposed" if event == "accepted" else "filled"
            return [f"  {what}: {json.dumps(entry['architecture'])}{why} -> {score}"]
        case "rejected":
            return [f"  rejected: {entry['proposal']}: {entry['why']}"]
    return []
