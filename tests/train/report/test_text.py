"""Text in pictures: a glyph for every character that a font has, and an escape for the others."""

import base64
import io
import re

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from train.report.text import CJK, FONTS, draw_text, extent, face, pieces, shortened

DEJAVU = FONTS[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cat", [(DEJAVU, "cat")]),
        ("猫", [(CJK, "猫")]),
        ("a 猫犬 б", [(DEJAVU, "a "), (CJK, "猫犬"), (DEJAVU, " б")]),
        ("ネコ고양이！", [(CJK, "ネコ고양이！")]),
        ("ไ\U0001f408", [(DEJAVU, r"\u0e44\U0001f408")]),
        ("caf\udce9\n", [(DEJAVU, r"caf\xe9\n")]),
        ("", []),
    ],
)
def test_every_character_is_drawn_by_a_font_that_has_it(text, found):
    assert pieces(text) == found


def drawn(text, **how):
    picture = Image.new("RGB", (120, 20), "white")
    draw_text(picture, (2, 2), text, **how)
    return np.asarray(picture.convert("L")) < 128


def test_text_stands_where_it_should_and_no_two_characters_are_one_box():
    for text in ("Cat", "猫", "고", "ネ"):
        rows, columns = np.nonzero(drawn(text))
        width, height = extent(text)
        assert columns.min() >= 2
        assert columns.max() < 2 + width + 1
        assert rows.min() >= 2
        assert rows.max() < 2 + height
    assert (drawn("猫") != drawn("犬")).any()
    np.testing.assert_array_equal(drawn("猫 x")[:, :13], drawn("猫")[:, :13])


def test_what_is_too_long_ends_in_an_ellipsis():
    assert shortened("short", 100) == "short"
    cut = shortened("a long name 猫猫猫猫猫", 80)
    assert cut.endswith("…")
    assert "a long name".startswith(cut[:-1][:11])
    assert extent(cut)[0] <= 80 < extent("a long name 猫猫猫猫猫")[0]
    assert shortened("anything", 1) == ""
    assert not drawn("x" * 50, width=60)[:, 63:].any()


def test_a_page_gets_the_glyphs_that_it_shows():
    assert face("cat кот – … ไทย") == ""
    rule = face("<p>猫, 고양이, and 猫</p>")
    assert "font-family: 'WenQuanYi Micro Hei'" in rule
    content = re.search(r"base64,([^)]*)\)", rule)[1]
    with TTFont(io.BytesIO(base64.b64decode(content))) as font:
        assert {*font.getBestCmap()} == {ord(c) for c in "猫고양이"}
    assert rule == face("고양이猫")  # the same glyphs are the same bytes


def test_the_bundled_font_is_what_its_licence_says():
    with TTFont(CJK, lazy=True) as font:
        names = font["name"]
        assert names.getDebugName(1) == "WenQuanYi Micro Hei"
        assert names.getDebugName(13) == "Licensed under the Apache License, Version 2.0"
        characters = font.getBestCmap()
    assert all(c in characters for c in range(0xAC00, 0xD7A4))  # Korean
    assert all(ord(c) in characters for c in "的一是不了人我在有他这中大来上国請龍あアー、。")
    assert CJK.stat().st_size < 4_000_000
