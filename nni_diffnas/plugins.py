"""Plug-ins: spaces, strategies, evaluators and commands that installed packages offer as entry points.

A package offers one by declaring, in its own ``pyproject.toml``, e.g.
``[project.entry-points."nni_diffnas.strategies"] mine = "my_package:MyStrategy"``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Literal

from .api.errors import PluginError

__all__ = ["SHORT_OF_MEMORY", "Kind", "find_plugin", "plugin_names"]

Kind = Literal["spaces", "strategies", "evaluators", "commands"]

SHORT_OF_MEMORY = "failed to map segment"
"""How the system's loader says that there is no memory for a library."""


def plugin_names(kind: Kind) -> list[str]:
    """Names of all installed plug-ins of a kind, sorted."""
    return sorted({entry.name for entry in entry_points(group=f"nni_diffnas.{kind}")})


def find_plugin(kind: Kind, name: str) -> Any:
    """Import and return the plug-in called ``name``.

    Raises:
        PluginError: no installed package offers it, several do, or its package cannot be imported.
    """
    offered = {entry.value: entry for entry in entry_points(group=f"nni_diffnas.{kind}", name=name)}
    if not offered:
        raise PluginError(
            f"No installed package offers {name!r} among the {kind}: choose one of {', '.join(plugin_names(kind))}, "
            f"or install the package that does."
        )
    if len(offered) > 1:
        raise PluginError(
            f"Several packages offer {name!r} among the {kind} ({', '.join(sorted(offered))}): uninstall all but one."
        )
    (entry,) = offered.values()
    try:
        return entry.load()
    except Exception as error:  # a stranger's module may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        # The system's own refusals (no folder for temporary files, no memory) are no fault of the package.
        remedy = "mend that" if isinstance(error, OSError) or SHORT_OF_MEMORY in str(error) else "repair its package"
        raise PluginError(
            f"Plug-in {name!r} of the {kind} ({entry.value}) cannot be loaded ({reason}): {remedy}."
        ) from error
