"""Data that change, go, or are made to do harm: said by name, and no run goes on with others."""

import os
import pickle
import shutil
import struct

import commands
import numpy as np
import pytest
from commands import (
    again,
    classify,
    ended,
    measured,
    one_line,
    run,
    start,
    state,
    steps,
    wait_for,
    whole_end,
)
from image_files import coco, pixels, save, voc
from PIL import Image

slow = pytest.mark.slow


def stopped(pictures, path):
    """A run that has a checkpoint, and is stopped."""
    process = start(classify(pictures, path))
    wait_for(lambda: steps(path) > 20, process)
    process.terminate()
    assert ended(process).code == 143


@slow
def test_pictures_changed_between_stop_and_resume(pictures, whole, tmp_path, tried):
    """With equal names and sizes."""
    for file in pictures.rglob("*.png"):  # the same pixels, without a checksum
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    path, file = tmp_path / "run", pictures / "a" / "0.bmp"
    stopped(pictures, path)
    content = file.read_bytes()
    changed = bytearray(content)
    changed[-30] ^= 1
    file.write_bytes(changed)
    one_line(run(again(path)), 2, "began with other data: the files of train")
    tried("data changed between stop and resume")
    file.write_bytes(content)
    whole_end(run(again(path)))
    assert state(path) == whole


@slow
def test_pixels_changed_where_no_sample_is(tmp_path, tried):
    """In the middle of large files, far from the bytes that are sampled."""
    pictures, path = tmp_path / "pictures", tmp_path / "run"
    for k in range(12):
        save(pictures / "ab"[k % 2] / f"{k}.bmp", pixels(200, 200, seed=k))
    stopped(pictures, path)
    for file in pictures.rglob("*.bmp"):
        content = bytearray(file.read_bytes())
        content[8_000:50_000] = b"\xff" * 42_000
        file.write_bytes(content)
    one_line(run(again(path)), 2, "began with other data: the mean and standard deviation of")
    tried("data changed between stop and resume")


@slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_set_removed_under_a_run(pictures, whole, tmp_path, tried, workers):
    path, away = tmp_path / "run", tmp_path / "away"
    more = ("--loader", "streaming", "--workers", workers)
    process = start(classify(pictures, path, *more))
    wait_for(lambda: steps(path) > 20, process)
    pictures.rename(away)
    one_line(ended(process, 60), 2, r"\.png, example \d+: the file does not exist")
    assert commands.saved(path)[-1] >= steps(path) > 20
    one_line(run(again(path)), 2, "pictures")
    away.rename(pictures)
    whole_end(run(again(path)))
    assert state(path) == whole
    tried("data removed under a run", "nothing; 0 steps done again")


@slow
def test_a_number_that_is_none_in_a_batch(tmp_path, tried):
    signal = np.random.default_rng(0).normal(size=(40, 32, 1)).astype(np.float32)
    label = np.arange(40, dtype=np.int32) % 2
    signal[7, 3] = np.nan
    (tmp_path / "run").mkdir()
    np.savez(tmp_path / "set.npz", signal=signal, label=label)
    command = ["experiments/sequence.py", "--data", f"series:{tmp_path / 'set.npz'}", "--steps"]
    command += ["20", "--batch-size", "4", "--workdir", tmp_path / "run"]
    one_line(run(command), 2, r".*signal\[3, 0\]=nan, which is not finite")
    whole_end(run([*command, "--on-corrupt", "skip", "--corrupt-limit", "0.1"]))
    tried("NaN in a batch", "nothing, nothing had begun; or that example, with --on-corrupt skip")


# --- made to do harm -----------------------------------------------------------------------------

BOUND = 2**30
"""Bytes of memory that a refusal may take; JAX alone takes a third of that."""


