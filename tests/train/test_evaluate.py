"""A split is measured exactly: fixed logits, a padded tail, other devices, wide sums, in order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About
from train.evaluate import add, evaluate, evaluation_step
from train.mesh import compiled_evaluation, make_mesh
from train.stop import Interrupted
from train.tasks.classification import classification
from train.tasks.task import Measured, Ratio, Summary, Task


class Brightest(nn.Module):
    """The logits are the pixels."""

    @nn.compact
    def __call__(self, x, *, train):
        return x[:, 0, :, 0]


COUNT, CLASSES = 11, 3
PIXELS = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9]], np.uint8)[np.arange(COUNT) % 3]
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 1], np.int32)  # the tenth is a mistake
SOURCE = Arrays(
    {"image": PIXELS[:, None, :, None], "label": LABELS},
    About("three", "test", ("a", "b", "c"), mirror=False),
)
TASK = classification(Brightest(), num_classes=CLASSES, mean=(0,), std=(1,))


def measured(batch_size, devices, **kwargs):
    mesh = make_mesh(jax.devices()[:devices])
    loader = Resident(SOURCE, mesh=mesh, batch_size=batch_size, order=once)
    measure = compiled_evaluation(evaluation_step(TASK, loader), mesh)
    return evaluate(measure, TASK, loader, SOURCE, {"params": {}}, **kwargs)


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (4, 1), (11, 1), (16, 1), (4, 4)])
def test_batches_and_devices_do_not_change_what_is_measured(batch_size, devices):
    (summary,) = measured(batch_size, devices)
    assert summary.scalars["count"] == COUNT
    assert summary.scalars["accuracy"] == pytest.approx(10 / 11)
    assert summary.tables["confusion"].tolist() == [[3, 0, 0], [1, 4, 0], [0, 0, 3]]
    assert [one["index"] for one in summary.tables["mistakes"]] == [9]
    right, wrong = np.log1p(2 * np.exp(-9.0)), 9 + np.log1p(2 * np.exp(-9.0))
    assert summary.scalars["loss"] == pytest.approx((10 * right + wrong) / 11, rel=1e-5)


def test_a_loader_that_drops_the_tail_is_found_out():
    mesh = make_mesh(jax.devices()[:1])
    loader = Resident(SOURCE, mesh=mesh, batch_size=4, order=once)
    loader.steps = 2
    measure = compiled_evaluation(evaluation_step(TASK, loader), mesh)
    with pytest.raises(RuntimeError, match="measured 8 examples of test, not its 11"):
        evaluate(measure, TASK, loader, SOURCE, {"params": {}})


def test_sums_are_wide():
    once_ = {"n": jnp.int32(2**31 - 1), "loss": Ratio(jnp.float32(2**24), jnp.float32(1))}
    total = add(add({}, once_), {"n": jnp.int32(1), "loss": Ratio(jnp.float32(1), jnp.float32(1))})
    assert total["n"] == 2**31
    assert total["loss"].total == 2**24 + 1
    assert total["n"].dtype == np.int64


# --- in which order, by fakes that write down what is called -----------------------------------


class Lazy:
    """What a device computes: batch k is fetched."""

    def __init__(self, value, calls, k):
        self.value, self.calls, self.k = np.asarray(value), calls, k

    def __array__(self, dtype=None, copy=None):
        self.calls.append(f"fetch {self.k}")
        return self.value


class Batches:
    """Three batches of two, of a split of five."""

    data, gaps = "the data", None

    def __init__(self, calls):
        self.calls = calls

    def payloads(self, start):
        assert start == 0
        return Numbers(self.calls)


class Numbers:
    """Payloads that no garbage collector closes."""

    def __init__(self, calls):
        self.calls, self.left = calls, iter(range(3))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.left)

    def close(self):
        self.calls.append("closed")


class Split:
    about = About("five", "validation", (), mirror=False)

    def __len__(self):
        return 5

    def truth(self, index):
        return 10 * index


def in_order(calls, *, stopping=lambda: False, seeds=None):
    def measure(variables, data, k):
        assert (variables, data) == ("the variables", "the data")
        calls.append(f"measure {k}")
        index = np.array([2 * k, 2 * k + 1])
        valid = index < 5
        sums, record = {"count": Lazy(valid.sum(), calls, k)}, {"index": index}
        out = Measured(sums, record), index, valid
        if seeds is None:
            return out
        return jax.tree.map(lambda x: np.stack([np.asarray(x)] * seeds), out)

    def score(record, truth):
        calls.append(f"score {record['index']}")
        assert truth == 10 * record["index"]
        return {"truth": Ratio(truth, 1)}, int(record["index"])

    def summarise(sums, kept):
        return Summary({"count": int(sums["count"]), "truth": sums["truth"].total}, {"kept": kept})

    task = Task(None, None, None, None, score, summarise)
    how = {"seeds": seeds, "stopping": stopping}
    return evaluate(measure, task, Batches(calls), Split(), "the variables", **how)


def test_a_batch_is_computed_while_the_one_before_is_scored():
    calls = []
    (summary,) = in_order(calls)
    assert calls == [
        *("measure 0", "measure 1", "fetch 0", "score 0", "score 1"),
        *("measure 2", "fetch 1", "score 2", "score 3"),
        *("fetch 2", "score 4"),  # and no padding
        "closed",
    ]
    assert summary == Summary(
        {"count": 5, "truth": 0 + 10 + 20 + 30 + 40}, {"kept": [0, 1, 2, 3, 4]}
    )


def test_each_of_several_seeds_has_a_summary():
    expected = Summary({"count": 5, "truth": 100}, {"kept": [0, 1, 2, 3, 4]})
    assert in_order([], seeds=2) == [expected, expected]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_stop_is_asked_for_once_a_batch_and_gives_up(at):
    calls, asked = [], []

    def stopping():
        asked.append(None)
        return len(asked) == at

    with pytest.raises(Interrupted):
        in_order(calls, stopping=stopping)
    assert len(asked) == at
    assert [call for call in calls if "measure" in call] == [f"measure {k}" for k in range(at - 1)]
    assert calls[-1] == "closed"


def test_nothing_is_asked_once_all_is_measured():
    asked = []
    (summary,) = in_order([], stopping=lambda: bool(asked.append(None)))
    assert len(asked) == 3
    assert summary.scalars["count"] == 5


def test_a_stop_request_that_does_not_come_changes_nothing():
    assert str(measured(4, 1, stopping=lambda: False)) == str(measured(4, 1))
    with pytest.raises(Interrupted):
        measured(4, 1, stopping=lambda: True)


def test_what_a_score_raises_closes_the_payloads(monkeypatch):
    calls = []
    monkeypatch.setattr(Split, "truth", lambda self, index: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_order(calls)
    assert calls[-1] == "closed"
