"""What an evaluation leaves in a trial's output folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

__all__ = ["write_record", "write_trained"]


def write_record(output: Path, record: Mapping[str, Any]) -> None:
    """Write ``evaluation.json``: what was measured, and how."""
    (output / "evaluation.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


def write_trained(output: Path, model: nn.Module, samples: bytes) -> None:
    """Write the weights, and a picture of samples as PNG."""
    from safetensors.torch import save_model

    save_model(model, str(output / "model.safetensors"))
    (output / "samples.png").write_bytes(samples)
