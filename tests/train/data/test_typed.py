"""What a source gives, in the batch's types: what is no class is refused, what is no number too."""

import jax
import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.decode import Unreadable
from train.data.example import Place, Shaper
from train.data.gaps import Gaps
from train.data.resident import Resident
from train.data.source import About
from train.data.statistics import measure
from train.data.streaming import Streaming
from train.data.subset import cut, labels, subset
from train.data.typed import typed
from train.mesh import make_mesh
from train.refusal import Refused

ABOUT = About("toy", "train", ("a", "b", "c"), mirror=True)


class Given:
    """A source of one kind of example, of which one differs."""

    about = ABOUT
    fingerprint = "x"

    def __init__(self, example, odd=None, at=2, files=False):
        self._example, self._odd, self._at = example, odd or {}, at
        if files:
            self.name = lambda i: f"series/{i}.csv"

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return self._example | (self._odd if i == self._at else {})

    truth = __getitem__


def test_types_become_the_table_s():
    example = {
        "signal": np.arange(3, dtype=np.int16)[:, None], "target": [1, 2], "label": np.uint8(2),
        "boxes": np.zeros((1, 4)), "box_label": [], "box_crowd": [True], "mask": [[7]],
        "own": np.float64(1.5),
    }  # fmt: skip
    found = typed(Given({}), 0, example)
    assert {key: value.dtype.name for key, value in found.items()} == {
        "signal": "float32", "target": "float32", "label": "int32", "boxes": "float32",
        "box_label": "int32", "box_crowd": "bool", "mask": "uint8", "own": "float64",
    }  # fmt: skip
    assert found["target"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.7, "label 1.7 of type float64, wanted: integers"),
        (np.float32(1), "label 1.0 of type float32, wanted: integers"),
        (True, "label True of type bool, wanted: integers"),
        ("b", "label 'b' of type <U1, wanted: integers"),
        (3, "label=3, outside the 3 classes"),
        (-1, "label=-1, outside the 3 classes"),
        (2**32, "label=4294967296, outside the 3 classes"),  # which int32 would make 0
        ([1], r"label \(1,\), which is not \(\)"),
        (None, "label None of type object, wanted: integers"),
        (2**70, "label 1180591620717411303424 of type object, wanted: integers"),
        ([1, [2]], "label whose rows differ in length, which is no array"),
    ],
)
def test_what_is_no_class_is_refused(value, said):
    with pytest.raises(Refused, match=rf"^example 0 of toy/train has {said}$"):
        Shaper(Given({"label": value}), None)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ({"box_label": [0.0, 1.5]}, "box_label 0.0 of type float64, wanted: integers"),
        ({"box_crowd": [1, 0]}, "box_crowd 1 of type int64, wanted: bools"),
        ({"mask": [[300]]}, r"mask=300, outside 0..255"),
        ({"target": ["x"]}, "target 'x' of type <U1, wanted: numbers"),
        ({"target": 1.0}, r"target \(\), which is not \(K,\)"),
        ({"signal": np.zeros(4)}, r"signal \(4,\), which is not \(L, C\)"),
        ({"boxes": np.zeros((2, 5))}, r"boxes \(2, 5\), which is not \(N, 4\)"),
        ({"image": np.zeros((4, 5), "u1")}, r"image \(4, 5\), which is not \(H, W, C\)"),
    ],
)
def test_other_types_and_axes_are_refused_with_key_and_value(example, said):
    with pytest.raises(Refused, match=rf"^example 4 of toy/train \(series/4.csv\) has {said}$"):
        typed(Given({}, files=True), 4, example)


@pytest.mark.parametrize(
    "value", [[1.7, 0, 1], [1.0, 0.0, 1.0], [True, False, True], ["a", "b", "a"]]
)
def test_arrays_and_cuts_refuse_such_labels_too(value):
    with pytest.raises(Refused, match=r"label has rank 1, type .*; wanted: one integer an example"):
        Arrays({"label": value}, ABOUT)
    source = Given({"label": value[0]})
    for use in (labels, lambda source: cut(source, 0.5, 0)):
        with pytest.raises(Refused, match=rf"'toy' has labels of type .* {value[0]!r}"):
            use(source)


