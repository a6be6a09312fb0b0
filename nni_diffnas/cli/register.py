"""``nni-diffnas register``: NNI learns of the strategies."""

from __future__ import annotations

__all__ = ["register"]


def register() -> None:
    """Register all strategies with NNI as tuners, for this environment (or NNI_CONFIG_DIR)."""
    from ..doors.register import register_tuners

    print(f"Registered with NNI: {', '.join(register_tuners())}")
