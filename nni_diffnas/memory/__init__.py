"""The search memory: a crash-safe journal of all trials in one SQLite file."""

from .journal import Event as Event
from .search_memory import SearchMemory as SearchMemory

__all__ = ["Event", "SearchMemory"]
