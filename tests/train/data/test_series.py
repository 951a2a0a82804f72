import numpy as np
import pytest

from train.data.decode import Unreadable
from train.data.named import named
from train.data.reading import sound
from train.data.tables import table
from train.refusal import Refused


def saved(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def signals(source):
    return [source[i]["signal"][..., 0].tolist() for i in range(len(source))]


def test_the_form_of_the_archive_of_ucr(tmp_path):
    saved(tmp_path / "Bell_TRAIN.tsv", "2\t0.5\t1\t-1\n-1\t1\t2\t3\n1.0\t4\t5\t6\n")
    saved(tmp_path / "Bell_TEST.tsv", "-1\t7\t8\t9\n")
    saved(tmp_path / "README.md", "no series")
    train, validation, test = named(f"series:{tmp_path}")
    assert validation is None
    assert train.about.classes == ("-1", "1", "2")  # by number
    assert train.labels.tolist() == [2, 0, 1]
    assert signals(train) == [[0.5, 1, -1], [1, 2, 3], [4, 5, 6]]
    assert train[0].keys() == {"signal", "label"}
    assert (train.about.shape, train.about.ragged) == ((3, 1), False)
    assert (signals(test), test.labels.tolist()) == ([[7, 8, 9]], [0])
    assert (test.about.split, test.about.name) == ("test", tmp_path.name)
    assert test.name(0) == f"{tmp_path / 'Bell_TEST.tsv'}:1"


@pytest.mark.parametrize(
    ("text", "labels", "values"),
    [
        ("v0,Label,v1\n1,b,2\n3,a,4\n", ["b", "a"], [[1, 2], [3, 4]]),
        ("label,0,1\nb,1,2\n\na,3,4\n", ["b", "a"], [[1, 2], [3, 4]]),
        ("class;x;y\nb;1;2\na;3;4\n", ["b", "a"], [[1, 2], [3, 4]]),
        ("b 1  2\na 3  4", ["b", "a"], [[1, 2], [3, 4]]),
        ("\ufeffb,1,2\r\na,3,4\r\n", ["b", "a"], [[1, 2], [3, 4]]),
        ("1.0000000e+00,1,2\n2,3,4", ["1", "2"], [[1, 2], [3, 4]]),
        ("b,1,2,3,,\na,3,,,,\n", ["b", "a"], [[1, 2, 3], [3]]),
        ("\n \nb,1,2\na,3,4\n", ["b", "a"], [[1, 2], [3, 4]]),
        ("label,x,y,\nb,1,2,,\na,3,4\n", ["b", "a"], [[1, 2], [3, 4]]),
    ],
)
def test_csv(tmp_path, text, labels, values):
    found = table(saved(tmp_path / "a.csv", text))
    assert found.labels == labels
    assert [one[:, 0].tolist() for one in found.signals] == values


def test_targets(tmp_path):
    path = saved(
        tmp_path / "a.csv", "x,y,target,target_2\n1,2,3,4\n5,6,7,8\n9,9,9,9\n8,8,8,8\n2,2,2,2"
    )
    train, _, test = named(f"series:{path}", "target")
    assert train.about.targets == ("target", "target_2")
    assert (len(train), len(test)) == (4, 1)
    both = np.stack([part[i]["target"] for part in (train, test) for i in range(len(part))])
    assert sorted(both.tolist()) == [[2, 2], [3, 4], [7, 8], [8, 8], [9, 9]]
    assert both.dtype == np.float32
    first = table(saved(tmp_path / "b.csv", "0.5,1,2\n"), "target")
    assert first.targets.tolist() == [[0.5]]
    assert first.signals[0][:, 0].tolist() == [1, 2]


def test_series_of_several_lengths_are_padded_to_the_longest_of_all_splits(tmp_path):
    saved(tmp_path / "train.csv", "a,1,2\nb,3\n")
    saved(tmp_path / "test.csv", "b,4,5,6\n")
    train, _, test = named(f"series:{tmp_path}")
    assert (train.about.shape, train.about.ragged) == ((3, 1), True)
    assert signals(train) == [[1, 2, 0], [3, 0, 0]]
    assert [int(train[i]["length"]) for i in (0, 1)] == [2, 1]
    assert int(test[0]["length"]) == 3


def test_nan_is_named_with_file_and_line_and_may_be_skipped(tmp_path):
    path = saved(tmp_path / "train.csv", "a,1,2,3\nb,4,nan,6\na,,8,9\nb,1,1,inf\n")
    saved(tmp_path / "test.csv", "a,1,2,3\n")
    source = named(f"series:{tmp_path}").train
    for i, where in (
        (1, r"2, example 1: signal\[1, 0\]=nan"),
        (2, r"3, example 2: signal\[0, 0\]"),
    ):
        with pytest.raises(Unreadable, match=rf"train\.csv:{where}") as refused:
            sound(source, [0, i], None)
        assert "\n" not in str(refused.value)
    examples, found = sound(source, range(4), {})
    assert [one is None for one in examples] == [False, True, True, True]
    assert found[3] == f"{path}:4: signal[2, 0]=inf, which is not finite"


def test_npz_of_channels_lengths_and_names(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    np.savez(
        tmp_path / "train.npz",
        signal=values,
        length=[3, 2, 1, 3],
        label=[1, 0, 1, 2],
        classes=["low", "high", "none"],
        time=[0],
    )
    np.savez(tmp_path / "test.npz", signal=values[:1], label=["none"])
    train, _, test = named(f"series:{tmp_path}")
    assert train.about.classes == ("low", "high", "none")  # as the file has them
    assert (train.about.shape, train.about.ragged) == ((3, 2), True)
    np.testing.assert_array_equal(
        train[1]["signal"], np.array([[6, 7], [8, 9], [0, 0]], np.float32), strict=True
    )
    assert (int(train[1]["length"]), train.labels.tolist()) == (2, [1, 0, 1, 2])
    assert (test.labels.tolist(), test.name(0)) == ([2], f"{tmp_path / 'test.npz'}[0]")


def test_npz_of_targets(tmp_path):
    np.savez(tmp_path / "a.npz", signal=np.zeros((5, 4)), target=np.arange(5))
    train, _, _ = named(f"series:{tmp_path / 'a.npz'}", "target")
    assert (train.about.shape, train.about.targets) == ((4, 1), ("target_0",))
    assert train[0]["target"].shape == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no series"),
        ("a,1,x\nb,1,2\n", r"a\.csv:1 has 'x' as value 2, no number"),
        ("a,1,NA\nb,1,2\n", r"a\.csv:1 has 'NA' as value 2, no number"),
        ("1;1,5;2,5\n2;1,5;2,5\n", r"a\.csv:1 has '1,5' as value 1, no number"),
        ("label,x\na,1,5\nb,2,5\n", r"a\.csv:2 has 3 cells, its header has 2"),
        (",label,x\n0,a,1\n1,b,2\n", r"a\.csv:1 gives its first column no name"),
        ("a,1,2\nb,1,oops\n", r"a\.csv:2 has 'oops' as value 2, no number"),
        ("label,x\n,1\n", r"a\.csv:2 has no label"),
        ("a,1\na,2\n", "has one class, 'a': nothing to tell apart"),
        ("x,y\n1,2\n", r"a\.csv has no label: a column of that name, or, without a header"),
        ("a\nb\n", "has no steps"),
    ],
)
def test_a_csv_file_that_is_refused(tmp_path, text, message):
    with pytest.raises(Refused, match=message) as refused:
        named(f"series:{saved(tmp_path / 'a.csv', text)}")
    assert "\n" not in str(refused.value)


