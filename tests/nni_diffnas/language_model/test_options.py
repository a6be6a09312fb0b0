"""Options of a language model: what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from nni_diffnas.api.errors import JobError
from nni_diffnas.language_model import LanguageModelOptions, open_language_model


def test_a_missing_key_is_one_sentence_that_names_key_and_address() -> None:
    with pytest.raises(JobError, match=r"OPENAI_API_KEY.*base_url"):
        open_language_model(LanguageModelOptions())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://user:secret@host/v1", "password"),
        ("http://host/v1?api-key=secret", "password"),
        ("host:8000", "address"),
        ("ftp://host", "address"),
    ],
)
def test_an_address_must_be_plain(url: str, said: str) -> None:
    with pytest.raises(JobError, match=said) as caught:
        open_language_model(LanguageModelOptions(base_url=url))
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-gehe\u00efm-0123456789")
    with pytest.raises(JobError, match="OPENAI_API_KEY") as caught:
        open_language_model(LanguageModelOptions())
    assert "gehe" not in str(caught.value)


@pytest.mark.parametrize(
    "option",
    [
        *({"timeout_s": 0}, {"retries": -1}, {"answer_tokens": 1}, {"max_tokens": -1}),
        *({"base_url": 5}, {"prices": 5}, {"temperature": "hot"}, {"max_requests": "many"}),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=next(iter(option))):
        open_language_model(LanguageModelOptions(**{"base_url": "http://localhost:1/v1", **option}))
