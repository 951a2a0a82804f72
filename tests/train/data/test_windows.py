import numpy as np
import pytest

from train.data.windows import windows
from train.refusal import Refused


def pairs(part):
    rows = (part[i] for i in range(len(part)))
    return [(row["signal"][:, 0].tolist(), row["target"].tolist()) for row in rows]


def test_each_split_forecasts_its_own_steps_and_training_sees_no_others():
    train, validation, test = windows(np.arange(12), 3, 2, validation=0.25, test=0.25)
    # Steps 0..5 train, 6..8 validate, 9..11 test.
    assert pairs(train) == [([0, 1, 2], [3, 4]), ([1, 2, 3], [4, 5])]
    assert pairs(validation) == [([3, 4, 5], [6, 7]), ([4, 5, 6], [7, 8])]
    assert pairs(test) == [([6, 7, 8], [9, 10]), ([7, 8, 9], [10, 11])]
    assert train.series[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert validation.series[:, 0].tolist() == [6, 7, 8]
    assert test.starts.tolist() == [6, 7]
    example = train[0]
    assert (example["signal"].shape, example["signal"].dtype) == ((3, 1), np.float32)
    assert (example["target"].shape, example["target"].dtype) == ((2,), np.float32)
    assert train.truth(1)["target"].tolist() == [4, 5]
    about = train.about
    assert (about.shape, about.targets, about.classes) == ((3, 1), ("+1", "+2"), ())
    with pytest.raises(IndexError):
        train[2]


def test_channels_column_and_every():
    series = np.stack([np.arange(10), -np.arange(10)], axis=1)
    train, validation, test = windows(series, 2, 1, test=0.3, column=1, every=2)
    assert validation is None
    assert [train[i]["signal"].tolist() for i in (0, 1)] == [[[0, 0], [1, -1]], [[2, -2], [3, -3]]]
    assert [train[i]["target"].tolist() for i in range(len(train))] == [[-2], [-4], [-6]]
    assert [test[i]["target"].tolist() for i in range(len(test))] == [[-7], [-9]]


def test_what_a_split_does_not_see_changes_nothing_of_it():
    series = np.random.default_rng(0).normal(size=40)
    later = series.copy()
    later[20:] += 1  # of validation and test
    here, there = (windows(one, 4, 3, validation=0.25, test=0.25) for one in (series, later))
    assert here.train.fingerprint == there.train.fingerprint
    assert pairs(here.train) == pairs(there.train)
    assert here.validation.fingerprint != there.validation.fingerprint
    assert pairs(here.validation) != pairs(there.validation)


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        ([1, np.nan, 2], {}, r"series\[1, 0\]=nan is not finite"),
        (np.zeros((2, 2, 2)), {}, r"series has shape \(2, 2, 2\)"),
        (np.zeros(10), {"column": 1}, "column=1 is none of the 1 channels"),
        (np.zeros(10), {"past": 0}, "past=0 is not positive"),
        (np.zeros(10), {"test": 0.0}, "validation=0.0 and test=0.0"),
        (np.zeros(10), {"validation": 0.6, "test": 0.4}, "leave no share"),
        (np.zeros(10), {"past": 8}, "past=8 and ahead=1 leave no window in train, which has 8"),
        (np.zeros(10), {"ahead": 3}, "past=2 and ahead=3 leave no window in test, which has 2"),
    ],
)
def test_what_cannot_be_is_refused(series, options, message):
    with pytest.raises(Refused, match=message):
        windows(np.asarray(series), **{"past": 2, "ahead": 1, **options})