class Labels(Given):
    """A source of these labels; of one that is absent there is none."""

    def __init__(self, *values):
        super().__init__({})
        self.values = values

    def __len__(self):
        return len(self.values)

    def truth(self, i):
        return {} if self.values[i] == "absent" else {"label": self.values[i]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, None), "'toy' has labels of type object, such as None"),
        ((0, 2**70), "'toy' has labels of type object"),
        ((0, [1, 2]), r"'toy' has labels of type object, such as \[1, 2\]"),
        (([0, 1], [1, 2]), r"'toy' has labels of type int64, such as \[0, 1\]"),
        ((0, "absent"), r"example 1 of data='toy' has no label; its keys: \[\]"),
    ],
)
def test_labels_of_any_kind_are_refused_in_one_line(values, said):
    with pytest.raises(Refused, match=said):
        cut(Labels(*values), 0.5, 0)


SIGNAL = np.ones((4, 2), np.float32)
BROKEN = [
    ({"signal": np.float32([[1, 2], [3, np.nan]])}, r"signal\[1, 1\]=nan, which is not finite"),
    ({"signal": np.float64([[1, 2], [3e39, 4]])}, r"signal\[1, 0\]=inf, which is not finite"),
    ({"target": [0.5, -np.inf]}, r"target\[1\]=-inf, which is not finite"),
    ({"boxes": [[0, 0, np.nan, 1]]}, r"boxes\[0, 2\]=nan"),
    ({"signal": SIGNAL[:0]}, "length=0 of a signal of 0 steps"),
    ({"signal": SIGNAL, "length": 5}, "length=5 of a signal of 4 steps"),
    ({"signal": SIGNAL, "length": 0}, "length=0 of a signal of 4 steps"),
]


@pytest.mark.parametrize(("example", "said"), BROKEN)
def test_what_is_no_number_is_the_fault_of_its_example(example, said):
    for files, name in ((True, r"series/3\.csv"), (False, "toy/train")):
        with pytest.raises(Unreadable, match=f"^{name}, example 3: {said}") as found:
            typed(Given({}, files=files), 3, example)
        assert found.value.index == 3


def test_nan_beyond_the_length_is_nothing():
    signal = np.float32([[1], [2], [np.nan], [7]])
    assert typed(Given({}), 0, {"signal": signal, "length": 2})["signal"][:, 0].tolist() == [
        1, 2, 0, 0
    ]  # fmt: skip
    assert np.isnan(signal[2])  # the source's own stays


def broken(**how):
    return Given({"signal": SIGNAL, "target": [0.5]}, {"target": [np.nan]}, **how)


MESSAGE = r"series/2\.csv, example 2: target\[0\]=nan, which is not finite"


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_a_broken_example_stops_the_run_by_name(kind):
    def first_batches():
        loader = kind(broken(files=True), mesh=make_mesh(), batch_size=4)
        payloads = loader.payloads(0)
        next(payloads), next(payloads)

    with pytest.raises(Unreadable, match=MESSAGE):
        first_batches()
    with pytest.raises(Unreadable, match=r"example 1: target\[0\]=nan"):  # the part's own index
        list(Shaper(subset(broken(), [1, 2]), None).take([Place(0), Place(1)], None, replace=True))


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_a_broken_example_is_stepped_over_where_it_may_be(kind):

    gaps = Gaps(limit=0.5)
    source = broken(files=True)
    loader = kind(source, mesh=make_mesh(jax.devices()[:1]), batch_size=6, gaps=gaps)
    payloads = loader.payloads(0)
    batch = jax.jit(loader.device)(loader.data, next(payloads), np.uint32(0), jax.random.key(0))
    payloads.close()
    assert sorted(batch["index"].tolist()) == [0, 1, 3, 3, 4, 5]
    assert np.isfinite(batch["target"]).all()
    assert gaps.found == {2: "series/2.csv: target[0]=nan, which is not finite"}


def test_statistics_name_it_or_leave_it_out():
    source = Given({"signal": SIGNAL}, {"signal": SIGNAL * np.nan})
    with pytest.raises(Unreadable, match=r"toy/train, example 2: signal\[0, 0\]=nan"):
        measure(source)
    gaps = Gaps(limit=0.5)
    assert measure(source, gaps=gaps) == ((1.0, 1.0), (1.0, 1.0))
    assert [*gaps.found] == [2]
