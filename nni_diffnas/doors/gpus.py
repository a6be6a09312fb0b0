"""What NNI's local scheduler can place on GPUs, and what it cannot: that it retries without delay, for ever.

NNI 3.0 starts a collector process with every retry: hundreds within minutes, until memory is full and its server dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GpuRequest", "gpu_count"]


def gpu_count() -> int:
    """Number of NVIDIA GPUs that NNI's scheduler will see."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, no library: pynvml raises its own errors and OSError alike
        return 0


@dataclass(frozen=True)
class GpuRequest:
    """What a config asks of the GPUs of this machine.

    Args:
        per_trial: ``trialGpuNumber``; ``None`` when unset.
        concurrency: ``trialConcurrency``.
        per_gpu: ``maxTrialNumberPerGpu``.
        indices: ``gpuIndices``; ``None`` for all.
        use_active: ``useActiveGpu``: also use GPUs on which a process runs.
    """

    per_trial: float | None
    concurrency: int = 1
    per_gpu: int = 1
    indices: tuple[int, ...] | None = None
    use_active: bool = True

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> GpuRequest | None:
        """Read NNI's config as JSON; ``None`` where the trials do not run on this machine."""
        service = config.get("trainingService")
        if not isinstance(service, Mapping) or service.get("platform") != "local":
            return None
        indices = service.get("gpuIndices")
        return cls(
            config.get("trialGpuNumber"),
            int(config.get("trialConcurrency") or 1),
            int(service.get("maxTrialNumberPerGpu") or 1),
            None if indices is None else tuple(indices),
            bool(service.get("useActiveGpu")),
        )

    def problem(self, gpus: int) -> str:
        """Say why NNI cannot place the trials on ``gpus`` GPUs, and what works; empty where it can."""
        if not self.per_trial:
            return ""
        remedy = "leave trialGpuNumber unset and use trialConcurrency: 1"
        if self.per_trial != int(self.per_trial):
            return f"trialGpuNumber is {self.per_trial}: NNI takes whole numbers; {remedy}."
        # NNI hands its scheduler this share, and that compares it with >= where > was meant.
        share = self.per_trial / self.per_gpu
        if share >= gpus:
            return (
                f"trialGpuNumber is {self.per_trial:.0f} and this machine has {gpus} GPU(s), which NNI never places: "
                f"{remedy}."
            )
        usable = gpus if self.indices is None else len([i for i in set(self.indices) if 0 <= i < gpus])
        slots = usable * int(1.001 / share) if share < 1 else usable // round(share)
        if self.concurrency > slots:
            use = f"use trialConcurrency: {slots}" if slots else remedy
            return (
                f"{self.concurrency} trials of {self.per_trial:.0f} GPU(s) do not fit {usable} GPU(s) with "
                f"maxTrialNumberPerGpu {self.per_gpu}, and NNI would retry without end: {use}."
            )
        if share < 1 and self.concurrency > 1 and not self.use_active:
            return (
                "Several trials are to share a GPU, but useActiveGpu is not set, so that NNI would wait for the first "
                "to leave it, and retry without end: set useActiveGpu: true."
            )
        return ""
