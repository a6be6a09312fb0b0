"""YAML as people write it, read without surprises: what they would not notice is refused by line.

YAML itself lets a field that is given twice silently overwrite itself, reads ``010`` as 8 and ``1:30`` as 90, and lets
a file of a few lines stand for thousands of millions of values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from ..api.errors import JobError

__all__ = ["read_yaml", "walk"]

MOST_VALUES = 100_000
"""Values of a file, its anchors written out."""

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character, as JSON writes those outside its first 65,536, which YAML does not put together."""


class _Loader(yaml.SafeLoader):
    """Refuses fields that are given twice, octal and sexagesimal numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"field {key.value!r} is given twice: leave one", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def decimal(self, node: yaml.ScalarNode) -> int:
        """A whole number."""
        digits = str(node.value).lstrip("+-").replace("_", "")
        if len(digits) > 1 and digits.isdigit() and digits[0] == "0":
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} begins with a zero, which YAML reads as octal: leave it out", node.start_mark
            )
        return int(self.construct_yaml_int(self._of_base_ten(node)))

    def number(self, node: yaml.ScalarNode) -> float:
        """A number with a point."""
        return float(self.construct_yaml_float(self._of_base_ten(node)))

    def _of_base_ten(self, node: yaml.ScalarNode) -> yaml.ScalarNode:
        if ":" in node.value:
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is a number of base 60 to YAML: write it in one unit", node.start_mark
            )
        return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.decimal)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def walk(content: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The single values of nested fields, each with its place, such as ``evaluator.training.images``."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from walk(value, f"{at}.{name}" if at else str(name))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from walk(value, f"{at}[{i}]")
    else:
        yield at, content


def read_yaml(path: Path, what: str) -> Any:
    """Read a YAML file.

    Args:
        path: of the file.
        what: it is, for messages, such as ``Job file``.

    Raises:
        JobError: it cannot be read, is no YAML, gives a field twice, or is endless.
    """
    name = f"{what} {str(path)!r}"
    try:
        odd = path.exists() and not path.is_file()  # to read a pipe would be to wait for ever
        content = None if odd else yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as error:
        raise JobError(f"{name} cannot be read: {error.strerror}; check the path.") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{name} is not UTF-8 ({error}): save it as UTF-8.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of dates, huge numbers, names with a zero byte
        reason = " ".join(str(error).split())[:300]
        raise JobError(f"{name} is not YAML: {reason or 'it is nested too deeply'}.") from error
    if odd:
        raise JobError(f"{name} is no file: check the path.")
    try:
        listed = list(islice(walk(content), MOST_VALUES))
    except RecursionError as error:
        raise JobError(f"{name} holds an anchor within itself: write its values out.") from error
    if len(listed) == MOST_VALUES:
        raise JobError(f"{name} stands for more than {MOST_VALUES:,} values: write out what its anchors mean.")
    if zero := next((at for at, value in listed if isinstance(value, str) and "\0" in value), None):
        raise JobError(f"{name} has a zero byte in {zero!r}, which no text or path may hold: remove it.")
    if half := next((at for at, value in listed if isinstance(value, str) and _HALF.search(value)), None):
        raise JobError(f"{name} has half of a character (such as \\ud83d) in {half!r}: write the character itself.")
    return content
