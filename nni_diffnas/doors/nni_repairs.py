"""What NNI 3.0 does wrong when an experiment starts or is resumed, put right in the processes that host a search."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["await_manager", "await_tuner", "hear_out_resumes", "number_after"]

MANAGER_START = 60
"""Seconds that NNI's manager may take to answer."""


def await_manager() -> None:
    """Let an experiment wait for its manager, which NNI gives three seconds, as long as it has not ended.

    ``nnictl``, which never imports this package, does not wait.
    """
    from nni.experiment import launcher

    check = launcher._check_rest_server
    if hasattr(check, "__wrapped__"):
        return

    @functools.wraps(check)
    def patient(port: int, retry: int = MANAGER_START, url_prefix: str | None = None) -> None:
        from nni.experiment import rest

        until = time.monotonic() + max(retry, MANAGER_START)
        while time.monotonic() < until and not _manager_ended():
            with contextlib.suppress(Exception):
                rest.get(port, "/check-status", url_prefix)
                return
            time.sleep(0.5)
        rest.get(port, "/check-status", url_prefix)

    launcher._check_rest_server = patient


def await_tuner() -> None:
    """Let the managers that this process starts wait two minutes for their tuners, which NNI gives ten seconds.

    A tuner has to import NNI before it connects. ``nnictl``, which never imports this package, does not wait.
    """
    option = f"--require {json.dumps(str(Path(__file__).with_name('patience.js')))}"
    given = os.environ.get("NODE_OPTIONS", "")
    if option not in given:
        os.environ["NODE_OPTIONS"] = f"{given} {option}".strip()


def _manager_ended() -> bool:
    """Whether this process has started managers that are all there no more."""
    import psutil

    states = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name().startswith("node"):
                states.append(child.status())
    return bool(states) and set(states) == {psutil.STATUS_ZOMBIE}


def hear_out_resumes() -> None:
    """Let NNI's NAS channel pass over commands that it does not know.

    The manager sends one to a resumed experiment, the trials that have finished, and the listening thread dies of it:
    no trial would ever be started. `engine.EngineLoop` reads these trials from NNI's records.
    """
    from nni.runtime.tuner_command_channel import TunerCommandChannel

    receive = TunerCommandChannel.receive
    if hasattr(receive, "__wrapped__"):
        return

    @functools.wraps(receive)
    def tolerant(channel: Any) -> Any:
        while True:
            try:
                return receive(channel)
            except ValueError as error:
                if "Unknown command type" not in str(error):
                    raise

    TunerCommandChannel.receive = tolerant


def number_after(highest: int) -> None:
    """Give the trials that the dispatcher starts from now on numbers above ``highest``.

    After a resume it starts again at 0 or after the interrupted trials, whatever has been used. The result of a number
    that was used before is then taken for that of an interrupted trial, or ends the dispatcher with a KeyError, after
    which the manager waits for ever.
    """
    from nni.recoverable import Recoverable
    from nni.runtime import msg_dispatcher

    msg_dispatcher._next_parameter_id = max(msg_dispatcher._next_parameter_id, highest + 1)
    recover = Recoverable.recover_parameter_id
    if hasattr(recover, "__wrapped__"):
        return

    @functools.wraps(recover)
    def keep(dispatcher: Any, data: Any) -> int:
        highest: int = max(recover(dispatcher, data), msg_dispatcher._next_parameter_id - 1)
        return highest

    def is_recovered(dispatcher: Any, parameter_id: int | None) -> bool:
        return parameter_id in dispatcher.recovered_trial_params

    Recoverable.recover_parameter_id = keep
    Recoverable.is_created_in_previous_exp = is_recovered
