"""Boxes, proposals and signals of any number: padded, refused in training, cut in evaluation."""

import jax
import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.decode import Unreadable
from train.data.host import Host, Resize
from train.data.order import once, shuffled
from train.data.ragged import most, padded
from train.data.resident import Resident
from train.data.source import About
from train.data.streaming import Streaming
from train.mesh import make_mesh
from train.refusal import Refused

KEY = np.array([0, 7], np.uint32)
BOX = np.float32([[1, 1, 3, 3], [0, 0, 2, 4], [2, 1, 5, 4]])
COUNTS = (2, 0, 3, 1, 2)


def pictures():
    """Of 2, 0, 3, 1, 2 boxes, and of 3, 2, 1, 3, 2 proposals."""
    proposals = [BOX[: 3 - i % 3] for i in range(5)]
    return Arrays(
        {
            "image": np.arange(5, dtype=np.uint8)[:, None, None, None]
            * np.ones((1, 4, 5, 1), "u1"),
            "boxes": [BOX[:n] for n in COUNTS],
            "box_label": [np.arange(n) for n in COUNTS],
            "box_difficult": [np.ones(n, bool) for n in COUNTS],
            "proposals": proposals,
        },
        About("pictures", "train", ("a", "b", "c"), mirror=True, shape=(4, 5, 1)),
    )


def lines(lengths=(3, 5, 2, 4), **more):
    """Signals of two channels that count from 1."""
    signals = [1 + np.arange(2.0 * n).reshape(n, 2) for n in lengths]
    return Arrays(
        {"signal": signals, "target": np.arange(len(lengths)) / 4, **more},
        About("lines", "train", (), mirror=False),
    )


def batches(loader, count=None):
    step = jax.jit(loader.device)
    payloads = loader.payloads(0)
    try:
        taken = payloads if count is None else (next(payloads) for _ in range(count))
        return [jax.device_get(step(loader.data, p, np.uint32(0), KEY)) for p in taken]
    finally:
        payloads.close()


def made(kind, source, order, **request):
    mesh = make_mesh(jax.devices()[:2])
    return kind(source, mesh=mesh, batch_size=2, order=order, **request)


def assert_same(these, those):
    for this, that in zip(these, those, strict=True):
        assert this.keys() == that.keys()
        for key in this:
            np.testing.assert_array_equal(this[key], that[key], strict=True, err_msg=key)


@pytest.mark.parametrize("host", [None, Host(Resize(), ((8, 10),))])
@pytest.mark.parametrize("order", [shuffled, once])
def test_both_loaders_pad_proposals_of_varying_number_alike(order, host):
    request = {"capacity": {"boxes": 4, "proposals": 3}, "host": host}
    count = 4 if order is shuffled else None
    resident = batches(made(Resident, pictures(), order, **request), count)
    assert_same(batches(made(Streaming, pictures(), order, **request), count), resident)
    zoom = 1 if host is None else 2
    for batch in resident:
        for row, i in enumerate(batch["index"]):
            n = 3 - i % 3
            assert batch["proposals"].shape == (2, 3, 4)
            assert batch["proposal_valid"][row].tolist() == [True] * n + [False] * (3 - n)
            np.testing.assert_array_equal(batch["proposals"][row, :n], zoom * BOX[:n])
            assert not batch["proposals"][row, n:].any()
            assert batch["box_valid"][row].sum() == COUNTS[i]


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_what_exceeds_the_capacity_is_cut_in_evaluation(kind):
    source = pictures()
    loader = made(kind, source, once, capacity={"boxes": 2, "proposals": 1})
    third = batches(loader)[1]
    assert third["index"][0] == 2
    np.testing.assert_array_equal(third["boxes"][0], BOX[:2])
    assert third["box_label"][0].tolist() == [0, 1]
    assert third["box_valid"][0].tolist() == third["box_difficult"][0].tolist() == [True, True]
    assert third["proposals"][0].tolist() == [BOX[0].tolist()]
    assert len(source.truth(2)["boxes"]) == 3  # by which it is scored


def trained(kind, source, **request):
    """Batches enough that every example was among them."""
    return batches(made(kind, source, shuffled, **request), 6)


