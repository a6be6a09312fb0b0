from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from nni_diffnas.process.terminal import show_all
show_all()
print("classes: 猫, k\\udcff")
print("é", file=sys.stderr)
"""


CLOSED = """
import os, sys
from nni_diffnas.process.terminal import show_all
show_all()
print("nobody reads this", file=sys.stderr)
kept = open(sys.argv[1], "w")
os.write(2, b"a library that writes by number")
assert not sys.stdin.isatty() and not sys.stdin.read()
"""


def test_a_stream_that_was_closed_leads_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    shell = 'exec "$0" -c "$1" "$2" <&- 2>&-'
    done = subprocess.run(["bash", "-c", shell, sys.executable, CLOSED, file], stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout, file.read_text()) == (0, b"", "")


def test_names_of_any_alphabet_are_shown_by_any_terminal() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "classes: \\u732b, k\\udcff\n"
    assert done.stderr == "\\xe9\n"
