"""What every benchmark prints at its end: a table for people and one JSON line, with the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["machine", "report"]


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, threads of torch, versions."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = {name: version(name) for name in ("torch", "botorch", "nni")}
    return {"processor": model, "cores": cores, "threads": torch.get_num_threads(), **packages}


def report(columns: Sequence[str], rows: Sequence[Sequence[Any]], body: Mapping[str, Any]) -> None:
    """Print a table, then ``body`` and the machine as one JSON line."""
    texts = [list(columns)] + [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    for row in texts:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(json.dumps({**body, "machine": machine()}), flush=True)
