"""`predictions.csv`: a line an example, read back with the csv module."""

import csv
import os
import resource

import numpy as np
import pytest

from train.data.source import About
from train.files import WriteFailed
from train.report.predictions import write_predictions
from train.tasks.task import Predictions, Summary

CLASSES = ("cat", 'a "b", c', os.fsdecode(b"caf\xe9"), "two\nlines")


class Source:
    about = About("pets", "test", CLASSES, mirror=True)

    def __len__(self):
        return 4


class Files(Source):
    names = ("b.jpg", "a,b.jpg", os.fsdecode(b"\xff.jpg"), None)

    def name(self, i):
        return self.names[i] and f"/data/pets/test/cat/{self.names[i]}"


def written(path, index, columns, *, source=None, **more):
    table = Predictions(index, columns, **more)
    out = write_predictions(path, Summary({}, {"predictions": table}), source or Source())
    assert out == path / "predictions.csv"
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_line_an_example_in_the_order_of_the_source(tmp_path):
    columns = {
        "truth": np.array([2, 0, 3]),
        "prediction": [1, 0, 0],
        "score": np.float32([0.1234567, 1, np.nan]),
        "boxes": [3, 0, 1],
    }
    found = written(tmp_path, [3, 0, 1], columns, classes=("truth", "prediction"))
    assert found == [
        ["index", "truth", "prediction", "score", "boxes"],
        ["0", "cat", "cat", "1", "0"],
        ["1", r"two\nlines", "cat", "", "1"],  # of the third, which can't be read, there is none
        ["3", r"caf\xe9", 'a "b", c', "0.123457", "3"],
    ]


def test_files_where_there_are_some(tmp_path):
    found = written(tmp_path, range(4), {"miou": [0.5, 1.0, float("inf"), 0]}, source=Files())
    assert found == [
        ["file", "miou"],
        ["test/cat/b.jpg", "0.5"],
        ["test/cat/a,b.jpg", "1"],
        [r"test/cat/\xff.jpg", ""],
        ["3", "0"],
    ]


def test_rows_of_one_example_stay_together_and_in_their_order(tmp_path):
    found = written(tmp_path, [2, 0, 2, 0], {"score": [0.1, 0.2, 0.3, 0.4]})
    assert found[1:] == [["0", "0.2"], ["0", "0.4"], ["2", "0.1"], ["2", "0.3"]]


def test_no_example_no_line(tmp_path):
    assert written(tmp_path, [], {"score": []}) == [["index", "score"]]


def test_a_task_without_predictions_has_no_file(tmp_path):
    assert write_predictions(tmp_path, Summary({}, {}), Source()) is None
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_what_was_there(tmp_path):
    (tmp_path / "predictions.csv").write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
    try:
        with pytest.raises(WriteFailed, match=r"predictions\.csv could not be written"):
            written(tmp_path, [0], {"score": [1.0]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "predictions.csv").read_text() == "before"
