import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.source import About
from train.data.steps import Longer, placed

ABOUT = About("x", "train", ("a",), False, shape=(4, 2), ragged=True)


def test_a_signal_stands_at_the_beginning_of_its_padding():
    found = placed(np.ones((3, 2), np.float64), ABOUT)
    wanted = np.array([[1, 1], [1, 1], [1, 1], [0, 0]], np.float32)
    np.testing.assert_array_equal(found["signal"], wanted, strict=True)
    assert (found["length"], found["length"].dtype) == (3, np.int32)
    whole = About("x", "train", ("a",), False, shape=(4, 2))
    assert placed(np.ones((4, 2)), whole).keys() == {"signal"}
    for about, values, message in (
        (ABOUT, np.ones((5, 2)), "has 5 steps; wanted: at most 4"),
        (ABOUT, np.ones((3, 1)), "has 1 channels; wanted: 2"),
        (whole, np.ones((3, 2)), "has 3 steps; wanted: 4"),
    ):
        with pytest.raises(ValueError, match=message):
            placed(values, about)


def test_signals_made_longer():
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    about = About("x", "train", ("a",), False, shape=(3, 2))
    whole = Longer(Arrays({"signal": values, "label": [0, 0]}, about), 5)
    assert (whole.about.shape, whole.about.ragged, len(whole)) == ((5, 2), True, 2)
    np.testing.assert_array_equal(whole[1]["signal"][:3], values[1])
    assert not whole[1]["signal"][3:].any()
    assert int(whole[1]["length"]) == 3
    assert whole.truth(0) == {"label": 0}
    padded = Arrays({"signal": values, "length": np.array([3, 1])}, about)
    several = Longer(padded, 5).__getitems__([0, 1])
    assert [int(one["length"]) for one in several] == [3, 1]
    assert several[1]["signal"][1:].tolist() == np.zeros((4, 2)).tolist()
