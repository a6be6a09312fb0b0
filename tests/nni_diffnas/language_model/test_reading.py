"""A transcript in words: every round, every reason, every score."""

from __future__ import annotations

import json
from pathlib import Path

from chat_server import ChatServer
from gpt_search import GOOD, TOO_BIG, proposer, run, says
from toy_family import score

from nni_diffnas.language_model.reading import render_transcript, shares


def test_a_transcript_is_told_round_by_round(tmp_path: Path) -> None:
    answers = ([{**GOOD[0], "reason": "wide"}], [TOO_BIG], GOOD[1:2], [TOO_BIG])
    with ChatServer(says(*answers)) as server:
        run(proposer(server.url, tmp_path, repairs=1), 3)
    file = tmp_path / "transcript.jsonl"
    text = render_transcript(file)
    assert f"proposed: {json.dumps(GOOD[0])} because: wide -> score {score(GOOD[0])}" in text
    assert "rejected: " in text
    assert "46.0% above the window" in text
    assert text.endswith("3 rounds: 1 proposals at once, 1 after repairs, 1 places filled without the model")


def test_shares_are_counted_by_round() -> None:
    assert shares([(1, 0), (1, 0), (3, 2)], [3, 2]) == [(1, 2, 0, 0), (2, 0, 0, 1), (3, 0, 1, 1)]
