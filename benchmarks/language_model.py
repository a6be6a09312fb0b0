"""A real language model in the loop: SmolLM2-135M behind llama.cpp's server, two workers, sixteen trials.

    python benchmarks/language_model.py search            # 16 trials, two workers
    python benchmarks/language_model.py kills             # the same, the server killed ten times at random moments
    python benchmarks/language_model.py limits            # what is used of limits on tokens
    python benchmarks/language_model.py tools             # whether the model sees and calls a tool that it is offered

Space, budget and options are those of ``examples/gpt/config_local.yml``; trials pass instead of training, at a door
that asks, tells and is woken as the tuner's is. It says what the machinery makes of a model, not what the model is
worth: beside its proposals, as many uniformly drawn ones are judged by the same rule. Both packages of
``docs/tutorials/gpt.md`` are needed. Every search goes to the journal at once; ``--only-report`` reads it alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from llama_server import LlamaServer
from reporting import report

from nni_diffnas.api.cost import Budget
from nni_diffnas.api.family import Family
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.job import load_job
from nni_diffnas.language_model.transcript import read_transcript
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import GPTProposer
from nni_diffnas.strategies.gpt.parsing import read_answer, read_proposal

JOURNAL = Path(__file__).parent / "journals" / "language_model.jsonl"
EXAMPLE = ROOT / "examples" / "gpt"
WORKERS = 2
DRAWS = 1000
"""Uniform ones that are judged beside the proposals; none of so many ever stands in a prompt."""

OUTAGES = ("connection", "timeout", "server_error")


def options(url: str) -> dict[str, Any]:
    """Of the strategy, as the tutorial has them."""
    config = yaml.safe_load((EXAMPLE / "config_local.yml").read_text())
    given: dict[str, Any] = config["tuner"]["classArgs"]
    return {name: value for name, value in {**given, "base_url": url}.items() if name not in ("job", "optimize_mode")}


class Killer(threading.Thread):
    """Kills the server at random moments of a search, and starts it again some seconds later."""

    def __init__(self, server: LlamaServer, moments: Sequence[float], rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.server, self.moments, self.rng = server, sorted(moments), rng
        self.killed = 0

    def run(self) -> None:
        """Kill and start."""
        began = time.monotonic()
        for moment in self.moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            self.server.kill()
            self.killed += 1
            time.sleep(self.rng.uniform(1, 10))
            self.server.start()


def opened(given: argparse.Namespace, url: str, seed: int, **more: Any) -> tuple[Search[GPTProposer], Path]:
    """A search as the tutorial's, and its folder."""
    job, folder = load_job(EXAMPLE / "job.yml"), Path(tempfile.mkdtemp(dir=given.folder))
    family = job.make_family()
    strategy = GPTProposer(
        **{**options(url), **more}, budget=job.make_budget(), objective=job.make_objective(), seed=seed
    )
    return Search(strategy, family.space, family, "sleep", folder=folder), folder


def searched(given: argparse.Namespace, kills: int, seed: int) -> dict[str, Any]:
    """Run one search as a door does that can be woken, and write down what happened."""
    rng, woken, free_since = random.Random(seed), threading.Event(), [time.monotonic()] * WORKERS
    running: dict[str, float] = {}
    idle: list[float] = []
    said = io.StringIO()
    with LlamaServer(context=8192) as server, contextlib.redirect_stdout(said):
        search, folder = opened(given, server.url, seed)
        search.strategy.check()
        search.strategy.wake = woken.set
        killer = Killer(server, [rng.uniform(0, given.seconds * given.trials / WORKERS) for _ in range(kills)], rng)
        killer.start()
        free_since = [time.monotonic()] * WORKERS
        while search.done < given.trials:
            wanted = min(len(free_since), given.trials - len(search.trials))
            for trial in search.ask(wanted) if wanted else ():
                idle.append(time.monotonic() - free_since.pop(0))
                running[trial.id] = time.monotonic() + given.seconds
                print(f"{trial.id} {trial.origin.kind} after {idle[-1]:.1f} s", file=sys.stderr, flush=True)
            woken.wait(max(0.0, min(running.values()) - time.monotonic()))
            woken.clear()
            for ended in [name for name, at in running.items() if at <= time.monotonic()]:
                del running[ended]
                free_since.append(time.monotonic())
                search.tell(ended, {"rfid": rng.random()})
            search.strategy.update(())
        search.strategy.summary()
        killer.join()
    return {"kills": killer.killed, "idle_s": sorted((round(gap, 1) for gap in idle), reverse=True)} | recorded(
        search, read_transcript(folder / "transcript.jsonl"), said.getvalue()
    )


