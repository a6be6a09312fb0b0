"""What loading a pipeline's parts leaves behind."""

from __future__ import annotations

from diffusers.utils import logging

from nni_diffnas.files.pipeline_parts import silent_diffusers


def test_diffusers_logs_what_it_logged_before() -> None:
    before = logging.get_verbosity()
    with silent_diffusers():
        assert logging.get_verbosity() == logging.CRITICAL
    assert logging.get_verbosity() == before != logging.CRITICAL
