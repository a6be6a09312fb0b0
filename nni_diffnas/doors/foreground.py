"""One search from its NNI config to its end, in the foreground: ``nnictl create`` with patience.

``nnictl`` gives its manager three seconds to start, and the manager gives the tuner ten. A busy machine takes longer,
and ``nnictl`` dies in a traceback. Here both get minutes, a start that came to nothing is told and tried again, and a
manager that is slow to answer later is no end of the search.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..api.errors import JobError, StrategyError
from .nni_repairs import await_manager, await_tuner

__all__ = ["follow", "interruptible", "run_config", "start"]

ATTEMPTS = 3
"""Starts of an experiment."""

_LOOK = 2.0
"""Seconds between two looks at an experiment."""


def run_config(path: Path, port: int = 8080, debug: bool = False, url_prefix: str | None = None) -> str:
    """Start the experiment of a config, follow it to its end and stop its manager.

    Args:
        path: of the NNI config, which the doctor has passed.
        port: of NNI's web server.
        debug: let NNI write its log in full.
        url_prefix: of NNI's web server.

    Returns:
        The experiment's id.

    Raises:
        JobError: the experiment could not be started, or was stopped before its end.
        StrategyError: it ended as a failure.
    """
    await_manager()
    await_tuner()
    with interruptible():
        experiment = start(path, port, debug, url_prefix)
        # NNI numbers experiments itself, and its web UI, 'nnictl' and our commands call this one so.
        identity = str(experiment.id)
        again = f"'nnictl resume {identity} --port {port} --foreground' goes on with what is done"
        try:
            ended = follow(experiment)
        except KeyboardInterrupt as interrupt:
            raise JobError(f"Search {identity} was interrupted: {again}.") from interrupt
        finally:
            _stop(experiment)
    if ended == "DONE":
        return identity
    if ended in ("STOPPED", "STOPPING"):
        raise JobError(f"Search {identity} was stopped before its end: {again}.")
    raise StrategyError(f"Search {identity} ended as a failure ({ended}): mend that, then {again}.")


def start(path: Path, port: int, debug: bool, url_prefix: str | None) -> Any:
    """Start the experiment of a config, if need be several times.

    Raises:
        JobError: it has not started.
    """
    from nni.experiment import Experiment, RunMode
    from nni.experiment.config import ExperimentConfig

    for attempt in range(1, ATTEMPTS + 1):
        experiment = Experiment(ExperimentConfig.load(path))
        experiment.url_prefix = url_prefix
        try:
            experiment.start(port, debug, RunMode.Foreground)
            return experiment
        except KeyboardInterrupt:
            _stop(experiment)
            raise
        except Exception as error:  # of NNI, of requests, of the operating system
            _stop(experiment)
            reason = " ".join(str(error).split())[:300]
            if attempt < ATTEMPTS:
                print(f"nni-diffnas: NNI's manager did not start ({reason}): trying again.", flush=True)
    raise JobError(
        f"NNI's manager did not start in {ATTEMPTS} attempts ({reason}): see the log in {experiment.id} below the "
        f"config's experimentWorkingDirectory, and start again when the machine is less busy."
    )


def follow(experiment: Any) -> str:
    """Wait until an experiment has ended.

    Returns:
        ``DONE`` or ``STOPPED`` as NNI says it; otherwise what went wrong.
    """
    from nni.experiment import rest

    while True:
        try:
            answer = rest.get(experiment.port, "/check-status", experiment.url_prefix)
        except Exception:  # of requests and of NNI's JSON: a manager that is busy, that is ending or that is gone
            code = experiment._proc.poll()
            if code is not None:
                return "STOPPED" if code == 0 else f"NNI's manager ended with code {code}"
        else:
            if answer["status"] in ("DONE", "STOPPED"):
                return str(answer["status"])
            if answer["status"] == "ERROR":
                return " ".join("; ".join(map(str, answer["errors"] or ["no reason was given"])).split())
        time.sleep(_LOOK)


def _stop(experiment: Any) -> None:
    """Stop an experiment's manager, if there is one; what NNI finds wrong with that, it logs."""
    process = experiment._proc
    if process is not None and process.poll() is not None:  # NNI would ask it, and log a traceback
        experiment._proc = None
    with contextlib.suppress(Exception):
        experiment.stop()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Take a closed terminal and a polite kill for Ctrl-C: the search is stopped, and can be resumed."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = (n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN)  # as by nohup
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
