"""A run whose data have been moved, or changed, or lie elsewhere."""

import json

import numpy as np
import pytest
from image_files import save

from experiments import classify
from train import workdir
from train.data.named import named
from train.place import earlier_prints
from train.refusal import Refused
from train.run import run


def write_set(root):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for i in range(count):
            for j, name in enumerate(("dark", "light")):
                picture = rng.integers(0, 99, (9, 9, 3)) + 150 * j
                save(root / split / name / f"{i}.bmp", picture.astype(np.uint8))


def config(data, path, **fields):
    fixed = {"model": "lenet5", "size": 32, "batch_size": 4, "evaluate_every": 1, "devices": 1}
    return classify.Config(
        **{"steps": 1, "warmup_steps": 0, **fixed, **fields}, data=str(data), workdir=path
    )


def rewrite(file):
    """Other content of the same size."""
    content = file.read_bytes()
    file.write_bytes(content[:60] + bytes(byte ^ 1 for byte in content[60:]))


def test_moved_data_are_named_anew_and_other_data_refused(tmp_path, capsys):
    write_set(tmp_path / "set")
    (tmp_path / "set" / "pred").mkdir()
    path, moved = tmp_path / "run", f"folder:{tmp_path / 'moved'}"
    run(classify, config(f"folder:{tmp_path / 'set'}", path))
    assert "Not used, as no split: pred in" in capsys.readouterr().out

    # As a run of an earlier version, which recorded sizes alone.
    (tmp_path / "set").rename(tmp_path / "moved")
    before = earlier_prints(named(moved))
    record = workdir.read(path, workdir.PROVENANCE)
    assert before.keys() == record["data"].keys() == {"train", "validation", "test"}
    workdir.write(path / workdir.PROVENANCE, {**record, "data": before})
    run(classify, config(moved, path))
    said = json.loads((path / "config.json").read_text())
    assert said["data"] == moved

    for data, fields, words in [
        ("digits", {}, f"data: '{moved}' there, 'digits' asked"),
        (f"voc:{tmp_path / 'moved'}", {}, f"data: '{moved}' there, 'voc:"),
        (f"folder:{tmp_path}", {"steps": 2}, "another config: steps: 1 there, 2 asked"),
    ]:
        with pytest.raises(Refused, match=words):
            run(classify, config(data, path, **fields))

    rewrite(tmp_path / "moved" / "train" / "dark" / "0.bmp")
    (tmp_path / "moved").rename(tmp_path / "other")
    with pytest.raises(Refused, match="began with other data: the files of train, or what is in"):
        run(classify, config(f"folder:{tmp_path / 'other'}", path))
    assert json.loads((path / "config.json").read_text()) == said


def test_seeds_that_are_finished_are_of_the_same_data(tmp_path):
    write_set(tmp_path / "set")
    path = tmp_path / "runs"
    run(classify, config(f"folder:{tmp_path / 'set'}", path, seeds=(0,)))
    rewrite(tmp_path / "set" / "test" / "dark" / "0.bmp")
    with pytest.raises(Refused, match=r"runs/seed_0' began with other data: the files of test,"):
        run(classify, config(f"folder:{tmp_path / 'set'}", path, seeds=(0, 1)))
    assert not (path / "seed_1").exists()
    assert json.loads((path / "config.json").read_text())["seeds"] == [0]
    rewrite(tmp_path / "set" / "test" / "dark" / "0.bmp")
    (tmp_path / "set").rename(tmp_path / "moved")
    run(classify, config(f"folder:{tmp_path / 'moved'}", path, seeds=(0, 1)))
