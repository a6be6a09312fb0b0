"""A network's source as one self-contained file, for pipelines that leave the house."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

MODULES = ("pricing", "modules", "block_kinds", "attentions", "layers", "plan", "network", "exported")
"""In the order in which they import each other; none of them imports anything else of ours."""

_HEADER = '''"""A denoising UNet found by nni-diffnas: needs torch and diffusers; load with trust_remote_code=True."""

from __future__ import annotations

'''


def one_file_source() -> str:
    """The source of a network of the UNet space."""
    folder = Path(__file__).parent
    return joined_source([folder / f"{name}.py" for name in MODULES])


def joined_source(files: Sequence[Path]) -> str:
    """Put modules one after the other, without the imports by which they find each other."""
    return _HEADER + "\n\n".join(_body(file.read_text(encoding="utf-8")) for file in files) + "\n"


def _body(source: str) -> str:
    """``source`` without its docstring, its relative imports and its ``__future__`` line."""
    lines = source.splitlines()
    tree = ast.parse(source)
    docstring = tree.body[0]
    for node in (docstring, *ast.walk(tree)):
        ours = isinstance(node, ast.ImportFrom) and (node.level > 0 or node.module == "__future__")
        if (ours or node is docstring) and isinstance(node, ast.stmt):
            assert node.end_lineno is not None, "parsed from text, so that every node has its lines"
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines).strip()
