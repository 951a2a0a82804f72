"""Contact sheets: every stage of the table, what is drawn, what is refused."""

import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import classify, gallery, imbalance, predict, show_data
from experiments.show_data import STAGES, Config, main, words
from train import augment
from train.augment.kinds import kind
from train.data.source import About
from train.refusal import Refused
from train.report.overlay import LINES

ABOUT = About("x", "train", ("a", "b", "c"), True, (12, 16, 3), (1.0, 2.0, 3.0))


def test_every_augmentation_is_in_the_table():
    no_stages = {"chain", "maybe", "one_of", "Geometric", "Mixing", "Paired", "Pixel"}
    assert set(augment.__all__) - no_stages == set(STAGES)
    for name, stages in STAGES.items():
        assert [kind(name, stage) for stage in stages(ABOUT)]


def test_a_sheet_of_signals(tmp_path):
    lines = [f"{'ab'[k % 2]},{k},1,2,3,4,{-k}" + (",9" if k == 3 else "") for k in range(6)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    shown = {"data": f"series:{tmp_path / 'a.csv'}", "out": tmp_path / "a.png", "examples": 2}
    drawn = main(Config(want="label", seeds="0,3", **shown))
    gap, line, (width, height) = show_data.GAP, show_data.WORDS, (200, 120)
    assert drawn.size == (gap + 3 * (width + gap), gap + line + 2 * (height + line + gap))
    cells = [
        np.asarray(drawn)[gap + line :, gap + c * (width + gap) :][:height, :width].astype(int)
        for c in range(3)
    ]
    assert np.abs(cells[1] - cells[0]).mean() > 1
    assert np.abs(cells[2] - cells[1]).mean() > 1
    assert words({"target": np.array([1.5, -2.0])}, ABOUT) == "1.5, -2"
    with pytest.raises(Refused, match="size=32 is of images"):
        main(Config(want="label", size=32, **shown))
    signals = About("x", "train", ("a", "b"), False, (12, 2), (1.0, 2.0), (1.0, 2.0))
    for name in ("gaussian_noise", "cutout", "random_erasing", "mixup", "time_mask"):
        assert [kind(name, stage) for stage in STAGES[name](signals)]


def test_a_sheet_of_scenes(tmp_path):
    out = tmp_path / "sheets" / "a.png"
    config = Config(stages="flip,brightness", examples=2, seeds="0,3", split="test", out=out)
    drawn = main(config)
    with Image.open(out) as written:
        assert written.size == drawn.size
        found = np.asarray(written)
    side, gap, line = 2 * 96, show_data.GAP, show_data.WORDS
    assert found.shape == (gap + line + 2 * (side + gap), gap + 3 * (side + gap), 3)
    cells = [
        found[gap + line :, gap + c * (side + gap) :][:side, :side].astype(int) for c in range(3)
    ]
    assert np.abs(cells[1] - cells[0]).mean() > 1
    assert np.abs(cells[2] - cells[1]).mean() > 1


def test_boxes_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # no shell reads the ~ of --out=~/b.png
    config = Config(want="boxes", stages="", examples=2, seeds="0", out=pathlib.Path("~/b.png"))
    found = np.asarray(main(config))
    assert (tmp_path / "b.png").exists()
    assert any((found == colour).all(-1).sum() > 20 for colour in LINES)


def test_pictures_of_many_sizes_need_one(tmp_path):
    for i, size in enumerate([(20, 30), (25, 25), (30, 20), (8, 9)]):
        for name in ("cat", "dog"):
            path = tmp_path / "data" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*size, 3), 60 * i, np.uint8)).save(path)
    shown = {"data": f"folder:{tmp_path / 'data'}", "want": "label", "out": tmp_path / "c.png"}
    some = {"examples": 2, "seeds": "1", "stages": "random_resized_crop,mixup"}
    with pytest.raises(Refused, match="many shapes: size=0"):
        main(Config(**shown, **some))
    drawn = main(Config(size=32, **shown, **some))
    assert drawn.size[0] == show_data.GAP + 2 * (160 + show_data.GAP)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.int32(1), "b"),
        (np.array([0.25, 0.0, 0.75], np.float32), "c 0.75, a 0.25"),
    ],
)
def test_classes_in_words(label, said):
    assert words({"label": np.asarray(label)}, ABOUT) == said
    assert words({}, ABOUT) == ""


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"stages": "flipp"}, "flip"),
        ({"seeds": "1,x"}, "seeds"),
        ({"examples": 0}, "examples"),
        ({"first": 10**6, "split": "test"}, "first"),
        ({"want": "label"}, "label"),
        ({"stages": "brightness,flip"}, "geometric"),
    ],
)
def test_what_cannot_be_shown_is_refused(fields, match, tmp_path):
    with pytest.raises((Refused, ValueError), match=match):
        main(Config(out=tmp_path / "x.png", **fields))
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "nothing_like_it"), "nothing_like_it"),
        (("--stages", "brightness,flip"), "stages[1] is geometric"),
        (("--stages", "mixup", "--examples", "2", "--seeds", "0"), "mask"),
        (("--data", "digits", "--want", "label", "--out", "/dev/null/x.png"), "/dev/null"),
    ],
)
def test_errors_are_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    """The script as it is started, in this process: another would import for seconds."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["show_data.py", "--out", str(tmp_path / "x.png"), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(show_data.__file__, run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1


def test_the_gallery_shows_every_stage(tmp_path, monkeypatch):
    few = {name: STAGES[name] for name in ("flip", "brightness", "cutmix", "time_shift")}
    monkeypatch.setattr(gallery, "STAGES", few)
    drawn = gallery.main(gallery.Config(side=24, out=tmp_path / "g.jpg"))
    assert (tmp_path / "g.jpg").stat().st_size > 500
    assert drawn.size[0] == show_data.GAP + gallery.COLUMNS * (24 + show_data.GAP)


def test_the_picture_of_the_documentation_is_drawn_anew_only_when_asked():
    assert gallery.Config().out.parent.name == ""


@pytest.mark.parametrize("script", [show_data, gallery, imbalance, classify, predict])
def test_ctrl_c_ends_a_script_without_a_word(script, tmp_path):
    """While it imports, as one that does so when it is imported shows."""
    for name in ("jax", "numpy"):
        (tmp_path / f"{name}.py").write_text(
            "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
        )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    # In the background of a shell Ctrl-C is ignored, by the tests and by all that they start.
    heard = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    heard += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", heard, script.__file__, "--out", str(tmp_path / "x.png")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