def recorded(search: Search[GPTProposer], entries: Sequence[Mapping[str, Any]], said: str) -> dict[str, Any]:
    """What trials, ledger, transcript and terminal say of a search that has ended."""
    rows = [row for row in search.strategy.language_model.ledger.rows if row.round]
    answered = [entry for entry in entries if entry["event"] == "exchange" and entry["answer"]]
    family = search.family
    assert family is not None
    return {
        "trials": dict(Counter(trial.status for trial in search.trials)),
        "origins": dict(Counter(trial.origin.kind for trial in search.trials)),
        "repaired": sum(entry["step"] > 0 for entry in entries if entry["event"] == "accepted"),
        "questions_s": [round(row.latency_s, 1) for row in rows],
        "outcomes": dict(Counter(row.outcome for row in rows)),
        "answers": [sum(row.outcome in ("ok", "cut_off") for row in rows), len(answered)],
        "outages": outages([row.outcome for row in rows]),
        "told": [said.count("cannot be reached"), said.count("answers again")],
        "judged": judged(answered, family, search.view.budget),
    }


def outages(outcomes: Sequence[str]) -> int:
    """Runs of requests that met no server."""
    down = [outcome in OUTAGES for outcome in outcomes]
    return sum(now and not before for before, now in zip([False, *down], down, strict=False))


def judged(answers: Sequence[Mapping[str, Any]], family: Family, budget: Budget) -> dict[str, float]:
    """Proposals within the budget that stand nowhere in their prompt, beside as many drawn uniformly."""
    space, rng = family.space, np.random.default_rng(0)
    count: Counter[str] = Counter()
    for entry in answers:
        shown = set()
        for text in re.findall(r"\{[^{}]*\}", "\n".join(message["content"] for message in entry["messages"])):
            try:
                architecture, complaints = read_proposal(space, json.loads(text))
            except ValueError:
                continue
            if not complaints:
                shown.add(space.key_of(architecture))
        written = read_answer(entry["answer"], space, cut_off=entry.get("cut_off", False)).proposals
        for proposal in written:
            architecture, complaints = read_proposal(space, proposal)
            count["written"] += 1
            count["valid"] += not complaints
            if complaints:
                continue
            within, new = budget.admits(family.cost(architecture)), space.key_of(architecture) not in shown
            count["within"] += within
            count["new"] += new
            count["within and new"] += within and new
            shown.add(space.key_of(architecture))
    share = np.mean([budget.admits(family.cost(space.sample(rng))) for _ in range(DRAWS)])
    return {**count, "by chance": round(count["written"] * float(share), 2)}


def limited(given: argparse.Namespace, limit: int, url: str, server: LlamaServer) -> dict[str, Any]:
    """Ask until a limit on tokens ends it; what was used of it, by the server's own count."""
    search, folder = opened(given, url, 0, patience_s=600.0, max_tokens=limit)
    strategy = search.strategy
    strategy.check()
    for number in range(given.trials):
        for trial in search.ask(1):
            search.tell(trial.id, {"rfid": float(number)})
    rows = strategy.language_model.ledger.rows
    texts = [
        "".join(message["content"] for message in entry["messages"])
        for entry in read_transcript(folder / "transcript.jsonl")
        if entry["event"] == "exchange" and entry["attempts"]
    ]
    framing = [row.prompt_tokens - server.tokenize(text) for row, text in zip(rows[-len(texts) :], texts, strict=True)]
    return {
        "limit": limit,
        "used": sum(row.prompt_tokens + row.completion_tokens for row in rows),
        "requests": len(rows),
        "framing": [min(framing), max(framing)],
        "estimated": sum(row.estimated for row in rows),
    }


TOOL = {
    "name": "cost",
    "description": "Cost of an architecture, and whether it lies within the budget.",
    "parameters": {
        "type": "object",
        "properties": {"width": {"type": "integer", "enum": [8, 16, 24, 32]}},
        "required": ["width"],
        "additionalProperties": False,
    },
}


