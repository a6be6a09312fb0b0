"""What each process of a pool says of the GPU that it was given."""

from __future__ import annotations

import os
import time
from pathlib import Path


def gpu_of_a_process(meeting: Path, number: int, count: int) -> str:
    """The GPUs that this process shows, once all have come to the meeting: each answer is then another process's."""
    (meeting / str(number)).touch()
    while len(list(meeting.iterdir())) < count:
        time.sleep(0.05)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")
