import random

import numpy as np
import pytest

from train.data import mnist1d as module
from train.data.named import named, with_validation
from train.refusal import Refused

FIRST = [-0.33200567, -0.47191037, -0.77869708, -1.00974083, -0.88235257]
FIRST_OF_TEST = [-0.07877078, -0.2107317, -0.09175138, 0.28267112, 0.32605815]
"""Of mnist1d_data.pkl, which the authors publish."""


@pytest.fixture(scope="module")
def splits():
    return named("mnist1d")


def test_it_is_the_published_set(splits):
    train, validation, test = splits
    assert (len(train), validation, len(test)) == (4000, None, 1000)
    for part, first, labels in (
        (train, FIRST, [2, 6, 4, 5, 6, 6, 6, 0, 3, 1]),
        (test, FIRST_OF_TEST, [2, 6, 3, 9, 4, 3, 1, 9, 5, 2]),
    ):
        example = part[0]
        assert example["signal"].shape == part.about.shape == (40, 1)
        assert example["signal"].dtype == np.float32
        np.testing.assert_allclose(example["signal"][:5, 0], first, atol=1e-6)
        assert part.labels[:10].tolist() == labels
        assert part.about.classes == tuple("0123456789")
    assert np.bincount(train.labels).tolist() == [398, 396, 411, 394, 394, 402, 401, 404, 402, 398]
    both = np.concatenate([part[i]["signal"] for part in (train, test) for i in range(len(part))])
    np.testing.assert_allclose([both.mean(), both.std()], [0, 1], atol=1e-5)


def test_validation_is_cut_from_training_examples_alone(splits):
    data = with_validation(splits, 0.1)
    assert [len(part) for part in data] == [3600, 400, 1000]
    assert data.test.fingerprint == splits.test.fingerprint
    assert np.bincount(data.validation.labels).min() >= 39  # a tenth of each class


def test_the_generators_of_others_are_left_as_they_were(monkeypatch):
    def make(args):
        np.random.seed(args.seed)  # noqa: NPY002
        random.seed(args.seed)
        return {"x": np.zeros((2, 40)), "y": np.arange(2)}

    monkeypatch.setattr("mnist1d.data.make_dataset", make)
    module._made.cache_clear()
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert len(module.mnist1d("train")) == 2
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002
    module._made.cache_clear()


def test_what_it_does_not_have_is_refused():
    with pytest.raises(Refused, match="split='validation' is unknown"):
        module.mnist1d("validation")
    with pytest.raises(Refused, match="data='mnist1d' has no target; it has label"):
        named("mnist1d", "target")
