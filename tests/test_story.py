"""The three methods in one memory and one report, as the example tells it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from diffusers import DDPMPipeline

from nni_diffnas.memory import SearchMemory

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "story"


def test_proposals_guided_trials_and_the_student_share_one_memory_and_one_report(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("story", EXAMPLE / "story.py")
    assert found is not None
    assert found.loader is not None
    story = importlib.util.module_from_spec(found)
    found.loader.exec_module(story)
    page = story.tell(tmp_path, 256, 3, 1, 10, replay=str(EXAMPLE / "transcript.jsonl"))
    with SearchMemory(tmp_path / "memory.sqlite", create=False) as memory:
        trials = memory.trials()
    kinds = {(trial.origin.strategy, trial.origin.kind) for trial in trials}
    assert {("GPTProposer", "default"), ("GPTProposer", "proposal")} <= kinds
    assert {("BlockwiseLocalSearch", "reference"), ("BlockwiseLocalSearch", "block")} <= kinds
    assert any(strategy == "DiffusionGuided" for strategy, _ in kinds)
    assert all(trial.status == "succeeded" for trial in trials)
    text = page.read_text()
    for strategy, kind in kinds:
        assert strategy in text
        assert kind in text
    student = DDPMPipeline.from_pretrained(tmp_path / "student", trust_remote_code=True)
    teacher = DDPMPipeline.from_pretrained(tmp_path / "teacher")
    assert sum(p.numel() for p in student.unet.parameters()) < sum(p.numel() for p in teacher.unet.parameters())
