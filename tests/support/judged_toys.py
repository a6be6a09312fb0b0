"""A family with networks by hand and an evaluation whose scores are known, as plug-ins of an installed package."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from toy_family import ToyFamily, score

from nni_diffnas.api.cost import Budget
from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.api.evaluation import Evaluation, TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Value
from nni_diffnas.job import Job

BUDGET = 24_000
"""MACs; the default network needs 32,000, the two by hand 16,000."""

NARROWER: Architecture = {"level0.width": 8, "level0.depth": 2, "attention": False}
SHALLOWER: Architecture = {"level0.width": 16, "level0.depth": 1, "attention": False}
FOUND: Architecture = {"level0.width": 24, "level0.depth": 1, "attention": False}
"""Best within the budget: 3.5, where the default has 8.5, the networks by hand 16.5 and 11.5."""


class ScaledToyFamily(ToyFamily):
    """Two ways to scale the default by hand that keep the budget, and one that does not."""

    def build(self, architecture: Mapping[str, Value]) -> Any:
        from torch import nn

        return nn.Identity()

    def scaled(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        return {"narrower": NARROWER, "shallower": SHALLOWER, "unchanged": self.default}


class KnownScores(Evaluation):
    """Scores of `toy_family.score`, each with an error that its seed decides; every call leaves a line in a file.

    Args:
        data: ``log``, a file; ``scatter``, deviation of the relative error; ``alike``, one score for all networks;
            ``seconds``, to wait; ``ends``, how all trainings end: ``failed`` or ``killed``.
    """

    measures = ("rfid", "loss")

    def __init__(self, data: dict[str, Any], longer: float = 1.0, reference: str = "training") -> None:
        self.data, self.factor, self.reference = data, longer, reference

    @property
    def protocol(self) -> str:
        return f"known/{self.reference}/{self.factor:g}"

    def prepare(self) -> None:
        """Nothing is shared."""

    def held_out(self) -> KnownScores:
        return KnownScores(self.data, self.factor, "held_out")

    def longer(self, factor: float) -> KnownScores:
        return KnownScores(self.data, self.factor * factor, self.reference)

    def evaluate(self, model: Any, context: TrialContext) -> dict[str, float]:
        with Path(self.data["log"]).open("a") as log:
            log.write(f"{context.output.name} {self.protocol} {sorted(context.settings)}\n")
        time.sleep(self.data.get("seconds", 0.0))
        if self.data.get("ends") == "failed":
            raise TrialFailure("no memory")
        if self.data.get("ends") == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        cost = ToyFamily().cost(context.architecture).macs
        rng = np.random.default_rng([context.seed, cost, int(context.architecture["level0.width"])])
        value = 10.0 if self.data.get("alike") else score(context.architecture)
        rfid = value * float(1 + self.data.get("scatter", 0.01) * rng.standard_normal()) / self.factor
        return {"rfid": rfid, "loss": rfid / 100}


def toy_job(log: Path, *, macs: float = BUDGET, **data: Any) -> Job:
    """A job of the two plug-ins, with a budget that forbids the default."""
    return Job.model_validate(
        {
            "space": {"type": "scaled-toy"},
            "data": {"log": str(log), **data},
            "evaluator": {"type": "known"},
            "budget": {"macs": {"max": macs}},
        }
    )


@contextmanager
def installed_toys(site: Path) -> Iterator[None]:
    """Both plug-ins, as if a package offered them, for this process and its children."""
    record = site / "judged_toys-0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: judged-toys\nVersion: 0\n")
    offers = {
        "spaces": ["scaled-toy = judged_toys:ScaledToyFamily"],
        "evaluators": ["known = judged_toys:KnownScores"],
    }
    text = "".join(f"[nni_diffnas.{kind}]\n" + "\n".join(listed) + "\n" for kind, listed in offers.items())
    (record / "entry_points.txt").write_text(text)
    before, added = os.environ.get("PYTHONPATH"), [str(site), str(Path(__file__).parent)]
    os.environ["PYTHONPATH"] = os.pathsep.join([*added, *filter(None, [before])])
    sys.path[:0] = [str(site)]
    try:
        yield
    finally:
        sys.path.remove(str(site))
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
