"""Which options of a plug-in are paths: their types say so, of a plug-in's own options as of ours.

An option whose type is a `pathlib.Path` (or ``str | Path``, ``list[Path]``, ``Path | None``, a pydantic ``FilePath``)
is a path; a relative one starts at the job file's folder, one of a strategy at the config's trialCodeDirectory. Options
are the arguments of the constructor; where one of them, or ``**options``, has fields of its own, its type names them: a
pydantic model, a dataclass or a ``TypedDict``, as in ``data: Annotated[Mapping[str, Any], MyData]`` or
``**options: Annotated[Any, MyOptions]``.
"""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ForwardRef,
    NotRequired,
    Required,
    Union,
    Unpack,
    get_args,
    get_origin,
    is_typeddict,
)

__all__ = ["MadeIfMissing", "Names", "absolute_paths", "missing_paths", "options_of"]


@dataclass(frozen=True)
class Names:
    """Marks text that is one of some names, or else a path: ``source: Annotated[str, Names("digits", "cifar10")]``.

    Where there is nothing of that path, the text is left as it is: it may be a name that is not known here.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class MadeIfMissing:
    """Marks a path that need not be there: ``root: Annotated[Path, MadeIfMissing()]``."""


_Change = Callable[[str, str, list[Any]], str]
"""What becomes of a path, by its place among the options, what is written there, and the marks of its type."""


def absolute_paths(taker: Any, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Options with relative paths made absolute.

    Args:
        taker: whose options they are: a class, or what else a plug-in's entry point names.
        options: by name; as JSON has them.
        folder: at which they start.
    """

    def change(at: str, written: str, marks: list[Any]) -> str:
        named = [mark for mark in marks if isinstance(mark, Names)]
        if not written or any(written in mark.names for mark in named):
            return written
        path = folder / os.path.expanduser(written)
        return written if named and not os.path.exists(path) else str(path.resolve())

    return _changed_fields("", options, options_of(taker), change)


def missing_paths(taker: Any, options: Mapping[str, Any], section: str = "") -> dict[str, str]:
    """Absolute paths among options where there is nothing, by their place; without those that are `MadeIfMissing`.

    Args:
        taker: whose options they are.
        options: by name.
        section: of the job that they are written in.
    """
    found: dict[str, str] = {}

    def look(at: str, written: str, marks: list[Any]) -> str:
        made = any(isinstance(mark, MadeIfMissing) for mark in marks)
        if os.path.isabs(written) and not made and not os.path.exists(written):
            found[at] = written
        return written

    _changed_fields(section, options, options_of(taker), look)
    return found


def options_of(taker: Any) -> dict[str, Any]:
    """Options by name, with their types; a type that only a type checker can read is ``Any``.

    Args:
        taker: a pydantic model, a dataclass, a ``TypedDict``, or what is called with options. Of a class that hands
            ``**options`` on, its bases' are among them.
    """
    if not isinstance(taker, type):
        return _arguments(taker)[0]
    if isinstance(fields := getattr(taker, "model_fields", None), Mapping):
        return {name: Annotated[field.annotation, None, *field.metadata] for name, field in fields.items()}
    if is_typeddict(taker) or is_dataclass(taker):
        found: dict[str, Any] = {}
        for base in reversed(taker.__mro__):
            names = vars(sys.modules[base.__module__])
            found |= {name: _read(hint, names) for name, hint in vars(base).get("__annotations__", {}).items()}
        return found
    found = {}
    for base in taker.__mro__:
        if "__init__" in vars(base) and base is not object:
            own, handed_on = _arguments(vars(base)["__init__"])
            found |= {name: hint for name, hint in own.items() if name not in found}
            if not handed_on:
                break
    return found


def _arguments(function: Any) -> tuple[dict[str, Any], bool]:
    """Arguments by name, with their types, and whether there may be more."""
    found: dict[str, Any] = {}
    names, more = getattr(function, "__globals__", {}), False
    for parameter in inspect.signature(function).parameters.values():
        hint = _read(parameter.annotation, names)
        if parameter.kind is parameter.VAR_KEYWORD:
            more = get_origin(hint) is not Unpack  # which names all of them
            for kind in _alternatives(hint)[0]:
                if _has_fields(kind):
                    found |= options_of(kind)
        elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name != "self":
            found[parameter.name] = hint
    return found, more


def _read(hint: Any, names: Mapping[str, Any]) -> Any:
    """A type that is written as text, as everywhere below ``from __future__ import annotations``."""
    text = hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
    if not isinstance(text, str):
        return Any if text is inspect.Parameter.empty else text
    try:
        return eval(text, {"Path": Path, **names})  # as `typing.get_type_hints` does, but each on its own
    except Exception:  # a name that is imported for type checkers only: no path, or it would be `Path`
        return Any


def _alternatives(hint: Any) -> tuple[list[Any], list[Any]]:
    """What a type may be, and what marks it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kinds, marks = _alternatives(arguments[0])
        return [*kinds, *(mark for mark in arguments[1:] if isinstance(mark, type))], [*marks, *arguments[1:]]
    if origin in (Union, types.UnionType, Required, NotRequired, Unpack):
        both = [_alternatives(argument) for argument in arguments]
        return [kind for kinds, _ in both for kind in kinds], [mark for _, marks in both for mark in marks]
    return [hint], []


def _has_fields(kind: Any) -> bool:
    return is_typeddict(kind) or is_dataclass(kind) or isinstance(getattr(kind, "model_fields", None), Mapping)


def _changed_fields(at: str, options: Mapping[str, Any], types_: Mapping[str, Any], change: _Change) -> dict[str, Any]:
    return {
        name: _changed(f"{at}.{name}" if at else str(name), value, types_.get(name, Any), change)
        for name, value in options.items()
    }


def _changed(at: str, value: Any, hint: Any, change: _Change) -> Any:
    """A value with the paths in it changed."""
    kinds, marks = _alternatives(hint)
    if isinstance(value, str | Path):
        path = any(isinstance(kind, type) and issubclass(kind, os.PathLike) for kind in kinds)
        return change(at, str(value), marks) if path or any(isinstance(mark, Names) for mark in marks) else value
    for kind in kinds:
        inner = get_args(kind)
        if isinstance(value, Mapping) and _has_fields(kind):
            value = _changed_fields(at, value, options_of(kind), change)
        elif isinstance(value, Mapping) and len(inner) == 2:
            value = {name: _changed(f"{at}.{name}", one, inner[1], change) for name, one in value.items()}
        elif isinstance(value, list | tuple) and inner and get_origin(kind) is not Annotated:
            inside = [_changed(f"{at}[{number}]", one, inner[0], change) for number, one in enumerate(value)]
            value = tuple(inside) if isinstance(value, tuple) else inside
    return value
