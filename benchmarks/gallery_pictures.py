"""Draws the networks of `examples/found` as a report draws them, beside what they are compared with.

    python benchmarks/gallery_pictures.py --output docs/images

One SVG a network, which follows the reader's dark mode.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path

from nni_diffnas.plugins import find_plugin
from nni_diffnas.report.diagram import draw_unet

FOUND = Path(__file__).resolve().parents[1] / "examples" / "found"


def standing_alone(drawing: str) -> str:
    """A drawing of a report with the report's colours and a background of its own."""
    style = (files("nni_diffnas.report") / "templates" / "style.css").read_text()
    head, rest = drawing.split(">", 1)
    return f'{head}><style>{style}</style><rect width="100%" height="100%" fill="var(--paper)"/>{rest}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    for file in sorted(FOUND.glob("*.json")):
        found = json.loads(file.read_text())
        space = dict(found["space"])
        family = find_plugin("spaces", space.pop("type"))(**space)
        drawing = draw_unet(found["architecture"], family.space.validate(family.default))
        target = given.output / f"{file.stem}.svg"
        target.write_text(standing_alone(drawing))
        print(target)


if __name__ == "__main__":
    main()