def tooled(given: argparse.Namespace, journal: Journal) -> tuple[list[str], list[list[Any]]]:
    """Offer a function that prices an architecture, and say whether the prompt grows by it and it is called."""
    schema = {"name": "answer", "strict": True, "schema": TOOL["parameters"]}
    offered: dict[str, dict[str, Any]] = {
        "nothing": {},
        "a tool": {"tools": [{"type": "function", "function": TOOL}]},
        "a tool, required": {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"},
        "a tool and a schema": {
            "tools": [{"type": "function", "function": TOOL}],
            "response_format": {"type": "json_schema", "json_schema": schema},
        },
    }
    said = "Propose the width of a network (8, 16, 24 or 32) that costs 20 to 60. Call the tool cost before you answer."

    def ask(server: LlamaServer, more: Mapping[str, Any]) -> dict[str, Any]:
        client = OpenAI(base_url=server.url, api_key="none")
        ended = [
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": said}], max_tokens=80, **more
            )
            for _ in range(given.questions)
        ]
        return {
            "prompt": sorted({each.usage.prompt_tokens for each in ended if each.usage}),
            "calls": sum(bool(each.choices[0].message.tool_calls) for each in ended),
            "asked": len(ended),
        }

    if not given.only_report:
        from openai import OpenAI

        with LlamaServer(context=2048) as server:
            for name, more in offered.items():
                journal.once(f"tools/{name}", lambda more=more: ask(server, more))
    found = {name: journal.records[key] for name in offered if (key := f"tools/{name}") in journal.records}
    rows = [[name, each["asked"], each["calls"], each["prompt"]] for name, each in found.items()]
    return ["offered", "questions", "calls", "tokens of the prompt"], rows


def searches(given: argparse.Namespace, journal: Journal, kills: int) -> tuple[list[str], list[list[Any]]]:
    """Searches with as many kills each."""
    rows = []
    for seed in range(given.seeds):
        key = f"search/{kills} kills/{given.trials} trials/{given.seconds:g} s/seed {seed}"
        if given.only_report and key not in journal.records:
            continue
        found = journal.once(key, lambda seed=seed: searched(given, kills, seed))
        origins, seen = found["origins"], found["judged"]
        rows.append(
            [
                seed,
                found["trials"].get("succeeded", 0),
                origins.get("proposal", 0),
                found["repaired"],
                origins.get("mutation", 0) + origins.get("random", 0),
                max(found["idle_s"]),
                f"{found['answers'][1]} of {found['answers'][0]}",
                f"{seen.get('within and new', 0)} of {seen.get('written', 0)}",
                seen["by chance"],
                found["kills"],
                found["outages"],
                f"{found['told'][0]} and {found['told'][1]}",
            ]
        )
    columns = ["seed", "succeeded", "proposals", "repaired", "fillings", "longest idle s", "answers kept"]
    return [*columns, "good", "by chance", "kills", "outages", "told lost and again"], rows


def limits(given: argparse.Namespace, journal: Journal) -> tuple[list[str], list[list[Any]]]:
    """What is used of several limits."""
    wanted = {f"limit/{limit}": limit for limit in given.limits}
    if not given.only_report and not set(wanted) <= set(journal.records):
        with LlamaServer(context=8192) as server:
            for key, limit in wanted.items():
                journal.once(key, lambda limit=limit: limited(given, limit, server.url, server))
    found = [journal.records[key] for key in wanted if key in journal.records]
    names = ["limit", "used", "requests", "framing", "estimated"]
    return names, [[record[name] for name in names] for record in found]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=("search", "kills", "limits", "tools"))
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=180.0, help="of a trial")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limits", type=int, nargs="+", default=[9_000, 12_000, 16_000])
    parser.add_argument("--questions", type=int, default=10, help="for each thing that is offered")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="keeps the experiments")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    journal = Journal(given.journal)
    if given.stage in ("limits", "tools"):
        columns, rows = {"limits": limits, "tools": tooled}[given.stage](given, journal)
    else:
        columns, rows = searches(given, journal, 10 if given.stage == "kills" else 0)
    report(columns, rows, {"benchmark": "language_model", "stage": given.stage, "seconds": given.seconds, "rows": rows})


if __name__ == "__main__":
    main()
