"""Stand-in models of known skill. They see nothing but the text of the prompt, as a language model does.

Run as a program it serves one of them in the chat-completions protocol (``python benchmarks/stand_ins.py mutate``), to
try a search without a key, or to write a transcript. What they propose says nothing about GPT-4.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Architecture = dict[str, Any]

_CHOICE = re.compile(
    r"^- ([^(:]+?)(?: \(.*\))?: one of (\[.*?\](?: / \[.*?\])*)(?:; applies only if .*)?$", re.MULTILINE
)
_RANKED = re.compile(r"^rank \d+: .*?trial (\d+): (\{.*\})$", re.MULTILINE)
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def _number(text: str) -> float:
    found = re.fullmatch(r"([-+]?[\d.]+(?:e[-+]?\d+)?)([kMG]?)", text)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")


def _object(text: str) -> Architecture:
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


class Prompt:
    """What a stand-in can read in the messages."""

    def __init__(self, messages: list[dict[str, str]]) -> None:
        self.text = messages[1]["content"]
        self.choices: dict[str, list[Any]] = {}
        for labels, lists in _CHOICE.findall(self.text):
            names, values = labels.split(", "), [json.loads(each) for each in lists.split(" / ")]
            self.choices |= dict(zip(names, values * (len(names) // len(values)), strict=True))
        asked = re.search(r"Propose (\d+)", messages[-1]["content"])
        self.wanted = int(asked[1]) if asked else 1
        read = [(int(number), json.loads(text)) for number, text in _RANKED.findall(self.text)]
        self.ranked: list[Architecture] = [architecture for _, architecture in read]
        self.ages = [number for number, _ in read]
        told = "\n".join([self.text, *(message["content"] for message in messages[2:])])
        self.seen = {self.key(read) for read in map(_object, re.findall(r"\{[^{}]*\}", told)) if read}

    def key(self, architecture: Architecture) -> str:
        """The same for architectures that agree on all labels."""
        return json.dumps([architecture.get(label) for label in self.choices])

    @cached_property
    def base_cost(self) -> tuple[Architecture, dict[str, float]] | None:
        """The base network and its cost."""
        found = re.search(r"The base network (\{.*?\}) costs (.*?)\. Changing", self.text)
        if found is None:
            return None
        named = (part.rsplit(" ", 1) for part in found[2].split(", "))
        return json.loads(found[1]), {name: _number(value) for name, value in named}

    @cached_property
    def added(self) -> dict[str, dict[str, dict[str, float]]]:
        """By label and value (as JSON), what the choice adds to the base network's cost."""
        table: dict[str, dict[str, dict[str, float]]] = {}
        section = self.text.partition("Changing one choice")[2].partition("\n#")[0]
        names = section.partition("(")[2].partition(";")[0].split("/")
        for label, entries in re.findall(r"^- (\S+?): (.*)$", section, re.MULTILINE):
            for entry in entries.split("; "):
                value, _, costs = entry.rpartition(" ")
                table.setdefault(label, {})[value] = dict(zip(names, map(_number, costs.split("/")), strict=True))
        return table

    @cached_property
    def windows(self) -> dict[str, tuple[float, float]]:
        """Bounds of the budget."""
        found: dict[str, tuple[float, float]] = {}
        for name, bounds in re.findall(r"^(macs|params|latency_ms) must be (.*)\.$", self.text, re.MULTILINE):
            low, high = re.search(r"at least \S+ \((.*?)\)", bounds), re.search(r"at most \S+ \((.*?)\)", bounds)
            found[name] = (float(low[1]) if low else float("-inf"), float(high[1]) if high else float("inf"))
        return found

    def draw(self, rng: random.Random) -> Architecture:
        """A uniformly random architecture; labels that do not apply are named too, and will be ignored."""
        return {label: rng.choice(values) for label, values in self.choices.items()}


class RandomModel:
    """Propose uniformly random architectures."""

    name = "stand-in: uniformly random"

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)

    def propose(self, prompt: Prompt) -> Architecture:
        """One proposal."""
        return prompt.draw(self.rng)

    def lessons(self, prompt: Prompt) -> list[str]:
        """What it has learned."""
        return []

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """Answer in the format that the prompt asks for."""
        if len(messages) < 2:
            return "ready"
        prompt = Prompt(messages)
        proposals: list[Architecture] = []
        for _ in range(200):
            proposal = self.propose(prompt)
            if proposal not in proposals:
                proposals.append(proposal)
            if len(proposals) == prompt.wanted:
                break
        return json.dumps({"lessons": self.lessons(prompt), "proposals": proposals})


