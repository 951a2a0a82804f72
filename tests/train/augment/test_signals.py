"""Signals: where they go, what hides them, and that padding stays padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.augment import amplitude, chain, cutout, gaussian_noise, time_mask, time_shift

SIZE, STEPS = 40, 12
LENGTHS = np.array([12, 7, 1, 0] * 10, np.int32)


def rows(lengths=None):
    """Step t of each is t + 1 in one channel and its double in the other; 0 where it is padded."""
    at = np.arange(1, STEPS + 1, dtype=np.float32)
    signal = np.tile(np.stack([at, 2 * at], axis=-1), (SIZE, 1, 1))
    if lengths is None:
        return {"signal": jnp.asarray(signal)}
    signal *= (at[None] <= lengths[:, None])[..., None]
    return {"signal": jnp.asarray(signal), "length": jnp.asarray(lengths)}


def applied(stage, batch, seed=0):
    return {k: np.asarray(v) for k, v in jax.jit(stage)(jax.random.key(seed), batch).items()}


def test_a_circular_shift_is_a_rotation_within_the_length():
    before = rows(LENGTHS)
    after = applied(time_shift(1.0), before)
    np.testing.assert_array_equal(after["length"], LENGTHS)
    found = set()
    for signal, moved, n in zip(before["signal"], after["signal"], LENGTHS, strict=True):
        by = next((k for k in range(n) if moved[k, 0] == 1), 0)
        np.testing.assert_array_equal(moved[:n], np.roll(np.asarray(signal)[:n], by, axis=0))
        assert not moved[n:].any()
        found.add((int(n), by))
    assert len({by for n, by in found if n == 12}) > 4
    assert len({by for n, by in found if n == 7}) > 3


def test_a_shift_is_at_most_its_share_and_fills_what_comes():
    after = applied(time_shift(0.25, circular=False, fill=(-1.0, -2.0)), rows())["signal"]
    shifts = set()
    for moved in after:
        by = next(k for k in range(-3, 4) if moved[6, 0] == 7 - k)
        wanted = [t + 1 - by if 0 <= t - by < STEPS else -1 for t in range(STEPS)]
        np.testing.assert_array_equal(moved[:, 0], wanted)
        np.testing.assert_array_equal(moved[:, 1], [2 * x if x > 0 else -2 for x in wanted])
        shifts.add(by)
    assert shifts == set(range(-3, 4))


def test_a_mask_hides_one_span_of_at_most_its_share_within_the_length():
    before = rows(LENGTHS)
    after = applied(time_mask(0.5, fill=(-1.0, -5.0)), before)["signal"]
    extents = {0: set(), 1: set(), 7: set(), 12: set()}
    starts = set()
    for signal, masked, n in zip(before["signal"], after, LENGTHS, strict=True):
        hidden = masked[:, 0] == -1
        assert not masked[n:].any()
        np.testing.assert_array_equal(hidden, masked[:, 1] == -5)
        np.testing.assert_array_equal(masked[~hidden], np.asarray(signal)[~hidden])
        at = np.flatnonzero(hidden)
        if at.size:
            assert at[-1] - at[0] + 1 == at.size  # one span
            starts.add(int(at[0]))
        extents[int(n)].add(at.size)
    assert extents[0] == extents[1] == {0}
    assert max(extents[7]) == 3
    assert extents[12] <= set(range(7))
    assert max(extents[12]) == 6
    assert len(starts) > 4


def test_an_amplitude_is_one_factor_a_signal():
    after = applied(amplitude((0.5, 2.0)), rows(LENGTHS))["signal"]
    times = after[LENGTHS > 0, 0, 0]
    assert (times >= 0.5).all()
    assert (times <= 2).all()
    assert len(np.unique(times)) == len(times)
    np.testing.assert_allclose(
        after[LENGTHS > 0], times[:, None, None] * np.asarray(rows(LENGTHS)["signal"])[LENGTHS > 0]
    )
    one = applied(amplitude(0.1), rows())["signal"][:, 0, 0]
    assert (abs(one - 1) <= 0.1001).all()


@pytest.mark.parametrize(
    "stage", [gaussian_noise(1.0), cutout(5, fill=3.0), time_mask(1.0, 9.0), time_shift(1.0)]
)
def test_padding_stays_0_and_an_example_s_numbers_are_its_own(stage):
    batch = rows(LENGTHS)
    after = applied(chain(stage), batch)["signal"]
    assert not np.array_equal(after, np.asarray(batch["signal"]))
    padding = np.arange(STEPS)[None] >= LENGTHS[:, None]
    assert not after[padding].any()
    assert after.dtype == np.float32
    other = {**batch, "signal": batch["signal"].at[1:].multiply(2)}
    np.testing.assert_array_equal(applied(chain(stage), other)["signal"][0], after[0])


def test_signals_of_float64_draw_the_same():
    stage = chain(time_shift(0.5), time_mask(0.3), amplitude(0.2))
    with jax.enable_x64(True):
        batch = {"signal": jnp.asarray(np.asarray(rows()["signal"], np.float64))}
        after = stage(jax.random.key(0), batch)["signal"]
        assert after.dtype == jnp.float64
    np.testing.assert_allclose(after, applied(stage, rows())["signal"], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: time_shift(1.5), "most=1.5 is not in 0..1"),
        (lambda: time_mask(-0.1), "most=-0.1 is not in 0..1"),
        (lambda: time_mask(0.1, np.nan), "fill=nan is not one value"),
        (lambda: amplitude((2.0, 1.0)), r"gain=\(2.0, 1.0\) is no number"),
        (lambda: time_mask(0.1, (1, 2, 3))(jax.random.key(0), rows()), "for 2 channels of signal"),
        (lambda: time_shift(0.1)(jax.random.key(0), {"image": jnp.zeros(1)}), "no 'signal'"),
        (
            lambda: amplitude(1)(jax.random.key(0), {"signal": jnp.zeros((1, 2))}),
            r"not \(B, L, C\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
