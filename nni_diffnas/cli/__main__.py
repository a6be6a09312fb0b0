"""``python -m nni_diffnas.cli`` is the command, too."""

from . import main

main()
