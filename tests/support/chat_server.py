"""A server on loopback that speaks the chat-completions protocol and misbehaves on command."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Model = Callable[[list[dict[str, str]]], str]
"""Sees nothing but the messages of the request."""


@dataclass(frozen=True)
class Fault:
    """One way to misbehave.

    Args:
        kind: ``timeout``, ``drip``, ``status``, ``reset``, ``garbage``, ``cut_off``, ``empty``, ``refusal``,
            ``filtered``, ``tool_call``, ``text`` (an answer that no model gave).
        status: for ``status``.
        headers: for ``status``.
        text: of the answer or the error.
        code: of the error.
        seconds: for ``timeout`` and ``drip``.
    """

    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    code: str | None = None
    seconds: float = 5.0


def tokens(text: str, characters: float = 4.0) -> int:
    """The server's own idea of a token: so many characters."""
    return max(1, int(len(text) / characters))


class ChatServer:
    """Serve a stand-in model on a free port of loopback; use as a context manager.

    Args:
        model: turns messages into the text of the answer.
        faults: from the number of the request (from 0) and its body to a fault, or ``None`` for an honest answer.
        name: model name that the server reports.
        schemas: whether the server takes ``response_format``.
        key: that it demands; ``None`` lets everybody in.
        usage: whether it counts tokens.
        characters: of a token.
        context: tokens that a prompt may have; longer ones are rejected in llama.cpp's words.
    """

    def __init__(
        self,
        model: Model,
        faults: Callable[[int, dict[str, Any]], Fault | None] = lambda number, body: None,
        *,
        name: str = "stand-in",
        schemas: bool = True,
        key: str | None = None,
        usage: bool = True,
        port: int = 0,
        characters: float = 4.0,
        context: int | None = None,
    ) -> None:
        self.model, self.faults, self.name = model, faults, name
        self.schemas, self.key, self.usage = schemas, key, usage
        self.characters, self.context = characters, context
        self.requests: list[dict[str, Any]] = []
        self.served: list[str] = []
        self.arrived: list[float] = []
        self.prompt_tokens = self.completion_tokens = 0
        self.outlasted = 0  # faults that went on for as long as they were meant to
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: dict[str, Any]) -> Fault | None:
        """Count a request and decide how it is treated."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.arrived.append(time.monotonic())
            fault = self.faults(number, body)
            self.served.append("ok" if fault is None else fault.kind)
            return fault

    def completion(
        self, body: dict[str, Any], text: str | None, reason: str = "stop", **message: Any
    ) -> dict[str, Any]:
        """Body of an answer; counts its tokens."""
        prompt = tokens("".join(m["content"] for m in body["messages"]), self.characters)
        completion = tokens(text or "", self.characters)
        with self._lock:
            self.prompt_tokens += prompt
            self.completion_tokens += completion
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": self.name,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
            ],
            **({"usage": usage} if self.usage else {}),
        }


class _Handler(BaseHTTPRequestHandler):
    owner: ChatServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _error(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "type": "error", "code": code}}, headers)

    def do_POST(self) -> None:
        owner = self.owner
        if owner.stopping.is_set():  # a connection that outlived the server
            self.close_connection = True
            return None
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = owner.take(body)
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if owner.key is not None and sent != owner.key:
            return self._error(401, f"Incorrect API key provided: {sent}.", "invalid_api_key")
        if body.get("response_format") and not owner.schemas:
            return self._error(400, "'response_format' of type 'json_schema' is not supported with this model.")
        size = tokens("".join(m["content"] for m in body["messages"]), owner.characters)
        if owner.context is not None and size > owner.context:
            said = f"request ({size} tokens) exceeds the available context size ({owner.context} tokens)"
            error = {"code": 400, "message": said, "type": "exceed_context_size_error"}
            return self._send(400, {"error": {**error, "n_prompt_tokens": size, "n_ctx": owner.context}})
        if fault is None:
            return self._send(200, owner.completion(body, owner.model(body["messages"])))
        try:
            self._misbehave(fault, body, sent)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        return None

    def _misbehave(self, fault: Fault, body: dict[str, Any], sent: str) -> None:
        owner = self.owner
        text = fault.text.replace("{key}", sent)
        match fault.kind:
            case "timeout":
                owner.outlasted += not owner.stopping.wait(fault.seconds)
                self.close_connection = True
            case "drip":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "100000")
                self.end_headers()
                until = time.monotonic() + fault.seconds
                while time.monotonic() < until and not owner.stopping.wait(0.02):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                owner.outlasted += not owner.stopping.is_set()
                self.close_connection = True
            case "status":
                self._error(fault.status, text or "made to fail", fault.code, fault.headers)
            case "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "garbage":
                self._send(200, (text or "<html>no JSON here</html>").encode())
            case "cut_off":
                answer = owner.model(body["messages"])
                self._send(200, owner.completion(body, answer[: len(answer) // 2], "length"))
            case "empty":
                self._send(200, owner.completion(body, ""))
            case "refusal":
                self._send(200, owner.completion(body, None, refusal=text or "I cannot help with that."))
            case "filtered":
                self._send(200, owner.completion(body, "", "content_filter"))
            case "tool_call":
                call = {"id": "1", "type": "function", "function": {"name": "run", "arguments": text}}
                self._send(200, owner.completion(body, None, "tool_calls", tool_calls=[call]))
            case "text":
                self._send(200, owner.completion(body, text))
            case kind:
                raise ValueError(f"unknown fault {kind!r}")