class Trap:
    """What runs code when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def pickled(file, mark):
    file.with_suffix(".pth").write_bytes(pickle.dumps({"fc.weight": Trap(mark)}))
    return file.with_suffix(".pth"), "is no whole file of torch's"


def pickled_and_renamed(file, mark):
    file.write_bytes(pickle.dumps({"fc.weight": Trap(mark)}))
    return file, "is no safetensors file"


def ten_gigabytes_of_header(file, mark):
    file.write_bytes(struct.pack("<Q", 10 * 2**30) + b'{"a":' + b" " * 1000)
    return file, "is no safetensors file"


def more_than_there_is(file, mark):
    header = b'{"a":{"dtype":"F32","shape":[100000,100000],"data_offsets":[0,40000000000]}}'
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 100)
    return file, "is no safetensors file"


def a_name_that_is_a_path(file, mark):
    header = b'{"../../executed":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    return file, "do not fit resnet18"


HOSTILE = [
    a_name_that_is_a_path, more_than_there_is, pickled, pickled_and_renamed, ten_gigabytes_of_header
]  # fmt: skip


@pytest.mark.parametrize(
    "made", [ten_gigabytes_of_header, *(pytest.param(m, marks=slow) for m in HOSTILE[:-1])]
)
def test_hostile_weights(pictures, tmp_path, tried, made):
    mark = tmp_path / "executed"
    file, words = made(tmp_path / "weights.safetensors", mark)
    command = classify(pictures, tmp_path / "run", "--init-from", file)
    command[command.index("mlp")] = "resnet18"
    end = measured(command)
    assert end.err.startswith("error: init_from="), end
    assert words in end.err
    assert "Traceback" not in end.err
    assert end.code == 2
    assert end.peak < BOUND
    assert not mark.exists()
    assert not (tmp_path / "run" / "config.json").exists()
    tried(f"hostile weights: {made.__name__.replace('_', ' ')}", "nothing, nothing had begun")


@slow
def test_a_hostile_config_executes_nothing(tmp_path, tried):
    """The name of its experiment is imported, and what is imported is executed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"experiment": "this", "data": "digits"}')
    picture = save(tmp_path / "a.png", pixels(8, 8))
    end = run(["experiments/predict.py", tmp_path / "run", picture])
    one_line(end, 2, "a run of this, which has no Config and no build")
    assert "Beautiful is better" not in end.out  # as `import this` says
    tried("a config that names another module")


def test_names_in_a_set_that_lead_out_of_it(tmp_path, tried):
    save(tmp_path / "secret.png", pixels(10, 20))
    coco(tmp_path / "set", [lambda g: g["images"][0].update(file_name="../../secret.png")])
    command = ["experiments/detect.py", "--data", f"coco:{tmp_path / 'set'}", "--steps", "1"]
    one_line(run(command), 2, r"names '\.\./\.\./secret\.png', which lies outside of '.*/set'")
    tried("names that lead out of the set", "nothing, nothing had begun")


def deep(given):
    return b"[" * 100_000


def digits(given):
    return given.replace(b"[1, 2, 3, 4]", b"[1, 2, 3, " + b"9" * 400 + b"]")


def endless(given):
    return given.replace(b'"id": 90', b'"id": ' + b"9" * 5000, 1)


@slow
@pytest.mark.parametrize("change", [deep, digits, endless])
def test_annotations_made_to_do_harm(tmp_path, tried, change):
    file, _ = coco(tmp_path / "set")
    file.write_bytes(change(file.read_bytes()))
    command = ["experiments/detect.py", "--data", f"coco:{tmp_path / 'set'}", "--steps", "1"]
    end = measured(command)
    one_line(end, 2, "is no JSON file of COCO's instances")
    assert end.peak < BOUND
    tried("annotations made to do harm", "nothing, nothing had begun")


@slow
def test_annotations_that_say_no_in_words(tmp_path, tried):
    coco(tmp_path / "set", [lambda g: g["annotations"][2].update(iscrowd="no")])
    command = ["experiments/detect.py", "--data", f"coco:{tmp_path / 'set'}", "--steps", "1"]
    one_line(run(command), 2, "annotation 5 has iscrowd='no', which is neither 0 nor 1")
    tried("a value of another type in annotations", "nothing, nothing had begun")


@slow
def test_an_xml_of_an_unknown_encoding(tmp_path, tried):
    voc(tmp_path / "VOC2012", [*"abcdefgh"], [("cat", (1, 1, 20, 20), 0)], size=(32, 32))
    file = tmp_path / "VOC2012" / "Annotations" / "c.xml"
    file.write_bytes(b'<?xml version="1.0" encoding="odd"?>' + file.read_bytes())
    command = ["experiments/detect.py", "--data", f"voc:{tmp_path / 'VOC2012'}", "--steps", "1"]
    one_line(run(command), 2, r"c\.xml, example \d+: unknown encoding: odd")
    tried("annotations made to do harm", "nothing, nothing had begun")
    shutil.rmtree(tmp_path / "VOC2012")
