"""Draws the images of this example: coloured shapes on white. They are ours, under the licence of the repository (MIT).

Run it as ``python examples/images/draw.py``; it writes the folder ``pictures`` anew, the same one every time.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

SIDE, OVERSAMPLING, EACH = 16, 8, 64
COLOURS = ("#c0392b", "#d68910", "#1e8449", "#2471a3", "#7d3c98")
SHAPES = {"circle": 0, "triangle": 3, "square": 4, "star": 10}
"""Corners of each shape; those of a star lie on two circles in turn."""


def draw(corners: int, rng: random.Random) -> Image.Image:
    size = SIDE * OVERSAMPLING
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    radius = rng.uniform(0.28, 0.44) * size
    x, y = (size / 2 + rng.uniform(-0.05, 0.05) * size for _ in range(2))
    colour, turn = rng.choice(COLOURS), rng.uniform(0, 2 * math.pi)
    if corners == 0:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
        radii = [radius * (0.45 if corners == 10 and i % 2 else 1.0) for i in range(corners)]
        pen.polygon(
            [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)], fill=colour
        )
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).quantize(32)


def main() -> None:
    folder = Path(__file__).parent / "pictures"
    for shape, corners in SHAPES.items():
        (folder / shape).mkdir(parents=True, exist_ok=True)
        rng = random.Random(shape)
        for i in range(EACH):
            draw(corners, rng).convert("RGB").save(folder / shape / f"{i:02d}.png", optimize=True)


if __name__ == "__main__":
    main()
