"""`RecordedStep`: a GPU need not wait until Python has launched the thousand small kernels of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .batches import Batch

__all__ = ["RecordedStep"]

WARM_UP = 3  # passes on the stream of the recording, as torch's notes on CUDA graphs have it


class RecordedStep:
    """Gradient of a batch's mean loss, and where it points, as one CUDA graph: recorded once, replayed for each batch.

    What is recorded repeats its kernels on the same memory, whatever Python would do: all batches have the shapes of
    the first one, and the way through the network must not depend on its values. Takes about as much memory again as
    an unrecorded step.

    Args:
        gradient: adds the gradient of a batch's mean loss to the parameters' and returns that loss, a scalar.
        direct: replaces gradients by what the weights move along; only recorded, not called with these.
        batch: an example, on a CUDA GPU.
        parameters: that learn; the weights stay as they are.

    Raises:
        RuntimeError: the network waits for the GPU, or its memory does not suffice; there are no gradients then.
    """

    def __init__(
        self,
        gradient: Callable[[Batch], Tensor],
        direct: Callable[[], None],
        batch: Batch,
        parameters: Sequence[Tensor],
    ) -> None:
        self._parameters = parameters
        labels = None if batch.labels is None else batch.labels.clone()
        self._batch = Batch(batch.clean.clone(), batch.noise.clone(), batch.times.clone(), labels)
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._forget()
                    gradient(self._batch)
                self._forget()  # so that the recorded pass makes gradients, at addresses of its own
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._mean = gradient(self._batch)
                direct()
            torch.cuda.current_stream().wait_stream(stream)
            self._gradients = [parameter.grad for parameter in parameters]
        finally:
            self._forget()

    def __call__(self, batch: Batch) -> Tensor:
        """Give the parameters what they move along for this batch; its mean loss, a scalar, is returned."""
        for name in ("clean", "noise", "times", "labels"):
            kept, given = getattr(self._batch, name), getattr(batch, name)
            if kept is not None:
                kept.copy_(given)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._mean.clone()

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
