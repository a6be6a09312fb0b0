from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import sys
from nni_diffnas.process.terminal import show_all
show_all()
print("classes: 猫, k\\udcff")
print("é", file=sys.stderr)
"""


def test_names_of_any_alphabet_are_shown_by_any_terminal() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "classes: \\u732b, k\\udcff\n"
    assert done.stderr == "\\xe9\n"
