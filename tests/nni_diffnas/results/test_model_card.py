"""The model card says what was searched and how it was scored, and leaves the licence open."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import yaml

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.trial import BY_HAND, Objective, Origin, Trial
from nni_diffnas.job import Job
from nni_diffnas.results.model_card import write_card
from nni_diffnas.results.verdict import Judged, Verdict

JOB = Job.model_validate(
    {
        "space": {"type": "unet", "preset": "digits"},
        "data": {"source": "my|images"},
        "evaluator": {"type": "diffusion"},
        "budget": {"macs": {"max": 6e6}},
    }
)


def test_card_names_data_budget_scores_protocol_and_verdict(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"unet": ["diffnas_unet", "DiffNASUNet"]}))
    kinds = [("default", 5.5), ("mutation", 4.25), (BY_HAND, 4.75)]
    trials = []
    for i, (kind, value) in enumerate(kinds):
        origin = Origin("RegularizedEvolution", kind)
        trial = Trial(f"e-{i}", "e", {"level0.width": 8 * (i + 1)}, origin, protocol="rfid/x/1000")
        trials.append(trial.succeeded({"rfid": value}))
    best = replace(trials[1], cost=Cost(4_000_000, 100_000))
    judged = [("winner", (4.0, 4.1)), (BY_HAND, (5.0, 5.1)), ("default", (4.5, 4.1))]
    verdict = Verdict(Objective(), tuple(Judged(kind, kind, scores) for kind, scores in judged), tmp_path)
    text = write_card(tmp_path, JOB, best, [*trials, trials[0].failed("no")], verdict).read_text()
    matter = yaml.safe_load(text.split("---")[1])
    assert matter["license"] is None
    assert matter["library_name"] == "diffusers"
    for words in (
        "trust_remote_code=True",
        "source my\\|images",
        "macs in [-inf, 6e+06]",
        "RegularizedEvolution (this network: mutation)",
        "4, of which 1 failed",
        "| rfid | 4.25 |",
        "`rfid/x/1000`",
        "The default network it was compared with: rfid 5.5",
        "The network by hand it was compared with: rfid 4.75",
        "The network found has 0.80 times the rfid of the best by hand (95 % interval",
        "  by hand  5.05  (5, 5.1)",
        "| level0.width | 16 |",
        "| nni | 3.0 |",
    ):
        assert words in text, words
