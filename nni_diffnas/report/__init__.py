"""The face of a search: one self-contained page of an experiment, and several experiments side by side."""

from .compare import Comparison, compare
from .page import render_report
from .source import Source, read_source

__all__ = ["Comparison", "Source", "compare", "read_source", "render_report"]
