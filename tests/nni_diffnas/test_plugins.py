"""Plug-ins of a real third-party package, built and installed into a folder of its own, and found by entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nni_diffnas.api.errors import PluginError
from nni_diffnas.plugins import find_plugin, plugin_names

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "somebody-elses-search"
version = "1.0"

[tool.setuptools]
packages = ["somebody"]

[project.entry-points."nni_diffnas.strategies"]
Somebodys = "somebody.strategy:Somebodys"
Forgotten = "somebody.strategy:Forgotten"
Exploding = "somebody.exploding:Strategy"
Unparsable = "somebody.unparsable:Strategy"
Unmet = "somebody.unmet:Strategy"
Refused = "somebody.refused:Strategy"
Missing = "somebody.missing:Strategy"
RandomSearch = "somebody.strategy:Somebodys"

[project.entry-points."nni_diffnas.spaces"]
line = "somebody.space:Line"

[project.entry-points."nni_diffnas.evaluators"]
length = "somebody.evaluator:Length"
"""

MODULES = {
    "__init__": '"""A package that nni-diffnas has never heard of."""',
    "strategy": "class Somebodys:\n    name = 'mine'\n",
    "exploding": "raise RuntimeError('no licence\\nfound')\n",
    "unparsable": "class Strategy\n",
    "refused": "raise FileNotFoundError(2, 'No usable temporary directory found')\n",
    "unmet": "import a_package_that_is_not_installed\n",
    "space": """
from nni_diffnas.api.cost import Cost
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Space


class Line(Family):
    space = Space({"width": (1, 2, 4)})
    default = {"width": 2}

    def build(self, architecture):
        import torch

        width = self.space.validate(architecture)["width"]
        return torch.nn.Linear(width, width)

    def cost(self, architecture):
        width = self.space.validate(architecture)["width"]
        return Cost(width * width, width * width + width)
""",
    "evaluator": """
from pathlib import Path

from nni_diffnas.api.evaluation import Evaluation


class Length(Evaluation):
    protocol = "length"

    def __init__(self, data: dict, scale: str = "", rulers: "list[Path]" = ()):
        self.scale, self.rulers = scale, rulers

    def prepare(self):
        pass

    def evaluate(self, model, context):
        context.report({"length": 0.0})
        return {"length": float(sum(p.numel() for p in model.parameters()))}
""",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the third-party package, without the network."""
    source = tmp_path_factory.mktemp("source")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "somebody").mkdir()
    for name, text in MODULES.items():
        (source / "somebody" / f"{name}.py").write_text(text)
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--target", str(site)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True, cwd=source
    )
    return site


def run(site: Path, code: str) -> str:
    """Output of a Python process that has the third-party package on its path."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=site, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(site: Path, name: str) -> str:
    """The sentence with which a strategy is refused in a process that has the third-party package."""
    return run(
        site,
        "from nni_diffnas.api.errors import PluginError\n"
        "from nni_diffnas.plugins import find_plugin\n"
        f"try: find_plugin('strategies', {name!r})\n"
        "except PluginError as error: print(error)",
    )


def test_the_three_kinds_of_plug_in_are_found_by_name(site: Path) -> None:
    code = """
import json
from pathlib import Path
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.plugins import find_plugin, plugin_names

family = find_plugin("spaces", "line")()
evaluation = find_plugin("evaluators", "length")({})
reports = []
context = TrialContext(family.default, Path("."), report=reports.append)
metrics = evaluation.evaluate(family.build(family.default), context)
strategy = find_plugin("strategies", "Somebodys").name
print(json.dumps([metrics, reports, family.cost(family.default).params, strategy, plugin_names("spaces")]))
"""
    metrics, reports, params, strategy, spaces = json.loads(run(site, code))
    assert metrics == {"length": params}
    assert reports == [{"length": 0.0}]
    assert strategy == "mine"
    assert "line" in spaces
    assert spaces == sorted(spaces)


def test_paths_of_a_plug_in_start_at_the_job_as_its_types_say(site: Path, tmp_path: Path) -> None:
    job = """
    space: {type: line}
    evaluator: {type: length, scale: steel, rulers: [short.txt, /long.txt]}
    objective: {metric: length}
    """
    (tmp_path / "job.yml").write_text(job)
    code = f"""
from nni_diffnas.job import load_job

evaluation = load_job({str(tmp_path / "job.yml")!r}).make_evaluation()
print(evaluation.scale, *evaluation.rulers)
"""
    assert run(site, code).split() == ["steel", str(tmp_path / "short.txt"), "/long.txt"]


def test_finding_one_plug_in_imports_no_other(site: Path) -> None:
    code = """
import sys
from nni_diffnas.plugins import find_plugin, plugin_names

plugin_names("strategies")
find_plugin("evaluators", "length")
print(sorted(name for name in sys.modules if name.split(".")[0] in ("somebody", "torch", "nni")))
"""
    assert run(site, code).strip() == "['somebody', 'somebody.evaluator']"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Forgotten", "AttributeError: module 'somebody.strategy' has no attribute 'Forgotten'"),
        ("Exploding", "RuntimeError: no licence found"),
        ("Unparsable", "SyntaxError: expected ':'"),
        ("Unmet", "No module named 'a_package_that_is_not_installed'"),
        ("Refused", "[Errno 2] No usable temporary directory found"),
        ("Missing", "No module named 'somebody.missing'"),
    ],
)
def test_a_broken_plug_in_is_refused_in_one_sentence(site: Path, name: str, reason: str) -> None:
    sentence = refusal(site, name)
    assert sentence.startswith(f"Plug-in {name!r} of the strategies (somebody.")
    assert reason in sentence
    assert sentence.endswith("mend that.\n" if name == "Refused" else "repair its package.\n")
    assert sentence.count("\n") == 1


def test_an_unknown_plug_in_is_refused_beside_the_known_ones(site: Path) -> None:
    sentence = refusal(site, "Nobodys")
    assert sentence.startswith("No installed package offers 'Nobodys' among the strategies: choose one of ")
    assert "Exploding, " in sentence
    assert "Somebodys" in sentence
    assert sentence.count("\n") == 1


def test_a_name_that_two_packages_offer_is_refused(site: Path) -> None:
    assert refusal(site, "RandomSearch") == (
        "Several packages offer 'RandomSearch' among the strategies "
        "(nni_diffnas.strategies.random_search:RandomSearch, somebody.strategy:Somebodys): uninstall all but one.\n"
    )


def test_without_the_package_its_plug_ins_are_unknown() -> None:
    assert "line" not in plugin_names("spaces")
    with pytest.raises(PluginError, match="No installed package offers 'line' among the spaces") as raised:
        find_plugin("spaces", "line")
    assert isinstance(raised.value, LookupError)
