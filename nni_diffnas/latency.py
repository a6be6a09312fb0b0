"""Latency: measured on a whole network, or added up from a table of its layers' own timings."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .api.cost import Cost
from .api.errors import JobError
from .api.family import Family, Part
from .api.family_view import FamilyView
from .api.space import Value
from .files.whole_file import written_whole

if TYPE_CHECKING:
    import torch

__all__ = ["Latency", "LatencyTable", "TimedFamily", "device_name", "measure_latency"]


@dataclass(frozen=True)
class Latency:
    """One measured latency, and what it was measured on.

    Args:
        median_ms: milliseconds of one forward pass of the whole batch.
        spread_ms: distance between the quartiles of the repeats, in milliseconds.
        repeats: timed passes.
        threads: CPU threads that torch was pinned to.
        device: name of the processor or accelerator.
    """

    median_ms: float
    spread_ms: float
    repeats: int
    threads: int
    device: str


def device_name(device: torch.device | str = "cpu") -> str:
    """What the device calls itself, e.g. ``NVIDIA A100`` or the model name of the processor."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_latency(
    module: torch.nn.Module, *inputs: Any, warmup: int = 5, repeats: int = 20, threads: int = 1, **named_inputs: Any
) -> Latency:
    """Time forward passes without gradients, in evaluation mode, on the device of the inputs.

    Args:
        module: on the same device as the inputs; its training mode is restored.
        *inputs: of one batch; the batch size is the caller's choice.
        warmup: passes before the clock starts.
        repeats: timed passes, at least 2.
        threads: CPU threads to pin torch to while timing.
        **named_inputs: of the same batch.

    Raises:
        ValueError: fewer than 2 repeats, or less than one thread.
    """
    import torch

    if repeats < 2 or threads < 1 or warmup < 0:
        raise ValueError(
            f"Timing with warmup={warmup}, repeats={repeats}, threads={threads}: "
            f"give at least 0, 2 and 1, so that there is a spread to state."
        )
    device = next(given.device for given in (*inputs, *named_inputs.values()) if isinstance(given, torch.Tensor))

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    training = module.training
    module.eval()
    times = []
    with torch.inference_mode(), _pinned(threads):
        for index in range(warmup + repeats):
            finish()
            started = time.perf_counter()
            module(*inputs, **named_inputs)
            finish()
            if index >= warmup:
                times.append(1e3 * (time.perf_counter() - started))
    module.train(training)
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, high - low, repeats, threads, device_name(device))


class LatencyTable:
    """Latency of a network as the sum of its layers', each distinct layer timed once and remembered.

    What is timed on one device, with one number of threads, one batch size and one release of torch, is kept apart
    from all others in the same file.

    Args:
        path: JSON file to remember the timings in; ``None`` keeps them in memory.
        batch: images per pass.
        device: to time on.
        threads: CPU threads to pin torch to.
        warmup, repeats: see `measure_latency`.

    Raises:
        JobError: the file is not a latency table.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        batch: int = 1,
        device: torch.device | str = "cpu",
        threads: int = 1,
        warmup: int = 5,
        repeats: int = 20,
    ) -> None:
        import torch

        self.path = path
        self.batch = batch
        self.device = torch.device(device)
        self.threads = threads
        self.warmup = warmup
        self.repeats = repeats
        place = f"{device_name(device)}, {self.device.type}"
        self.key = f"{place}, {threads} threads, batch {batch}, torch {torch.__version__}"
        self.entries: dict[str, float] = dict(self._read().get(self.key, {}))

    def _read(self) -> dict[str, dict[str, float]]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise JobError(f"{self.path} is not a latency table ({error}): remove it or name another file.") from error
        if not isinstance(content, dict) or not all(isinstance(entries, dict) for entries in content.values()):
            raise JobError(f"{self.path} is JSON, but not a latency table: remove it or name another file.")
        return content

    def _write(self) -> None:
        if self.path is None:
            return
        # Read again: another process may have added its own timings since.
        content = self._read()
        self.entries = {**content.get(self.key, {}), **self.entries}
        content[self.key] = self.entries
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.path) as draft:
            draft.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def measure(self, part: Part) -> Latency:
        """Time one layer now."""
        module = part.build().to(self.device)
        inputs = [tensor.to(self.device) for tensor in part.example(self.batch)]
        return measure_latency(module, *inputs, warmup=self.warmup, repeats=self.repeats, threads=self.threads)

    def estimate(self, parts: Iterable[Part]) -> float:
        """Sum of the layers' medians in milliseconds; times those that are not in the table yet.

        Raises:
            ValueError: there are no layers to add up.
        """
        listed = list(parts)
        if not listed:
            raise ValueError("A network without parts has no additive latency: measure the whole network instead.")
        missing = {repr(part): part for part in listed if repr(part) not in self.entries}
        for name, part in missing.items():
            self.entries[name] = self.measure(part).median_ms
        if missing:
            self._write()
        return sum(self.entries[repr(part)] for part in listed)


class TimedFamily(FamilyView):
    """A family whose costs state the latency too, from a table, so that a budget can bound it.

    Args:
        family: says its `Family.parts`.
        table: of the device that matters.

    Raises:
        JobError: the family cannot say the parts of its networks.
    """

    def __init__(self, family: Family, table: LatencyTable) -> None:
        super().__init__(family)
        self.table = table
        if not family.parts(family.default):
            raise JobError(
                f"{type(family).__name__} knows no latency and cannot say the layers of its networks: budget macs or "
                f"params instead of latency_ms (space 'blockwise' measures it with latency: true)."
            )

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """The family's cost with the table's latency; the first network with a new layer waits for its timing."""
        latency = self.table.estimate(self.family.parts(architecture))
        return replace(self.family.cost(architecture), latency_ms=latency)
