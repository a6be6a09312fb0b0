"""Serves the page of a search to this machine's browser, drawn anew while the search runs."""

from __future__ import annotations

import html
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..api.errors import DiffNASError, JobError
from ..trial.result_file import reason_of

__all__ = ["EVERY", "PageServer"]

HOST = "127.0.0.1"

EVERY = 15
"""Seconds after which a browser asks again."""


class PageServer(ThreadingHTTPServer):
    """One page at ``/``, for browsers on this machine alone.

    A request that names another host is refused: a page of the web could otherwise have its own name lead here, and
    read what its visitors may see.

    Args:
        port: to listen on, on 127.0.0.1; 0 takes one that is free.
        make_page: draws the page as HTML; what it raises on purpose is shown as a sentence until it succeeds.

    Raises:
        JobError: the port is in use, or forbidden.
    """

    daemon_threads = True
    allow_reuse_port = False  # a second server on the port is to be refused

    def __init__(self, port: int, make_page: Callable[[], str]) -> None:
        self.make_page = make_page
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise JobError(f"Port {port} cannot be had ({error.strerror}): choose another with --port.") from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request from this machine calls it."""
        return tuple(f"{name}:{self.server_port}" for name in (HOST, "localhost"))


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """Answer with the page, or say why not."""
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, f"Open {self.server.address} on this machine.")
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, f"There is one page: {self.server.address}.")
        else:
            try:
                page = self.server.make_page()
            except (DiffNASError, OSError) as error:  # folders are moved and deleted while somebody looks
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, reason_of(error))
            else:
                self._send(HTTPStatus.OK, page)

    def _answer(self, status: HTTPStatus, sentence: str) -> None:
        self._send(
            status, f'<!doctype html><meta charset="utf-8"><title>{status.phrase}</title>{html.escape(sentence)}'
        )

    def _send(self, status: HTTPStatus, page: str) -> None:
        body = page.encode("utf-8", errors="backslashreplace")
        self.send_response(status)
        headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Refresh": str(EVERY)}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # the browser has gone to another page
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line for every refresh would fill the terminal."""