@pytest.mark.parametrize("kind", [Resident, Streaming])
@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        ({"boxes": 2, "proposals": 3}, r"example 2 of .* has 3 boxes, more than .*'boxes'\]=2"),
        ({"boxes": 3, "proposals": 2}, r"example [03] .* 3 proposals, more than .*'proposals'\]=2"),
        ({"boxes": 3}, r"example \d .* has proposals .*capacity=\{'proposals': …\} pads them"),
    ],
)
def test_in_training_it_is_refused_with_its_index(kind, capacity, message):
    with pytest.raises(Refused, match=message):
        trained(kind, pictures(), capacity=capacity)


@pytest.mark.parametrize("order", [shuffled, once])
def test_signals_are_padded_and_their_length_is_said(order):
    count = 3 if order is shuffled else None
    found = [
        batches(made(kind, lines(), order, capacity={"signal": 6}), count)
        for kind in (Resident, Streaming)
    ]
    assert_same(*found)
    for batch in found[0]:
        for key, shape, dtype in (
            ("signal", (2, 6, 2), np.float32),
            ("length", (2,), np.int32),
            ("target", (2, 1), np.float32),
        ):
            assert (batch[key].shape, batch[key].dtype) == (shape, dtype)
        for row, i in enumerate(batch["index"]):
            n = (3, 5, 2, 4)[i]
            assert batch["length"][row] == n
            np.testing.assert_array_equal(
                batch["signal"][row, :n], 1 + np.arange(2.0 * n).reshape(n, 2)
            )
            assert not batch["signal"][row, n:].any()
            assert batch["target"][row].tolist() == [i / 4]
        assert "matrix" not in batch


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_signals_of_one_length_need_no_capacity(kind):
    (batch,) = batches(made(kind, lines((3, 3)), once))
    assert batch["signal"].shape == (2, 3, 2)
    assert "length" not in batch


@pytest.mark.parametrize("order", [shuffled, once])
@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_a_signal_is_never_cut(kind, order):
    message = r"example 1 of lines/train has 5 steps of signal, more than capacity\['signal'\]=4"
    with pytest.raises(Refused, match=message):
        batches(made(kind, lines(), order, capacity={"signal": 4}), 2)
    with pytest.raises(Refused, match=r"example \d of .* has signal float32.*'signal': … *\} pads"):
        batches(made(kind, lines(), order), 2)


@pytest.mark.parametrize("capacity", [None, {"signal": 5}, {"signal": 7}])
def test_a_source_may_pad_its_signals_itself(capacity):
    """With NaN, as some sets do: what is beyond the length is nothing."""
    signal = np.float32([[1, 2, 3, np.nan, np.nan], [4, 5, 6, 7, 8]])[..., None]
    source = Arrays(
        {"signal": signal, "length": [3, 5]}, About("padded", "train", (), mirror=False)
    )
    assert [*source.truth(0)] == []
    (batch,) = batches(made(Resident, source, once, capacity=capacity))
    assert batch["length"].tolist() == [3, 5]
    wide = 7 if capacity == {"signal": 7} else 5
    assert batch["signal"][0, :, 0].tolist() == [1, 2, 3] + [0] * (wide - 3)
    assert batch["signal"][1, :, 0].tolist() == [4, 5, 6, 7, 8] + [0] * (wide - 5)


def test_what_the_source_says_is_no_box_stays_none():
    given = {"proposals": BOX[:2], "proposal_valid": np.array([True, False])}
    found = padded(given, {"proposals": 3}, cut=False)
    assert found["proposal_valid"].tolist() == [True, False, False]
    assert padded(given, {}, cut=False)["proposal_valid"].tolist() == [True, False]
    assert padded({"proposals": BOX}, {}, cut=False)["proposal_valid"].tolist() == [True] * 3
    with pytest.raises(ValueError, match="has 3 proposals and 1 of proposal_valid"):
        padded({"proposals": BOX, "proposal_valid": np.ones(1, bool)}, {}, cut=False)


def test_the_most_rows_of_a_source():
    class Torn(Arrays):
        def truth(self, i):
            if i == 2:
                raise Unreadable("2.png", 2, "torn")
            return super().truth(i)

    assert most(pictures()) == {"boxes": 3}
    torn = Torn({"boxes": [BOX[:n] for n in COUNTS]}, About("torn", "train", ("a",), mirror=True))
    assert most(torn) == {"boxes": 2}
    assert most(lines()) == {}