def test_a_series_whose_first_line_is_broken_is_not_lost(tmp_path):
    """Of a file that is predicted, where nothing but the steps is wanted."""
    with pytest.raises(Refused, match=r"a\.csv:1 has 'NA' as value 2"):
        table(saved(tmp_path / "a.csv", "0.1,NA,0.3\n0.1,0.2,0.3\n"), "", 3)


def test_a_class_may_begin_with_dashes(tmp_path):
    path = saved(tmp_path / "a.csv", "--1,1\n2,1\n" * 3)
    assert named(f"series:{path}").train.about.classes == ("--1", "2")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 3))}, "has no array 'signal'; it has x"),
        ({"signal": np.zeros(3)}, r"signal is float64 \(3,\); wanted: numbers"),
        (
            {"signal": np.zeros((2, 3)), "label": np.zeros(3, int)},
            "label has 3 entries, signal has 2 rows",
        ),
        ({"signal": np.zeros((2, 3)), "label": np.zeros(2)}, r"label is float64 \(2,\); wanted"),
        ({"signal": np.zeros((2, 3)), "length": [4, 1]}, r"not \(N,\) integers in 0\.\.3"),
        ({"signal": np.array([[None]])}, "is no .npz file that is read"),
        (
            {"signal": np.zeros((2, 3)), "label": [0, 2], "classes": ["a", "b"]},
            r"a\.npz\[1\] has label 2, outside its 2 classes",
        ),
        ({"signal": np.zeros((2, 3)), "label": [0, 1], "classes": "a"}, "classes a are not"),
        ({"signal": np.zeros((2, 3)), "label": [0, 1], "classes": ["a", "a"]}, "each once"),
        ({"signal": np.zeros((2, 3, 0)), "label": [0, 1]}, r"signal \(2, 3, 0\) has no channels"),
    ],
)
def test_an_npz_file_that_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(Refused, match=message) as refused:
        named(f"series:{tmp_path / 'a.npz'}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "", "b.csv": ""}, "no file to train on, such as train.csv; it has a.csv, b.csv"),
        ({"test.csv": "a,1"}, "no file to train on"),
        ({}, "it has none of .csv, .tsv, .txt, .npz"),
        ({"train.csv": "", "TRAIN.tsv": ""}, "has two files of the train split"),
        ({"train.csv": "a,1\nb,1\n", "test.csv": "c,1"}, r"test\.csv:1 is of class 'c'"),
        ({"train.csv": "a,1\nb,1\n", "test.npz": "c,1"}, r"test\.npz is no \.npz file"),
    ],
)
def test_a_folder_that_is_refused(tmp_path, files, message):
    for name, text in files.items():
        saved(tmp_path / name, text)
    with pytest.raises(Refused, match=message):
        named(f"series:{tmp_path}")


