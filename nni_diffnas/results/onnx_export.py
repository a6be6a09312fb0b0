"""The network of an exported pipeline as an ONNX file, checked against the original (extra ``onnx``)."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from ..api.errors import JobError
from ..cache import fingerprint

__all__ = ["ONNX_FILE", "export_onnx"]

ONNX_FILE = "unet.onnx"
"""In the pipeline's folder; ``from_pretrained`` ignores it."""

TOLERANCE = 1e-4
"""Largest difference that counts as agreement, relative to the largest output of the original (float32)."""


def export_onnx(pipeline: Path) -> Path:
    """Write `ONNX_FILE` into a pipeline folder and run it beside the original.

    Inputs: ``sample`` float32 ``[batch, channels, side, side]``, ``timestep`` int64 ``[batch]``, and for a network
    conditioned on classes ``class_labels`` int64 ``[batch]``. Output: ``prediction`` float32, shaped as the sample
    (twice the channels with a learned variance). The batch is free.

    Args:
        pipeline: folder that `export.export_pipeline` wrote; the code of its network is ours.

    Returns:
        The file.

    Raises:
        JobError: the extra is not installed, the network needs more inputs than these, or its outputs do not agree.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise JobError(
            f"Exporting ONNX needs {', '.join(missing)}: install the extra onnx (pip install -e '.[onnx]' in a clone)."
        )
    import onnxruntime
    import torch

    network = _load_network(pipeline)
    if "encoder_hid_dim" in network.config or "cross_attention_dim" in network.config:
        raise JobError(f"The network of {pipeline} is conditioned on text: its export as ONNX is not supported.")
    inputs = _inputs(network.config, 2)
    file = pipeline / ONNX_FILE
    torch.onnx.export(
        _tensor_network(network),
        tuple(inputs.values()),
        str(file),
        input_names=list(inputs),
        output_names=["prediction"],
        dynamic_shapes=[{0: torch.export.Dim("batch")} for _ in inputs],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    tried = _inputs(network.config, 3)  # another batch than the one it was traced with
    with torch.no_grad():
        wanted = _tensor_network(network)(*tried.values())
    (found,) = session.run(["prediction"], {name: value.numpy() for name, value in tried.items()})
    difference = float((wanted - torch.from_numpy(found)).abs().max() / wanted.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE:
        file.unlink()
        raise JobError(
            f"The ONNX network of {pipeline} differs from the original by {difference:.2g} of its largest output: "
            f"it was not kept; try other versions of torch and onnxscript."
        )
    return file


def _load_network(pipeline: Path) -> Any:
    """The exported network alone: a teacher's pipeline that it stands in may have brought code of its own."""
    import diffusers

    module, name = json.loads((pipeline / "model_index.json").read_text(encoding="utf-8"))["unet"]
    if module == "diffusers":
        kind = getattr(diffusers, name)
    else:
        file = (pipeline / "unet" / f"{module}.py").resolve()
        spec = spec_from_file_location(f"{module}_{fingerprint(str(file))}", file)
        assert spec is not None
        assert spec.loader is not None
        code = module_from_spec(spec)
        sys.modules[spec.name] = code  # where its dataclasses look for themselves
        spec.loader.exec_module(code)
        kind = getattr(code, name)
    return kind.from_pretrained(pipeline / "unet").eval()


def _tensor_network(network: Any) -> Any:
    """The network with plain tensors in and out."""
    import torch

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, sample: Any, timestep: Any, class_labels: Any = None) -> Any:
            if class_labels is None:
                return self.network(sample, timestep).sample
            return self.network(sample, timestep, class_labels).sample

    return Plain().eval()


def _inputs(config: Any, batch: int) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(batch)
    side, channels = config["sample_size"], config["in_channels"]
    inputs = {
        "sample": torch.randn(batch, channels, side, side, generator=generator),
        "timestep": torch.arange(batch) * 100 + 1,
    }
    if classes := config.get("num_classes"):
        inputs["class_labels"] = torch.arange(batch) % classes
    return inputs