class MutatingModel(RandomModel):
    """Change one choice of the best architecture of the memory that has a neighbour not seen in the prompt yet."""

    name = "stand-in: mutates the best entry of the memory"

    def propose(self, prompt: Prompt) -> Architecture:
        """Mutate the best; random without a memory."""
        for parent in prompt.ranked:
            children = [
                {**parent, label: value}
                for label in parent
                for value in prompt.choices[label]
                if value != parent[label] and prompt.key({**parent, label: value}) not in prompt.seen
            ]
            if children:
                child = self.rng.choice(children)
                prompt.seen.add(prompt.key(child))
                return {**prompt.draw(self.rng), **child}  # labels that appear are drawn
        return prompt.draw(self.rng)

    def lessons(self, prompt: Prompt) -> list[str]:
        """Name what the best one has."""
        return [f"The best so far has {json.dumps(prompt.ranked[0])}."] if prompt.ranked else []


class EvolvingModel(RandomModel):
    """Do what `RegularizedEvolution` does, with what can be read: change one choice of the best of some young ones."""

    name = "stand-in: changes the best of four of the sixteen latest entries of the memory"
    POPULATION, SAMPLE = 16, 4

    def propose(self, prompt: Prompt) -> Architecture:
        """A mutation of a tournament's winner; random while there is no population, or where all of it is known."""
        young = sorted(range(len(prompt.ranked)), key=lambda rank: -prompt.ages[rank])[: self.POPULATION]
        for _ in range(50 if len(young) == self.POPULATION else 0):
            parent = prompt.ranked[min(self.rng.sample(young, self.SAMPLE))]
            label = self.rng.choice(list(parent))
            child = {**parent, label: self.rng.choice([v for v in prompt.choices[label] if v != parent[label]])}
            if prompt.key(child) not in prompt.seen:
                prompt.seen.add(prompt.key(child))
                return {**prompt.draw(self.rng), **child}  # labels that appear are drawn
        return prompt.draw(self.rng)


class ObeyingModel(RandomModel):
    """Draw until the stated costs, added up, lie in the stated window."""

    name = "stand-in: obeys the stated costs and window"

    def propose(self, prompt: Prompt) -> Architecture:
        """Rejection sampling on the stated costs; blind where costs or window are not stated."""
        base, added, windows = prompt.base_cost, prompt.added, prompt.windows
        drawn = prompt.draw(self.rng)
        if base is None or not windows:
            return drawn
        for _ in range(300):
            costs = dict(base[1])
            for label, value in drawn.items():
                for name, change in added.get(label, {}).get(json.dumps(value), {}).items():
                    costs[name] += change
            if all(low <= costs.get(name, low) <= high for name, (low, high) in windows.items()):
                return drawn
            drawn = prompt.draw(self.rng)
        return drawn


class LearningModel(ObeyingModel):
    """Learn from the memory what each choice is worth, and propose what is then worth most.

    Bayesian linear regression of the places in the ranking on the choices; each proposal is the best of 200 that obey
    the stated costs, by one draw from the posterior (Thompson sampling).
    """

    name = "stand-in: regresses the ranks of the memory on the choices"
    RIDGE = 1.0  # variance of a rank's noise over that of a choice's worth

    def propose(self, prompt: Prompt) -> Architecture:
        """The best by a draw of the posterior; obedient and random while fewer than four ranks are stated."""
        drawn = [ObeyingModel.propose(self, prompt) for _ in range(200)]
        pool = [architecture for architecture in drawn if prompt.key(architecture) not in prompt.seen]
        if not pool or len(prompt.ranked) < 4:
            return pool[0] if pool else prompt.draw(self.rng)
        goal = np.linspace(1.7, -1.7, len(prompt.ranked))  # best first; of unit variance
        known = np.array([self._features(prompt, architecture) for architecture in prompt.ranked])
        precision = known.T @ known + self.RIDGE * np.eye(known.shape[1])
        noise = np.random.default_rng(self.rng.getrandbits(32)).standard_normal(known.shape[1])
        worth = np.linalg.solve(precision, known.T @ goal) + np.linalg.solve(np.linalg.cholesky(precision).T, noise)
        best = pool[int(np.argmax([self._features(prompt, architecture) @ worth for architecture in pool]))]
        prompt.seen.add(prompt.key(best))
        return best

    def _features(self, prompt: Prompt, architecture: Architecture) -> list[float]:
        return [float(architecture.get(label) == value) for label, values in prompt.choices.items() for value in values]


MODELS: dict[str, type[RandomModel]] = {
    "random": RandomModel,
    "mutate": MutatingModel,
    "evolve": EvolvingModel,
    "obey": ObeyingModel,
    "learn": LearningModel,
}


def main() -> None:
    """Serve a stand-in until interrupted."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
    from chat_server import ChatServer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    model = MODELS[given.model](given.seed)
    with ChatServer(model, name=model.name, port=given.port) as server:
        print(f"{model.name}: {server.url}", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
