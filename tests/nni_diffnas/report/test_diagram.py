"""The drawing of a UNet: bars as many as blocks, as long as channels, differences marked."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from nni_diffnas.api.space import Architecture
from nni_diffnas.report.diagram import differences, draw_unet, is_unet, layer_kinds

SVG = "{http://www.w3.org/2000/svg}"
DEFAULT: Architecture = {
    "time_embedding": 64,
    "level0.width": 16,
    "level0.depth": 2,
    "level0.attention": "none",
    "level1.width": 32,
    "level1.depth": 1,
    "level1.attention": "softmax",
    "middle": "attention",
    "heads": 2,
}


def rects(drawing: str, style: str) -> list[ET.Element]:
    return [rect for rect in ET.fromstring(drawing).iter(f"{SVG}rect") if rect.get("class") == style]


def test_every_layer_is_a_bar_as_long_as_it_is_wide() -> None:
    drawing = draw_unet(DEFAULT, DEFAULT)
    blocks = rects(drawing, "block")
    assert len(blocks) == (2 + 3) + (1 + 2) + 2
    lengths = sorted({float(rect.get("width", 0)) for rect in blocks})
    assert lengths[1] == 2 * lengths[0]
    assert len(rects(drawing, "attends")) == (1 + 2) + 1
    assert not rects(drawing, "ghost")
    assert "changed" not in drawing


def test_what_differs_is_marked_with_the_default_s_value() -> None:
    chosen: Architecture = {**DEFAULT, "level0.width": 32, "level1.attention": "none", "middle": "none", "heads": 1}
    drawing = draw_unet(chosen, DEFAULT)
    text = " ".join(ET.fromstring(drawing).itertext())
    for words in ("32 channels (default 16)", "no attention (default softmax)", "no middle block (default attention)"):
        assert words in text
    assert "heads 1 (default 2)" in text
    assert len(rects(drawing, "ghost")) == 2
    assert not rects(drawing, "attends")
    assert set(differences(chosen, DEFAULT)) == {"level0.width", "level1.attention", "middle", "heads"}


def test_one_is_not_true() -> None:
    assert "1 block" in draw_unet({**DEFAULT, "level0.depth": 1}, None)
    assert is_unet(DEFAULT)
    assert not is_unet({"cell/0_1": "conv_3x3"})


def test_other_layers_have_styles_and_names_of_their_own() -> None:
    chosen: Architecture = {
        **DEFAULT,
        "patch": 2,
        "resample": "shuffle",
        "skips": "level",
        "up_depth": "one",
        "level0.block": "gated",
        "level1.block": "convnext",
        "level1.kernel": 5,
        "level0.attention": "linear",
    }
    drawing = draw_unet(chosen, DEFAULT)
    assert len(rects(drawing, "gated")) == 2 + 1
    assert len(rects(drawing, "convnext")) == (1 + 1) + 2, "the middle is of the last level's kind"
    assert len(rects(drawing, "linear")) == 2 + 1
    assert not rects(drawing, "block")
    text = " ".join(ET.fromstring(drawing).itertext())
    for words in ("1/2 size", "1/4 size", "ConvNeXt block 5x5", "5x5 kernels", "one skip of the level, concatenated"):
        assert words in text
    assert "pixels to channels or back" in text
    assert [style for style, _ in layer_kinds(chosen)] == ["gated", "convnext", "linear"]
    assert layer_kinds(DEFAULT) == []


def test_an_architecture_of_version_0_1_is_drawn() -> None:
    older = {**DEFAULT, "level0.attention": False, "level1.attention": True}
    assert draw_unet(older, older) == draw_unet(DEFAULT, DEFAULT)


def test_a_level_that_differs_in_everything_gets_a_line_of_its_own() -> None:
    default = {"level0.width": 16, "level0.depth": 2, "level0.attention": "none"}
    changed = draw_unet({"level0.width": 8, "level0.depth": 1, "level0.attention": "softmax"}, default)
    assert _heights(changed) == [15.0, 15.0, 29.0]  # scale and what fits beside it, then the rest
    assert _heights(draw_unet(default, default)) == [15.0, 15.0]


def _heights(svg: str) -> list[float]:
    return [float(y) for y in re.findall(r'<text[^>]* y="([\d.]+)"', svg)]
