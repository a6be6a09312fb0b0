"""The page of a search over HTTP: served to this machine alone, of this moment, until Ctrl-C."""

from __future__ import annotations

import http.client
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nni_experiment import free_port
from searches import run_search

from nni_diffnas.api.errors import JobError
from nni_diffnas.report.serving import PageServer

SERVE = [sys.executable, "-m", "nni_diffnas.cli", "report"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``report --serve`` of a folder in which no search has begun, and its port."""
    (tmp_path / "abc").mkdir()
    command = [*SERVE, str(tmp_path / "abc"), "--serve", "--port", "0"]
    # Of a shell's background it would inherit that Ctrl-C is not heard.
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, urlsplit(line.split()[0]).port or 0
    process.kill()
    process.communicate()


def get(port: int, path: str = "/", host: str = "") -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    return answer, answer.read().decode()


def test_the_page_is_of_this_moment_and_ends_with_ctrl_c(
    served: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = served
    before, said = get(port)
    assert before.status == 503
    assert "holds no search of nni-diffnas" in said
    run_search(tmp_path / "abc")
    after, page = get(port)
    assert after.status == 200
    assert page.count("<html") == 1
    assert "RandomSearch" in page
    assert int(after.headers["Refresh"]) > 0
    assert get(port, host=f"localhost:{port}")[0].status == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["abc"], "no file is written"


def test_other_hosts_and_paths_are_refused(served: tuple[subprocess.Popen[str], int]) -> None:
    _, port = served
    assert get(port, host="example.org")[0].status == 403
    assert get(port, host=f"example.org:{port}")[0].status == 403
    assert get(port, "/abc/memory.sqlite")[0].status == 404
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", port), timeout=10):
        pass


def test_a_port_that_is_in_use_is_a_sentence() -> None:
    port = free_port()
    with PageServer(port, str), pytest.raises(JobError, match=rf"Port {port} cannot be had .*--port"):
        PageServer(port, str)


def test_a_folder_that_is_gone_and_a_browser_that_is_gone_end_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory", "abc")

    with PageServer(0, gone) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        answer, said = get(server.server_port)
        assert answer.status == 503
        assert "No such file or directory" in said
        server.make_page = lambda: "x" * 50_000_000
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as browser:
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            browser.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            browser.recv(10)
        server.make_page = lambda: "still there"
        assert get(server.server_port)[1] == "still there"
        server.shutdown()
        thread.join()
    assert capsys.readouterr().err == ""
