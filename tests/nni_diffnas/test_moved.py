"""Scripts that were written for version 0.1 still import what they name."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import pickle
import nni_diffnas.blocks
from nni_diffnas.cost import Budget, Window
from nni_diffnas.memory import SearchMemory
from nni_diffnas.outcome import Outcome
from nni_diffnas.runner import run_trial
from nni_diffnas.strategy import AskTellStrategy
from nni_diffnas.tuner import DiffNASTuner
from nni_diffnas.api import cost
from nni_diffnas.searching import ranking

assert (Budget, Outcome) == (cost.Budget, ranking.Outcome)
assert pickle.loads(pickle.dumps(Window(max=1.0))) == Window(max=1.0)
"""


def test_a_script_of_version_0_1_imports_what_it_names() -> None:
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", SCRIPT], check=True)


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"nni_diffnas\.never"):
        __import__("nni_diffnas.never")
