"""`Jobs`: what a door knows of the processes that run trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..api.ending import Ending

__all__ = ["Jobs"]


class Jobs(Protocol):
    """What a door knows of the processes that run trials, by trial id."""

    def results(self) -> Mapping[str, tuple[str, Any]]:
        """Job id and final metrics of every trial that has reported them."""

    def ended(self) -> Mapping[str, str | Ending]:
        """Trials whose process has ended, with the reason of the failure; empty for a success."""

    def to_run_again(self) -> set[str]:
        """Trials that are run again after a resume without being asked for."""
