"""What a run says of files is what its own evaluation found, for every kind of source and task."""

import csv
import json
import os
import shutil
import signal
import sys

import image_files
import numpy as np
import pytest
from PIL import Image
from tfds_set import write_set

from experiments import classify, evaluate, predict, segment
from experiments.predict import Config, main
from train import cli
from train.averaged import mirrored
from train.data.decode import Unreadable
from train.data.named import named
from train.opened import opened
from train.predict import predictions
from train.refusal import Failed, Refused

SMALL = {"steps": 3, "batch_size": 8, "warmup_steps": 0, "evaluate_every": 3, "devices": 1}
SMALL |= {"learning_rate": 0.01, "ema": 0.0}


def folder(root, counts, classes=("a", "b", "c"), seed=0):
    """Pictures of many shapes; a class is a little brighter than the one before."""
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        for i in range(count):
            height, width = rng.integers(20, 70, 2)
            image = rng.integers(0, 200, (height, width, 3)) + 20 * (i % len(classes))
            path = root / split / classes[i % len(classes)] / f"{i:02}.png"
            image_files.save(path, image.astype(np.uint8))
    return root


def train(data, path, **fields):
    config = classify.Config(data=data, workdir=path, **{**SMALL, "model": "lenet5", **fields})
    classify.main(config)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("set"), {"train": 16, "test": 11})


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A classifier of pictures of many shapes."""
    path = tmp_path_factory.mktemp("run")
    return train(f"folder:{pictures}", path, size=32, validation=0.25)


def summary(path):
    return json.loads((path / "summary.json").read_text())


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(found, classes):
    """Accuracy and loss, from rows of a CSV whose files lie in folders of their classes."""
    truth = [os.path.basename(os.path.dirname(row["file"])) for row in found]
    right = [row["prediction"] == name for row, name in zip(found, truth, strict=True)]
    losses = [-np.log(float(row[f"scores.{name}"])) for row, name in zip(found, truth, strict=True)]
    for row in found:
        scores = [float(row[f"scores.{name}"]) for name in classes]
        assert sum(scores) == pytest.approx(1)
        assert max(scores) == float(row["score"])
    return np.mean(right), np.mean(losses)


def check(path, inputs, classes, out):
    main(Config(paths=(str(path), *map(str, inputs)), out=out))
    accuracy, loss = measured(rows(out), classes)
    assert accuracy == summary(path)["test/accuracy"]
    assert loss == pytest.approx(summary(path)["test/loss"], rel=1e-4)


def test_pictures_of_many_shapes(run, pictures, tmp_path):
    check(run, [pictures / "test"], "abc", tmp_path / "p.csv")
    assert 0 < summary(run)["test/loss"] < 3


def test_pictures_that_are_padded(pictures, tmp_path):
    path = train(f"folder:{pictures}", tmp_path / "run", size=32, by="pad", validation=0.0)
    check(path, [pictures / "test"], "abc", tmp_path / "p.csv")


def written(source, root):
    """The examples of a source as PNGs in folders of their classes."""
    for i in range(len(source)):
        example = source[i]
        name = source.about.classes[int(example["label"])]
        image_files.save(root / name / f"{i:03}.png", example["image"])
    return root


def test_digits_as_files(tmp_path):
    path = train("digits", tmp_path / "run", model="mlp", batch_size=64)
    files = written(named("digits").test, tmp_path / "digits")
    check(path, [files], "0123456789", tmp_path / "p.csv")


def test_a_set_of_one_shape_that_the_device_resizes(tmp_path, monkeypatch, capsys):
    labels = [i % 3 for i in range(24)]
    write_set(tmp_path, "tiny", splits={"train": labels, "test": labels[:9]}, shape=(8, 8, 3))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    path = train("tiny", tmp_path / "run", model="mlp", size=16, validation=0.0)
    test = named("tiny").test
    files = written(test, tmp_path / "files")
    capsys.readouterr()
    check(path, [files], test.about.classes, tmp_path / "p.csv")
    said = "".join(capsys.readouterr())
    assert said.count("brought to what all of tiny are: 8×8 colour images") == 1
    # Of another size or in grey a picture is brought there.
    colour = image_files.pixels(40, 20)
    scores = opened(path).predict([colour, colour[..., 0], colour[..., :1]])
    assert [one.shape for one in scores] == [(3,)] * 3
    np.testing.assert_array_equal(scores[1], scores[2])
    small = Image.fromarray(colour).resize((8, 8), Image.Resampling.BILINEAR, reducing_gap=3.0)
    np.testing.assert_allclose(opened(path).predict([np.asarray(small)])[0], scores[0], atol=1e-5)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """A VOC folder of pictures of two shapes, and a run of a U-Net on it."""
    root, path = tmp_path_factory.mktemp("set") / "VOC2012", tmp_path_factory.mktemp("masks")
    for split, names in {"train": "abcdef", "val": "ghij"}.items():
        for i, name in enumerate(names):
            mask = np.zeros((24, 36) if i % 2 else (50, 20), np.uint8)
            mask[4:14, 5:15] = 1 + i % 2
            mask[0] = 255
            image_files.voc(root, [name], size=mask.shape, mask=mask, split=split)
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.write_text("\n".join(names))
    segment.main(
        segment.Config(
            data=f"voc:{root}", channels=(4, 8), size=32, auxiliary_weight=0.0, validation=0.0,
            workdir=path, **{**SMALL, "batch_size": 4, "steps": 6},
        )
    )  # fmt: skip
    return root, path


def miou(pairs, classes):
    """Of pairs of truth and prediction, over the classes that either has; 255 is not counted."""
    truth, guess = (np.concatenate([one[k].ravel() for one in pairs]) for k in (0, 1))
    truth, guess = truth[truth != 255], guess[truth != 255]
    found = []
    for c in range(classes):
        both, either = np.sum((truth == c) & (guess == c)), np.sum((truth == c) | (guess == c))
        found += [both / either] if either else []
    return np.mean(found)


def test_masks_at_the_size_of_the_pictures(masks, tmp_path):
    root, path = masks
    files = [root / "JPEGImages" / f"{name}.jpg" for name in "ghij"]
    out = tmp_path / "o"
    arguments = {"out": out / "p.jsonl", "masks": out / "masks", "pictures": out / "painted"}
    main(Config(paths=(str(path), *map(str, files)), **arguments))
    pairs = []
    for file in files:
        truth = np.asarray(Image.open(root / "SegmentationClass" / f"{file.stem}.png"))
        with Image.open(out / "masks" / f"{file.stem}.png") as png:
            assert png.mode == "P"
            pairs.append((truth, np.asarray(png)))
        with Image.open(out / "painted" / f"{file.stem}.png") as painted, Image.open(file) as given:
            assert painted.size == given.size
    assert miou(pairs, 21) == pytest.approx(summary(path)["test/miou"], abs=1e-6)
    lines = [json.loads(line) for line in (out / "p.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    share = np.mean(pairs[0][1] == 0)
    assert lines[0]["shares"]["background"] == pytest.approx(share)
    assert sum(lines[0]["shares"].values()) == pytest.approx(1)
    for one, (_, guess) in zip(opened(path).predict(files), pairs, strict=True):
        np.testing.assert_array_equal(one, guess)


def test_the_page_of_masks_once_more(masks, tmp_path):
    _, path = masks
    evaluate.main(evaluate.Config(run=path, out=tmp_path / "own"))
    evaluate.main(evaluate.Config(run=path, split="train", out=tmp_path / "train"))
    found = summary(tmp_path / "own")
    assert {name: found[name] for name in summary(path) if name.startswith("test/")} == {
        name: value for name, value in summary(path).items() if name.startswith("test/")
    }
    assert summary(tmp_path / "train")["train/count"] == 6
    assert "Worst images" in (tmp_path / "own" / "report.html").read_text()


def test_several_runs_give_their_average(run, pictures, tmp_path):
    other = tmp_path / "other"
    train(f"folder:{pictures}", other, size=40, validation=0.25, seed=1)
    test = str(pictures / "test")
    for name, paths in {"one": [run], "two": [other], "both": [run, other]}.items():
        main(Config(paths=(*map(str, paths), test), out=tmp_path / f"{name}.csv"))
    one, two, both = (rows(tmp_path / f"{name}.csv") for name in ("one", "two", "both"))
    assert len(both) == 11
    for a, b, mean in zip(one, two, both, strict=True):
        for c in "abc":
            key = f"scores.{c}"
            assert float(mean[key]) == pytest.approx((float(a[key]) + float(b[key])) / 2, rel=1e-5)


def test_pictures_and_their_mirror_images(run, pictures, tmp_path):
    main(Config(paths=(str(run), str(pictures / "test")), tta=True, out=tmp_path / "p.csv"))
    evaluate.main(evaluate.Config(run=run, tta=True, out=tmp_path / "e"))
    accuracy, loss = measured(rows(tmp_path / "p.csv"), "abc")
    found = summary(tmp_path / "e")
    assert accuracy == found["test/accuracy"]
    assert loss == pytest.approx(found["test/loss"], rel=1e-4)
    assert abs(loss - summary(run)["test/loss"]) > 1e-5
    image = image_files.pixels(32, 32)
    own, other = opened(run).predict([image, np.ascontiguousarray(image[:, ::-1])])
    (both,) = mirrored(opened(run)).predict([image])
    # The host's resizing rounds pixels; a mirror image's by another half.
    np.testing.assert_allclose(both, (own + other) / 2, atol=5e-3)
    assert np.abs(own - other).max() > 1e-3


def test_masks_of_the_same_run_twice_are_its_own(masks, tmp_path):
    root, path = masks
    for name, paths in {"once": [path], "twice": [path, path]}.items():
        where = tmp_path / name
        main(Config(paths=(*map(str, paths), str(root / "JPEGImages" / "[gh].jpg")), masks=where))
    for name in "gh":
        once, twice = ((tmp_path / each / f"{name}.png").read_bytes() for each in ("once", "twice"))
        assert once == twice


def answer(capsys, *paths, **fields):
    """Exit code and what was said."""
    config = Config(paths=tuple(map(str, paths)), **fields)
    code = cli.exit_code(lambda: main(config))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_told(run, tmp_path, capsys):
    sub = tmp_path / "in" / "sub folder"
    good = image_files.save(sub / "good.png", image_files.pixels(9, 30))
    (sub / "a.png").write_bytes(good.read_bytes()[:60])
    (sub / "note.txt").write_text("no picture")
    (sub / "gone.jpg").symlink_to(sub / "nowhere.jpg")
    shutil.copy(good, os.fsencode(sub) + b"/\xff\n.png")
    code, out, err = answer(capsys, run, tmp_path / "in", out=tmp_path / "p.jsonl", top=1)
    assert code == 1
    assert "2 of 4 files can't be read" in err
    assert "a.png: cannot be decoded" in err
    assert "gone.jpg: the file does not exist" in err
    assert "left alone: note.txt" in err
    assert [line.split()[-1].count(".") for line in out.splitlines() if "good.png" in line] == [1]
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line)["file"] for line in lines]
    assert [os.fsencode(os.path.basename(one)) for one in found] == [b"good.png", b"\xff\n.png"]
    assert "\\xff\\n.png  " in out
    with pytest.raises(Unreadable, match=r"a\.png, example 1: cannot be decoded"):
        opened(run).predict([good, sub / "a.png"])
    code, _, err = answer(capsys, run, sub / "a.png")
    assert (code, "1 of 1 files can't be read" in err) == (1, True)


def test_pictures_do_not_write_over_each_other(run, tmp_path):
    given = tmp_path / "in"
    for name in ("x/a.png", "y/a.png", "x/a.bmp", "x/a.png.png"):
        image_files.save(given / name, image_files.pixels(9, 9))
    main(Config(paths=(str(run), str(given)), pictures=given / "out"))
    found = sorted(str(path.relative_to(given / "out")) for path in (given / "out").rglob("*.png"))
    assert found == ["x/a.png", "x/a.png.png", "x/a.png.png.png", "y/a.png"]
    # What was written into the folder is no input.
    main(Config(paths=(str(run), str(given)), pictures=given / "out", out=tmp_path / "p.csv"))
    assert len(rows(tmp_path / "p.csv")) == 4
    with pytest.raises(Refused, match="would write over"):
        main(Config(paths=(str(run), str(given / "x")), pictures=given / "x"))


def test_what_cannot_be_is_refused_in_a_line(run, masks, tmp_path, capsys):
    image = image_files.save(tmp_path / "a.png", image_files.pixels(9, 9))
    (tmp_path / "empty").mkdir()
    for paths, fields, words in (
        ([], {}, "no run is named: it comes first"),
        ([image], {}, "a.png' holds no run: it is no directory (a run comes first, then pictures)"),
        ([run.parent, image], {}, f"holds no run itself; {str(run.parent)!r} holds "),
        ([run], {}, "no picture, folder or pattern is named"),
        ([run, tmp_path / "empty"], {}, "holds no picture"),
        ([run, tmp_path / "b.png"], {}, "does not exist"),
        ([run, tmp_path / "*.jpg"], {}, "no file fits this pattern"),
        ([run, masks[1], image], {}, "it lacks 'a', 'b', 'c'; it alone has 'background'"),
        ([run, image], {"masks": tmp_path / "m"}, "what the run predicts are no masks"),
        ([masks[1], image], {"masks": tmp_path / "m", "pictures": tmp_path / "m"}, "name another"),
    ):
        code, _, err = answer(capsys, *paths, **fields)
        assert (code, len(err.splitlines())) == (2, 1)
        assert words in err
    with pytest.raises(Refused, match=r"out ending='\.txt'"):
        Config(paths=("a",), out=tmp_path / "p.txt")
    with pytest.raises(Refused, match="predict\\(\\[picture\\]\\)"):
        opened(run).predict("a.png")
    with pytest.raises(Refused, match=r"pictures\[0\] is float64"):
        opened(run).predict([np.zeros((3, 3, 3))])


def test_options_may_stand_between_the_run_and_its_pictures(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = [
        "--top",
        "1",
        "--tta",
        run,
        "--out=~/p.csv",
        pictures / "test" / "a",
        "--batch-size",
        3,
    ]
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
    assert cli.command(Config, main, "") == 0
    assert len(rows(tmp_path / "p.csv")) == 4
    monkeypatch.setattr(sys, "argv", ["predict.py", "-h"])
    with pytest.raises(SystemExit) as ended:
        cli.command(Config, main, "")
    assert ended.value.code == 0


def test_a_signal_ends_it_and_what_was_told_stays(run, pictures, tmp_path, monkeypatch):
    def interrupted(*given):
        for one in predictions(*given):
            if one.at == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield one

    monkeypatch.setattr(predict, "predictions", interrupted)
    config = Config(paths=(str(run), str(pictures / "test")), out=tmp_path / "p.csv")
    assert cli.exit_code(lambda: main(config)) == 128 + signal.SIGINT
    assert len(rows(tmp_path / "p.csv")) == 2


def test_runs_of_several_seeds_are_averaged(tmp_path, capsys):
    config = classify.Config(
        data="digits", model="mlp", workdir=tmp_path / "study", seeds=(0, 1),
        **{**SMALL, "steps": 1, "evaluate_every": 1},
    )  # fmt: skip
    classify.main(config)
    image = image_files.save(tmp_path / "a.png", image_files.pixels(32, 32, channels=1))
    capsys.readouterr()
    main(Config(paths=(str(tmp_path / "study"), str(image)), out=tmp_path / "p.jsonl"))
    assert capsys.readouterr().err.count("mlp on digits, step 1: ") == 2
    runs = [opened(tmp_path / "study" / f"seed_{seed}").predict([image])[0] for seed in (0, 1)]
    scores = json.loads((tmp_path / "p.jsonl").read_text())["scores"]
    np.testing.assert_allclose([*scores.values()], np.mean(runs, axis=0), rtol=1e-5)


def test_a_failed_file_ends_with_its_own_error(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(Failed, match="1 of 1"):
        main(Config(paths=(str(run), str(tmp_path))))
