"""What the check before a search finds: keys, addresses, models, servers that are none."""

from __future__ import annotations

import http.server
import threading
import traceback
from typing import Any

import pytest
from asking import KEY, always, model_at
from chat_server import ChatServer, Fault

from nni_diffnas.api.errors import JobError
from nni_diffnas.language_model import LanguageModelOptions, open_language_model


def test_a_wrong_key_is_found_by_the_check_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(lambda messages: "x", key="another") as server, pytest.raises(JobError) as caught:
        model_at(server).check()
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "base_url" in str(caught.value)
    assert server.url in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_the_check_accepts_a_right_key_and_costs_one_small_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(lambda messages: "ready", key=KEY) as server:
        model = model_at(server)
        model.check()
    assert len(server.requests) == 1
    assert model.ledger.totals().tokens < 20


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ChatServer(lambda messages: "ready") as server:
        model_at(server).check()
    assert len(server.requests) == 1


UNANSWERED = {
    "bad request": (Fault("status", 400, text="extra fields"), "bad_request, HTTP 400: extra fields"),
    "no completion": (Fault("garbage"), "unreadable.*with /v1 at its end"),
    "nothing": (Fault("empty"), "empty.*answer_tokens"),
    "half": (Fault("cut_off", text="rea"), "cut_off.*raise answer_tokens"),
    "a tool": (Fault("tool_call"), "tool_call"),
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_check_that_is_not_answered_fails(kind: str) -> None:
    fault, said = UNANSWERED[kind]
    with ChatServer(lambda messages: "x", always(fault)) as server, pytest.raises(JobError, match=said):
        model_at(server).check()


@pytest.mark.parametrize("fault", [Fault("status", 429), Fault("status", 503)])
def test_a_busy_server_passes_the_check(fault: Fault) -> None:
    with ChatServer(lambda messages: "x", always(fault)) as server:
        model_at(server).check()


def test_a_check_may_think_as_long_as_an_answer() -> None:
    with ChatServer(lambda messages: "ready") as server:
        model_at(server, answer_tokens=1234).check()
    assert server.requests[0]["max_tokens"] == 1234


def test_the_check_finds_a_server_that_is_not_there() -> None:
    with ChatServer(lambda messages: "x") as server:
        url = server.url
    with pytest.raises(JobError, match="base_url"):
        open_language_model(LanguageModelOptions(base_url=url)).check()


def test_the_check_finds_a_wrong_model_name() -> None:
    fault = Fault("status", 404, text="The model `gpt-5000` does not exist.")
    with ChatServer(lambda messages: "x", always(fault)) as server, pytest.raises(JobError, match="gpt-5000"):
        model_at(server, model="gpt-5000").check()


class _Page(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Welcome(_Page):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")


@pytest.mark.parametrize("handler", [_Page, _Welcome])
def test_the_check_finds_a_web_server_that_is_no_language_model(handler: type[_Page]) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with pytest.raises(JobError, match=r"did not answer.*base_url") as caught:
            open_language_model(LanguageModelOptions(base_url=url)).check()
        server.shutdown()
    assert "OPENAI_API_KEY" not in str(caught.value)


@pytest.mark.parametrize("said", ["File Not Found", "Not Found"])
def test_the_check_finds_a_wrong_path(said: str) -> None:
    match = "path of base_url; the path is often /v1"
    fault = always(Fault("status", 404, text=said))
    with ChatServer(lambda messages: "x", fault) as server, pytest.raises(JobError, match=match):
        model_at(server).check()