def test_a_file_that_is_not_there_is_no_folder_that_is_not_there(tmp_path):
    with pytest.raises(Refused, match=r"there is no file or folder .*absent\.csv"):
        named(f"series:{tmp_path / 'absent.csv'}")


def test_what_is_no_archive_is_not_advised_to_be_loaded_unsafely(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(Refused, match="it is no archive"):
        table(tmp_path / "a.npz")


def test_a_label_without_a_header_is_a_known_class_where_classes_are_known(tmp_path):
    path = saved(tmp_path / "a.csv", "1,2,3\n0,5,6\n")
    known = table(path, "", classes=("0", "1"))
    assert (known.labels, known.signals[0][:, 0].tolist()) == (["1", "0"], [2, 3])
    for classes in (("1", "2"), ("cat", "dog")):
        assert table(path, "", classes=classes).labels is None
        assert table(path, "", classes=classes).signals[0][:, 0].tolist() == [1, 2, 3]
    assert table(path, "", steps=3, classes=("0", "1")).labels is None


def test_values_are_not_taken_for_classes(tmp_path):
    path = saved(tmp_path / "a.csv", "".join(f"{k / 7:.3f},1,2\n" for k in range(1, 20)))
    with pytest.raises(Refused, match=r"19 classes in 1\d lines, such as .*: without a header"):
        named(f"series:{path}")
