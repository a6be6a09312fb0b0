"""Rule 3 of the design: a tuner-door trial imports only what training needs, since it starts once per architecture."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import trial_overhead

TRIAL = """
import json, sys
import nni
import nni_diffnas.trial.run
from nni_diffnas.plugins import find_plugin

family = find_plugin("spaces", "unet")()
find_plugin("evaluators", "diffusion")
import torch
with torch.device("meta"):
    family.build(family.default)
print(json.dumps(sorted(sys.modules)))
"""

HEAVY = ("nni.nas", "pytorch_lightning", "lightning", "botorch", "gpytorch", "openai", "sklearn")


def test_a_trial_imports_only_what_training_needs() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", TRIAL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"nni", "torch", "nni_diffnas.trial.run"} <= loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_a_trial_has_imported_nothing_heavy_by_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trial_overhead.py", "--pairs", "0"])
    trial_overhead.main()


def test_a_heavy_module_in_a_trial_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trial_overhead.py", "--pairs", "0"])
    monkeypatch.setattr(trial_overhead, "NEEDED", ())
    with pytest.raises(SystemExit, match=r"A trial imports diffusers.* by its first step"):
        trial_overhead.main()
