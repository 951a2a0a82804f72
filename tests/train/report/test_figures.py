"""Figures: alike whatever the user has set up; and who imports what they are made with."""

import io
import os
import pathlib
import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from train.report.figures import own_settings, png, svg

ROOT = pathlib.Path(__file__).parents[3]


def draw():
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 2], label="a $b$")
    return drawn


def test_svg_and_png():
    drawn, width, height = svg(draw)
    assert (width, height) == (2, 1)
    assert ">1.0</text>" in drawn
    assert svg(draw)[0] == drawn  # byte for byte
    with Image.open(io.BytesIO(png(draw, dpi=50))) as picture:
        assert (picture.format, picture.size) == ("PNG", (100, 50))


def test_settings_of_others_are_left_alone_outside():
    with matplotlib.rc_context({"axes.facecolor": "red", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        with own_settings():
            assert matplotlib.rcParams["axes.facecolor"] == "white"
            assert matplotlib.rcParams["svg.fonttype"] == "none"
        assert dict(matplotlib.rcParams) == before
        assert svg(draw) == svg(draw)
        assert "#ff0000" not in svg(draw)[0]


DRAWN = """
from functools import partial
from train.report.curves import charts, draw
from train.report.figures import svg
lines = [{"kind": "train", "step": i, "epoch": 1, "seconds": 1, "loss": 1.0 + i} for i in range(3)]
print(svg(partial(draw, charts(lines)[0]))[0])
"""


def drawn_with(tmp_path, rc, **environment):
    (tmp_path / "matplotlibrc").write_bytes(os.fsencode(rc))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", DRAWN],
        cwd=ROOT,
        env={**os.environ, "MATPLOTLIBRC": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    out = drawn_with(tmp_path_factory.mktemp("plain"), "")
    assert out.returncode == 0, out.stderr
    return out.stdout


@pytest.mark.parametrize(
    ("rc", "backend"),
    [
        ("text.usetex: True\naxes.facecolor: red\nsvg.fonttype: path\n", ""),
        ("", "module://matplotlib_inline.backend_inline"),
        ("backend: module://nowhere\n", "no such backend"),
        ("# caf\udce9, which is no UTF-8\ntext.usetex: True\n", ""),
        ("no such: setting\nfont.family: [nothing\nfigure.dpi: high\n", ""),
    ],
)
def test_what_the_user_has_set_up_ends_no_run(tmp_path, plain, rc, backend):
    out = drawn_with(tmp_path, rc, MPLBACKEND=backend)
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout == plain
    assert ">loss</text>" in out.stdout


LATE = ("matplotlib", "sklearn", "jinja2", "tensorboardX")


def test_what_only_some_commands_use_is_imported_late():
    modules = (
        "classification", "segmentation", "page", "study", "curves", "figures", "overlay",
    )  # fmt: skip
    names = [f"train.report.{name}" for name in modules]
    names += ["train.logs", "train.events", "train.metrics.ranking", "train.terminal"]
    program = f"import sys, {', '.join(names)}; print([m for m in {LATE} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (out.stdout, out.returncode) == ("[]\n", 0), out.stderr
