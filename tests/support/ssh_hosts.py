"""Hosts for NNI's remote training service: sshd on the loopback, with keys, configuration and ports of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nni_experiment import free_port

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def missing() -> str:
    """Why there can be no hosts here; empty where there can."""
    absent = [name for name in ("ssh-keygen", "scp") if shutil.which(name) is None]
    return (
        "" if SSHD and not absent else f"no OpenSSH here (missing: {', '.join([*absent, *([] if SSHD else ['sshd'])])})"
    )


def _key(file: Path) -> Path:
    # NNI's ssh client reads keys in the older PEM form.
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


@contextmanager
def _sshd(folder: Path, port: int) -> Iterator[None]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    config = folder / f"sshd_{port}"
    lines = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "key.pub",
        "PidFile": folder / f"sshd_{port}.pid",
        "PermitRootLogin": "yes",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
        "PubkeyAcceptedAlgorithms": "+ssh-rsa",
        "HostKeyAlgorithms": "+ssh-rsa",
        "Subsystem": "sftp internal-sftp",
        "MaxSessions": 50,
    }
    config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    log = folder / f"sshd_{port}.log"
    process = subprocess.Popen([str(SSHD), "-D", "-E", str(log), "-f", str(config)])
    try:
        until = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < until:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def ssh_hosts(folder: Path, count: int) -> Iterator[list[dict[str, Any]]]:
    """Run ``count`` hosts; yields NNI's ``machineList`` for them."""
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(folder / "key")
    _key(folder / "host_key")
    with ExitStack() as stack:
        machines = []
        for _ in range(count):
            port = free_port()
            stack.enter_context(_sshd(folder, port))
            machines.append(
                {
                    "host": "127.0.0.1",
                    "port": port,
                    "user": getpass.getuser(),
                    "sshKeyFile": str(key),
                    "pythonPath": str(Path(sys.executable).parent),
                }
            )
        yield machines
