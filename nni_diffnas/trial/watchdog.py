"""`watched`: a trial that hangs, fails or is replaced ends, and says why."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..api.ending import Ending
from .result_file import TrialRecord, reason_of

__all__ = ["watched"]

_GRACE = 15.0
"""Seconds after the time limit at which a process that not even Python can end is ended from C."""


@contextmanager
def watched(record: TrialRecord, max_seconds: float | None = None) -> Iterator[None]:
    """Claim the trial and watch over it while it runs; an exception becomes the reason of its failure.

    Args:
        record: of the trial.
        max_seconds: wall-clock limit; after it the process writes its reason and the stacks of all threads, and ends.
    """
    record.claim()
    watch = _Watch(record, max_seconds)
    threading.Thread(target=watch.run, daemon=True).start()
    if max_seconds is not None:
        faulthandler.dump_traceback_later(max_seconds + _GRACE, exit=True)
    try:
        yield
    except KeyboardInterrupt:  # so NNI stops a trial; in its records, that looks like a process that was killed
        watch.fail(Ending.STOPPED)
        raise
    except Exception as error:  # whatever it is, its reason has to reach the strategy and the user
        watch.fail(reason_of(error))
        raise
    finally:
        watch.over.set()
        if max_seconds is not None:
            faulthandler.cancel_dump_traceback_later()


class _Watch:
    """Ends the process where the trial has been started again, or takes too long."""

    def __init__(self, record: TrialRecord, max_seconds: float | None) -> None:
        self.record, self.max_seconds, self.started = record, max_seconds, time.monotonic()
        self.over, self._lock = threading.Event(), threading.Lock()

    def fail(self, reason: str | Ending) -> None:
        """Write the reason down; the watch is over."""
        with self._lock:
            self.over.set()
            self.record.fail(reason)

    def run(self) -> None:
        """Look every second, or more often where little time is given, until the trial is over."""
        limit = self.max_seconds
        while not self.over.wait(1.0 if limit is None else min(1.0, limit / 4)):
            if self.record.replaced:
                print("nni-diffnas: this trial has been started again: ending.", file=sys.stderr, flush=True)
                os._exit(3)
            if limit is not None and time.monotonic() - self.started > limit:
                with self._lock:
                    if self.over.is_set():
                        return
                    reason = f"the trial took longer than max_trial_seconds: {limit:g} (its stacks are in stderr)"
                    self.record.fail(reason)
                    print(f"nni-diffnas: the trial failed: {reason}", file=sys.stderr, flush=True)
                    faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
                    os._exit(1)
