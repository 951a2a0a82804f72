"""Order: a permutation every epoch, the same in NumPy and compiled, and as good as chance."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.data.order import once, order, position, positions, shuffled

CHANCE = 1e-5
"""A p-value below it is a defect: some 150 are looked at, and 12 rounds in place of 32 give 0."""


@pytest.mark.parametrize("length", [*range(1, 20), 64, 1000, 4097])
def test_every_epoch_of_every_seed_is_a_permutation(length):
    rows = order(np.arange(3)[:, None, None], np.arange(4)[:, None], np.arange(length), length)
    assert rows.shape == (3, 4, length)
    np.testing.assert_array_equal(np.sort(rows), np.broadcast_to(np.arange(length), rows.shape))
    if length >= 19:  # 19! orders: two of twelve agree by error alone
        assert len({row.tobytes() for row in rows.reshape(12, length)}) == 12


@pytest.mark.parametrize(
    ("seed", "epoch", "length", "first"),
    [
        (0, 0, 10, [5, 1, 8, 3, 4]),
        (7, 3, 50_000, [32256, 6713, 26478, 24439, 38403]),
        (2**32 - 1, 2**32 - 1, 2**31, [1378709505, 1610112986, 1569030294, 887079664, 1458994250]),
    ],
)
def test_these_integers_on_every_platform(seed, epoch, length, first):
    assert order(seed, epoch, np.arange(5), length).tolist() == first


@pytest.mark.parametrize("length", [1, 2, 1000, 2**31 - 1, 2**31])
def test_numpy_and_compiled_code_agree(length, strict_dtypes):
    rng = np.random.default_rng(length)
    slots = np.unique(rng.integers(0, length, 4096)).astype(np.uint32)
    slots = np.append(slots[:-1], np.uint32(length - 1))
    seeds = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    epochs = np.array([0, 2**32 - 1, 5, 2**31], np.uint32)
    here = order(seeds[:, None], epochs[:, None], slots, length)

    mapped = jax.vmap(lambda seed, epoch, slot: order(seed, epoch, slot, length), (0, 0, None))
    there = jax.jit(mapped)(seeds, epochs, slots)

    assert here.dtype == np.uint32
    assert there.dtype == np.uint32
    np.testing.assert_array_equal(here, there)
    assert here.max() < length
    assert all(len(np.unique(row)) == len(slots) for row in here)


def test_scalars_and_large_integers_of_python_are_taken_without_a_warning():
    value = order(2**32 + 3, np.uint32(2**32 - 1), np.int64(6), 11)
    assert value == order(np.array([3]), -1, np.array([6]), 11)[0]


@pytest.mark.parametrize("length", [0, -1, 2**31 + 1])
def test_refuses_a_length_out_of_range(length):
    with pytest.raises(ValueError, match=f"length={length}"):
        order(0, 0, 0, length)


@pytest.mark.parametrize("length", [2, 3, 4, 5])
@pytest.mark.parametrize("over", ["epochs", "seeds"])
def test_small_sets_come_in_every_order_equally_often(length, over):
    kinds = list(itertools.permutations(range(length)))
    draws = np.arange(200 * len(kinds))[:, None]
    seed, epoch = (0, draws) if over == "epochs" else (draws, 0)
    counts = Counter(map(tuple, order(seed, epoch, np.arange(length), length).tolist()))
    assert scipy.stats.chisquare([counts[kind] for kind in kinds]).pvalue > CHANCE


@pytest.mark.parametrize("length", [7, 30, 64])
def test_each_example_stands_in_each_slot_equally_often(length):
    rows = order(1, np.arange(100 * length)[:, None], np.arange(length), length)
    for slot in range(length):
        counts = np.bincount(rows[:, slot], minlength=length)
        assert scipy.stats.chisquare(counts).pvalue > CHANCE, slot


@pytest.mark.parametrize("length", [1797, 50_000, 65_536])
def test_neighbours_epochs_and_seeds_are_uncorrelated(length):
    slots = np.arange(length)
    rows = order(np.arange(3)[:, None, None], np.arange(3)[:, None], slots, length)
    rows = rows.astype(np.int64)
    base = rows[0, 0]
    pairs = {
        "next slot": (base[:-1], base[1:]),
        "slot after": (base[:-2], base[2:]),
        "slot itself": (base, slots),
        "next epoch": (base, rows[0, 1]),
        "next seed": (base, rows[1, 0]),
        "seed and epoch swapped": (rows[1, 2], rows[2, 1]),
    }
    for name, (x, y) in pairs.items():
        table = np.histogram2d(x, y, bins=6, range=[[0, length]] * 2)[0]
        assert scipy.stats.chi2_contingency(table).pvalue > CHANCE, name
        # The gap between the two, modulo the length, is uniform too.
        gaps = np.bincount((y - x) % length * 16 // length, minlength=16)
        expected = np.bincount(slots * 16 // length) * (len(x) / length)
        assert scipy.stats.chisquare(gaps, expected).pvalue > CHANCE, name


@pytest.mark.parametrize(
    ("step", "batch_size", "length", "expected"),
    [
        (0, 128, 50_000, (0, 0)),
        (390, 128, 50_000, (0, 49_920)),
        (391, 128, 50_000, (1, 48)),
        (10**15, 1024, 1_281_167, (799_271_289_379, 174_707)),
        (2**40, 1, 2**31, (512, 0)),
    ],
)
def test_position_is_exact(step, batch_size, length, expected):
    assert position(step, batch_size, length) == expected
    assert expected[0] * length + expected[1] == step * batch_size


def test_positions_run_on_across_epochs():
    epochs, slots = positions(4, 5, 4, 7)
    assert epochs.tolist() == [4, 4, 5, 5]
    assert slots.tolist() == [5, 6, 0, 1]
    traced = jax.jit(lambda e, s: positions(e, s, 4, 7))(jnp.uint32(4), jnp.uint32(5))
    np.testing.assert_array_equal(traced, (epochs, slots))


def test_positions_do_not_overflow():
    epochs, slots = positions(0, 2**31 - 1, 3, 2**31)
    assert epochs.tolist() == [0, 1, 1]
    assert slots.tolist() == [2**31 - 1, 0, 1]


def test_shuffled_batches_are_full_and_make_up_epochs():
    assert shuffled.steps(4, 6) is None
    batches = [shuffled.examples(0, *position(step, 4, 6), 4, 6) for step in range(3)]
    assert all(batch.valid.all() for batch in batches)
    index = np.concatenate([batch.index for batch in batches])
    assert index.dtype == np.int32
    assert sorted(index[:6]) == sorted(index[6:]) == list(range(6))
    assert index.tolist() == [*order(0, 0, np.arange(6), 6), *order(0, 1, np.arange(6), 6)]
    assert [batch.epoch.tolist() for batch in batches] == [[0] * 4, [0, 0, 1, 1], [1] * 4]
    assert batches[1].slot.tolist() == [4, 5, 0, 1]
    assert batches[1].epoch.dtype == np.int32


@pytest.mark.parametrize(
    ("batch_size", "length", "steps", "index", "valid"),
    [
        (4, 6, 2, [4, 5, 5, 5], [True, True, False, False]),
        (3, 6, 2, [3, 4, 5], [True, True, True]),
        (4, 1, 1, [0, 0, 0, 0], [True, False, False, False]),
    ],
)
def test_once_goes_through_the_source_and_masks_the_tail(batch_size, length, steps, index, valid):
    assert once.steps(batch_size, length) == steps
    place = position(steps - 1, batch_size, length)
    here = once.examples(0, *place, batch_size, length)
    there = jax.jit(lambda e, s: once.examples(0, e, s, batch_size, length))(*np.uint32(place))
    for got in (here, there):
        assert got.index.tolist() == index
        assert got.valid.tolist() == valid
        assert got.epoch.tolist() == [0] * batch_size
        assert got.index.dtype == got.epoch.dtype == np.int32
