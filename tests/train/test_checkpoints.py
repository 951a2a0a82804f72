import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from types import SimpleNamespace

import absl.logging
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import PartitionSpec, SingleDeviceSharding

from train.checkpoints import (
    Checkpoints,
    Damaged,
    NoneSound,
    ReadFailed,
    SaveFailed,
)
from train.digest import digests
from train.mesh import make_mesh, replicated
from train.quiet import abandoned_unheard, worth_hearing
from train.refusal import Failed
from train.seal import Differs
from train.state import State
from train.writer import on_host

ROOT = pathlib.Path(__file__).parents[2]
# Where one read or write fails, Orbax closes its event loop on those that are under way.
abandoned = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make_state(step: int = 0, *, ema: bool = False, width: int = 8) -> State:
    """Incompressible numbers, so that a flipped byte is a valid, other number."""
    rng = np.random.default_rng(step)
    params = {
        "conv": {"kernel": jnp.asarray(rng.normal(size=(64, width)), jnp.float32)},
        "dense": {"bias": jnp.asarray(rng.normal(size=(width,)), jnp.bfloat16)},
    }
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))
    return State(
        step=jnp.int32(step),
        seed=jnp.uint32(2**32 - 1),
        hyper={"lr": jnp.float32(0.1), "flag": jnp.asarray([True, False]), "n": jnp.int8(-3)},
        params=params,
        collections={},
        opt_state=optimizer.init(params),
        ema={"params": jax.tree.map(lambda x: x + 1, params)} if ema else None,
    )


def same(a, b) -> bool:
    """In structure, types and bits."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def save(checkpoints: Checkpoints, step: int, metric: float | None = None) -> State:
    state = make_state(step)
    checkpoints.save(step, state, state.evaluated)
    if metric is not None:
        checkpoints.rank(step, metric)
    return state


def kept(directory: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def spoil(directory: pathlib.Path, step: int, item: str = "state") -> None:
    """Flip a byte in the middle of the largest file of an item's arrays."""
    arrays = [path for path in files(directory / str(step) / item) if path.parent.name == "d"]
    largest = max(arrays, key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2)


def flip(path: pathlib.Path, at: int, mask: int = 0x10) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    with Checkpoints(tmp_path / "checkpoints", say=said.append) as opened:
        yield opened


@pytest.mark.parametrize("ema", [False, True])
def test_round_trip(checkpoints, said, ema):
    state = make_state(3, ema=ema)
    assert checkpoints.restore(state) is None
    checkpoints.save(3, state, state.evaluated)
    restored = checkpoints.restore(state)
    assert restored.step == 3
    assert same(restored.state, state)
    assert restored.state.collections == {}
    assert (restored.state.ema is None) == (not ema)
    variables = checkpoints.restore_variables(state.evaluated)
    assert same(variables, state.evaluated)
    assert list(variables["params"]) == list(state.params)
    assert said == []


def test_the_variables_given_are_what_is_read_alone(checkpoints):
    state = make_state(1, ema=True)
    checkpoints.save(1, state, state.evaluated)
    assert same(checkpoints.restore_variables(state.evaluated), state.ema)
    assert not same(state.ema["params"], state.params)


RETENTION = {
    # metrics of steps 0, 10, …: what is kept of them with keep=2, and which is best
    "the best is old": ([0.9, 0.5, 0.6, 0.7], [0, 20, 30], 0),
    "the best is new": ([0.1, 0.2, 0.3, 0.4], [20, 30], 30),
    "the newest of equals": ([0.5, 0.9, 0.9, 0.1, 0.2], [20, 30, 40], 20),
    "none is ranked": ([None, None, None, None], [20, 30], None),
    "no metric is no best": ([None, 0.2, None, None], [10, 20, 30], 10),
    "NaN is no best": ([float("nan"), 0.2, float("nan"), float("nan")], [10, 20, 30], 10),
    "infinity is no best": ([float("inf"), -0.2, -0.3, -0.4], [10, 20, 30], 10),
    "all are NaN": ([float("nan")] * 4, [20, 30], None),
    "negative": ([-5.0, -1.0, -2.0, -3.0], [10, 20, 30], 10),
}


@pytest.mark.parametrize(("metrics", "left", "best"), RETENTION.values(), ids=RETENTION)
def test_retention(tmp_path, metrics, left, best):
    for reopened in (False, True):
        directory = tmp_path / str(reopened)
        checkpoints = Checkpoints(directory)
        x = {"x": jnp.zeros(2)}
        for number, metric in enumerate(metrics):
            checkpoints.save(10 * number, x, x)
            assert not checkpoints.ranked(10 * number)
            checkpoints.rank(10 * number, metric)
            assert checkpoints.ranked(10 * number)
            if reopened:
                checkpoints.close()
        assert checkpoints.best() == best
        assert checkpoints.latest() == 10 * (len(metrics) - 1)
        checkpoints.close()
        assert kept(directory) == left


def test_a_step_that_exists(checkpoints):
    save(checkpoints, 10, 0.5)
    checkpoints.wait()
    before = {path: path.stat().st_mtime_ns for path in files(checkpoints.directory)}
    save(checkpoints, 10)
    checkpoints.wait()
    assert before == {path: path.stat().st_mtime_ns for path in files(checkpoints.directory)}
    with pytest.raises(ValueError, match="step 5 can't be saved after step 10"):
        save(checkpoints, 5)
    assert checkpoints.best() == 10


def test_a_step_is_saved_before_it_is_ranked(checkpoints):
    for step, metric in ((10, 0.5), (20, 0.7)):
        save(checkpoints, step)
        assert checkpoints.latest() == step  # as a killed evaluation would leave it
        checkpoints.rank(step, metric)
    assert checkpoints.best() == 20
    checkpoints.rank(20, 0.1)  # evaluated again
    assert checkpoints.best() == 10


def test_what_was_the_best_goes_as_soon_as_another_is(checkpoints):
    save(checkpoints, 10, 0.5)
    for step in (20, 30):
        save(checkpoints, step, 0.1)
    save(checkpoints, 40)
    checkpoints.wait()
    assert kept(checkpoints.directory) == [10, 30, 40]
    checkpoints.rank(40, 0.6)
    assert kept(checkpoints.directory) == [30, 40]


def test_a_rank_that_was_changed(checkpoints, said):
    save(checkpoints, 10, 0.5)
    save(checkpoints, 20, 0.4)
    file = checkpoints.directory / "10" / "rank.json"
    file.write_text(file.read_text().replace("0.5", "0.9"))
    assert not checkpoints.ranked(10)
    assert checkpoints.best() == 20
    assert said == [
        "the checkpoint of step 10 is damaged: rank.json: not as it was sealed; it can't be ranked"
    ]
    assert checkpoints.restore(make_state()).step == 20


def test_a_step_that_the_run_deletes_meanwhile_is_not_damaged(checkpoints, said, monkeypatch):
    save(checkpoints, 10, 0.5)
    save(checkpoints, 20, 0.4)
    original = Checkpoints._metric

    def deleted_first(self, step):
        if step == 10:
            shutil.rmtree(self.directory / "10")
        return original(self, step)

    with Checkpoints(checkpoints.directory, say=said.append) as reader:
        monkeypatch.setattr(Checkpoints, "_metric", deleted_first)
        assert reader.best() == 20
    assert said == []


STRANGE = ("007", "٣٥", "3.orbax-checkpoint-tmp", "12a", "-1", "¹")


@abandoned
def test_names_that_look_like_a_step(checkpoints, said):
    """Made by a killed save, or by somebody: a resume neither takes them nor ends at them."""
    for name in STRANGE:
        (checkpoints.directory / name).mkdir(parents=True)
    (checkpoints.directory / "40").write_text("a file")
    (checkpoints.directory / "damaged").write_text("a file")
    assert not checkpoints.begun()
    assert checkpoints.restore(make_state()) is None
    save(checkpoints, 10)
    save(checkpoints, 20)
    assert checkpoints.latest() == 20
    assert checkpoints.steps() == [10, 20]
    spoil_after = checkpoints.directory
    checkpoints.wait()
    spoil(spoil_after, 20)
    assert checkpoints.restore(make_state()).step == 10
    assert (spoil_after / "damaged" / "20").is_dir()
    assert (spoil_after / "damaged.file").read_text() == "a file"
    save(checkpoints, 30)
    assert checkpoints.latest() == 30


def test_a_damaged_step_is_set_aside_and_retention_goes_on(checkpoints, said):
    directory = checkpoints.directory
    for step, metric in ((0, 0.9), (10, 0.1), (20, 0.2)):
        save(checkpoints, step, metric)
    checkpoints.wait()
    spoil(directory, 20)
    held = [path.read_bytes() for path in files(directory / "20")]
    restored = checkpoints.restore(make_state())
    assert restored.step == 10
    assert same(restored.state, make_state(10))
    assert "step 20 is damaged: state: " in said[0]
    assert said[1:] == ["taking the checkpoint of step 10, the newest that is sound"]
    assert kept(directory) == [0, 10]
    assert [path.read_bytes() for path in files(directory / "damaged" / "20")] == held
    # Saved again at its number, it is written, and can be damaged again.
    save(checkpoints, 20, 0.3)
    assert checkpoints.restore(make_state()).step == 20
    spoil(directory, 20)
    assert checkpoints.restore(make_state()).step == 10
    assert sorted(path.name for path in (directory / "damaged").iterdir()) == ["20", "20-2"]
    for step in (20, 30, 40):
        save(checkpoints, step, step / 100)
    assert checkpoints.best() == 0
    assert kept(directory) == [0, 30, 40]
    assert same(checkpoints.restore(make_state()).state, make_state(40))


def test_one_item_may_be_sound(checkpoints, said):
    for step in (10, 20):
        save(checkpoints, step, step / 100)
    checkpoints.wait()
    spoil(checkpoints.directory, 20, "variables")
    target = make_state().evaluated
    assert same(checkpoints.restore_variables(target), make_state(10).evaluated)
    assert "step 20 is damaged: variables: " in said[0]
    with pytest.raises(Damaged, match="step 20 is damaged"):
        checkpoints.restore_variables(target, step=20)
    assert same(checkpoints.restore_variables(target, step=10), make_state(10).evaluated)
    assert kept(checkpoints.directory) == [10, 20]  # reading alone moves nothing


def test_the_variables_outlive_a_state_that_is_damaged(checkpoints, said):
    for step in (10, 20):
        save(checkpoints, step, step / 100)
    checkpoints.wait()
    spoil(checkpoints.directory, 20, "state")
    assert same(checkpoints.restore_variables(make_state().evaluated), make_state(20).evaluated)
    assert said == []
    assert checkpoints.restore(make_state()).step == 10


@pytest.mark.parametrize("ema", [False, True])
def test_no_array_is_written_twice(checkpoints, ema):
    state = make_state(3, ema=ema, width=4096)  # incompressible: a megabyte each
    checkpoints.save(3, state, state.evaluated)
    checkpoints.wait()
    bits = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    written = sum(path.stat().st_size for path in files(checkpoints.directory))
    assert written < 1.05 * bits
    assert same(checkpoints.restore(state).state, state)


def test_state_and_variables_that_share_some_or_all_arrays(checkpoints):
    x, y = jnp.arange(3.0), jnp.arange(4.0)
    for step, (state, variables) in enumerate(
        [({"x": x}, {"x": x}), ({"x": x, "y": y}, {"x": x, "z": y + 1}), ({"a": [x, x]}, {"b": x})]
    ):
        checkpoints.save(step, state, variables)
        assert same(checkpoints.restore(state).state, state)
        assert same(checkpoints.restore_variables(variables, step=step), variables)


FINISHED = {
    "the best is old": ([0.9, 0.5, 0.6, 0.7], [0, 30]),
    "the best is the newest": ([0.1, 0.2, 0.3, 0.4], [20, 30]),
    "the best is the one before": ([0.1, 0.2, 0.4, 0.3], [20, 30]),
    "none is ranked": ([None, None, None], [10, 20]),
    "one": ([0.5], [0]),
}


@pytest.mark.parametrize(("metrics", "left"), FINISHED.values(), ids=FINISHED)
def test_two_stay_of_a_finished_run(checkpoints, metrics, left):
    for number, metric in enumerate(metrics):
        save(checkpoints, 10 * number, metric)
    best = checkpoints.best()
    for _ in range(2):
        checkpoints.finish()
        assert kept(checkpoints.directory) == left
    assert checkpoints.best() == best
    assert checkpoints.restore(make_state()).step == left[-1]
    with Checkpoints(checkpoints.directory) as again:
        again.finish()
        assert kept(checkpoints.directory) == left


def test_never_silently_anew(checkpoints):
    for step in (10, 20):
        save(checkpoints, step)
    checkpoints.wait()
    for step in (10, 20):
        spoil(checkpoints.directory, step)
    for _ in range(2):
        with pytest.raises(NoneSound, match=r"(?s)step 20 is damaged.*step 10 is damaged"):
            checkpoints.restore(make_state())
        assert kept(checkpoints.directory) == [10, 20]


def test_none_is_left_but_one_was(checkpoints, said):
    save(checkpoints, 10)
    checkpoints.close()
    (checkpoints.directory / "10" / "record" / "metadata").write_text("{")
    save(checkpoints, 20)
    checkpoints.wait()
    shutil.rmtree(checkpoints.directory / "20")
    with pytest.raises(NoneSound, match="step 10 is damaged: record: "):
        checkpoints.restore(make_state())


def test_nothing_to_read(checkpoints):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoints.restore_variables(make_state().evaluated)
    assert not checkpoints.directory.exists()
    save(checkpoints, 10)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 5 .* there are \[10\]"):
        checkpoints.restore_variables(make_state().evaluated, step=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory with one checkpoint, to be copied and spoilt."""
    directory = tmp_path_factory.mktemp("written") / "checkpoints"
    with Checkpoints(directory) as checkpoints:
        save(checkpoints, 10, 0.5)
    return directory


def outcome(directory: pathlib.Path) -> dict[str, str]:
    """What reading each item comes to: "same", or what is said to be damaged."""
    state, found = make_state(10), {}
    checkpoints = Checkpoints(directory)
    for item, read, expected in (
        ("state", lambda: checkpoints.restore(state).state, state),
        ("variables", lambda: checkpoints.restore_variables(state.evaluated), state.evaluated),
    ):
        try:
            assert same(read(), expected), f"{item} is not what was written, and nothing is said"
            found[item] = "same"
        except NoneSound as error:
            found[item] = str(error)
    return found


@abandoned
def test_flipped_bytes(written, tmp_path):
    rng = np.random.default_rng(0)
    names = [path.relative_to(written) for path in files(written)]
    sizes = np.array([(written / name).stat().st_size for name in names])
    # At least 25: one in every file, the others where the bytes are.
    more = rng.choice(len(names), max(25 - len(names), 8), p=sizes / sizes.sum())
    chosen = [*range(len(names)), *more]
    outcomes = []
    copy = tmp_path / "checkpoints"
    shutil.copytree(written, copy)
    for number in chosen:
        path = copy / names[number]
        flip(path, int(rng.integers(sizes[number])), 1 << int(rng.integers(8)))
        outcomes.append((names[number], outcome(copy)))
        shutil.copy(written / names[number], path)
    noticed = [text for _, found in outcomes for text in found.values() if text != "same"]
    assert len(noticed) > 10
    assert any("other bits in params/conv/kernel" in text for text in noticed)  # by us alone
    for name, found in outcomes:
        if name.parts[1] == "state":
            assert found["variables"] == "same", name


@abandoned
@pytest.mark.parametrize("how", ["truncated", pytest.param("deleted", marks=pytest.mark.slow)])
def test_files_cut_short(written, tmp_path, how):
    noticed = 0
    copy = tmp_path / "checkpoints"
    shutil.copytree(written, copy)
    for name in [path.relative_to(written) for path in files(written)]:
        path = copy / name
        data = path.read_bytes()
        if how == "deleted":
            path.unlink()
        else:
            path.write_bytes(data[: len(data) // 2])
        noticed += set(outcome(copy).values()) != {"same"}
        path.write_bytes(data)
    assert noticed > 5


RECORD = {
    "a form": ("float32(64, 8)", "float32(64, 9)"),
    "a path": ("params/conv", "params/cone"),
    "the step": ('"step": 10', '"step": 20'),
    "an item": ('"variables"', '"wariables"'),
}


@pytest.mark.parametrize(("old", "new"), RECORD.values(), ids=RECORD)
def test_a_record_that_was_changed(written, tmp_path, said, old, new):
    copy = tmp_path / "checkpoints"
    shutil.copytree(written, copy)
    path = copy / "10" / "record" / "metadata"
    path.write_text(path.read_text().replace(old, new))
    checkpoints = Checkpoints(copy, say=said.append)
    with pytest.raises(NoneSound, match="record: not as it was sealed"):  # and not Differs
        checkpoints.restore(make_state())


def test_a_folder_under_another_number(written, tmp_path):
    copy = tmp_path / "checkpoints"
    shutil.copytree(written / "10", copy / "20")
    with pytest.raises(NoneSound):
        Checkpoints(copy).restore(make_state())


def replaced(state: State, kernel) -> State:
    return state.replace(params={**state.params, "conv": {"kernel": kernel}})


DIFFERENT = {
    "shape": (
        lambda s: replaced(s, jnp.zeros((64, 9))),
        r"params/conv/kernel: float32\(64, 8\) there, float32\(64, 9\) asked",
    ),
    "type": (
        lambda s: replaced(s, jnp.zeros((64, 8), jnp.int32)),
        r"params/conv/kernel: float32\(64, 8\) there, int32\(64, 8\) asked",
    ),
    "missing there": (
        lambda s: s.replace(collections={"batch_stats": jnp.zeros(3)}),
        r"collections/batch_stats: absent there, float32\(3,\) asked",
    ),
    "not asked": (
        lambda s: s.replace(hyper={}),
        r"hyper/flag: bool\(2,\) there, absent asked; hyper/lr: .*; hyper/n: ",
    ),
}


@pytest.mark.parametrize(("change", "message"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_form_is_no_damage(written, tmp_path, change, message):
    copy = tmp_path / "checkpoints"
    shutil.copytree(written, copy)
    with pytest.raises(Differs, match=message):
        Checkpoints(copy).restore(change(make_state()))
    assert kept(copy) == [10]


def test_a_target_needs_a_sharding(written):
    target = jax.eval_shape(lambda: make_state().evaluated)
    with pytest.raises(ValueError, match="a target needs a sharding"):
        Checkpoints(written).restore_variables(target)


def test_on_another_number_of_devices(tmp_path):
    host = {
        "w": np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32),
        "step": np.int32(7),
    }
    mesh = make_mesh()
    one = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), host)
    four = jax.tree.map(lambda _: replicated(mesh), host)
    split = {**four, "w": jax.NamedSharding(mesh, PartitionSpec("data"))}
    for name, saved, *targets in (("a", one, four, split), ("b", four, one), ("c", split, one)):
        tree = jax.device_put(host, saved)
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(7, tree, tree)
        for target in targets:
            asked = jax.tree.map(
                lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), host, target
            )
            restored = checkpoints.restore(asked).state
            assert same(restored, host)
            assert jax.tree.map(lambda x: x.sharding, restored) == target
        checkpoints.close()


def test_a_save_waits_for_a_copy_alone(checkpoints, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def later(leaves):
        begun.set()
        assert go_on.wait(60)
        return digests(leaves)

    monkeypatch.setattr("train.seal.digests", later)
    state = make_state(10, ema=True)
    checkpoints.save(10, state, state.evaluated)
    assert begun.wait(60)
    assert not checkpoints.directory.exists()
    go_on.set()
    assert same(checkpoints.restore(state).state, state)


def test_a_save_holds_one_copy_on_the_host(checkpoints):
    state = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(8_000_000,)), jnp.float32)}
    checkpoints.save(1, state, {"y": jnp.zeros(1)})
    checkpoints.wait()
    tracemalloc.start()
    try:
        checkpoints.save(2, state, {"y": jnp.zeros(1)})
        checkpoints.wait()
        assert tracemalloc.get_traced_memory()[1] < 1.3 * state["x"].nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("spec", [("data",), (None, "data"), ()])
def test_what_one_process_has_of_several_devices_is_copied_whole(spec):
    value = np.arange(96, dtype=np.float32).reshape(8, 12)
    sharded = jax.device_put(value, jax.NamedSharding(make_mesh(), PartitionSpec(*spec)))
    found = on_host({"a": sharded, "b": jnp.bfloat16(2), "c": value})
    assert same(found["a"], value)
    assert found["b"].dtype == jnp.bfloat16
    assert not any(np.shares_memory(found["a"], one.data) for one in sharded.addressable_shards)
    assert not np.shares_memory(found["c"], value)


@abandoned
def test_what_fails_in_the_background_is_raised_once_where_it_is_waited_for(checkpoints):
    checkpoints.save(10, {"x": jnp.zeros((0, 3))}, {"x": jnp.zeros(1)})
    with pytest.raises(SaveFailed, match="step 10 could not be written"):
        checkpoints.rank(10, 0.5)
    checkpoints.close()
    assert not any(thread.name.startswith("checkpoint") for thread in threading.enumerate())
    settle()


@pytest.mark.parametrize("devices", [1, 4])
def test_donation_after_save(checkpoints, devices):
    # On a CPU, what Orbax writes in the background is the buffer itself.
    mesh = make_mesh(jax.devices()[:devices])
    value = np.random.default_rng(0).normal(size=(4_000_000,)).astype(np.float32)
    overwrite = jax.jit(lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0)
    state = jax.device_put({"x": value}, replicated(mesh))
    overwrite(jax.device_put({"x": value}, replicated(mesh)))  # compiled
    checkpoints.save(1, state, {"y": jnp.zeros(1)})
    for _ in range(5):
        state = overwrite(state)
    jax.block_until_ready(state)
    assert same(checkpoints.restore(state).state, {"x": value})


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow beyond 400 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def settle():
    """What a failed save leaves behind ends within the test that caused it."""
    for thread in threading.enumerate():
        if type(thread).__name__ == "_SignalingThread":
            threading.Thread.join(thread, 30)  # its own raises what the save already did
            assert not thread.is_alive()
    gc.collect()


TOLD = {
    "wait": lambda c: c.wait(),
    "save": lambda c: save(c, 40, 0.4),
    "close": lambda c: c.close(),
    "best": lambda c: c.best(),
    "restore": lambda c: c.restore(make_state()),
}


@abandoned
@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_a_failed_save_is_an_error_that_names_its_step(checkpoints, said, capfd, caplog, told):
    for step, metric in ((10, 0.9), (15, 0.1), (20, 0.1)):
        save(checkpoints, step, metric)
    checkpoints.wait()
    with full_disk():
        save(checkpoints, 30)
        with pytest.raises(SaveFailed, match="step 30 could not be written: ") as caught:
            told(checkpoints)
    assert caught.value.step == 30
    checkpoints.wait()  # said once
    settle()
    # What a success would have deleted is there, and is deleted by the next success.
    assert kept(checkpoints.directory) == [10, 15, 20]
    target = make_state().evaluated
    assert same(checkpoints.restore_variables(target), make_state(20).evaluated)
    for step in (30, 40):
        save(checkpoints, step, 0.3)
    assert checkpoints.best() == 10
    assert kept(checkpoints.directory) == [10, 30, 40]
    assert same(checkpoints.restore(make_state()).state, make_state(40))
    assert not list(checkpoints.directory.glob("*tmp*"))
    assert said == []
    assert [r for r in caplog.records if r.name == "absl"] == []
    assert capfd.readouterr() == ("", "")


@abandoned
def test_a_directory_that_vanished(checkpoints):
    save(checkpoints, 10)
    checkpoints.wait()
    shutil.rmtree(checkpoints.directory)
    checkpoints.directory.write_text("a file")
    save(checkpoints, 20)
    with pytest.raises(SaveFailed, match="step 20 could not be written: NotADirectoryError"):
        checkpoints.wait()
    settle()


def test_a_run_whose_directory_is_gone_is_not_made_anew(tmp_path):
    (tmp_path / "run").mkdir()
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        save(checkpoints, 10)
        checkpoints.wait()
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(SaveFailed, match=r"step 20 could not be written: .*No such directory"):
            save(checkpoints, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    with Checkpoints(tmp_path / "moved" / "checkpoints") as checkpoints:
        assert checkpoints.restore(make_state()).step == 10
    # Nor by the first save.
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    with pytest.raises(SaveFailed, match=r"step 10 could not be written: .*No such directory"):
        save(checkpoints, 10)
    assert not (tmp_path / "run").exists()


@abandoned
def test_what_orbax_refuses(checkpoints):
    save(checkpoints, 10)
    checkpoints.save(20, {"x": jnp.zeros((0, 3))}, {"x": jnp.zeros(1)})
    with pytest.raises(SaveFailed, match=r"step 20 could not be written: .* zero size"):
        checkpoints.wait()
    settle()
    save(checkpoints, 20)
    assert checkpoints.latest() == 20


@abandoned
def test_a_failed_save_does_not_hide_the_error_that_ends_the_run(tmp_path, said):
    def run(directory, error):
        with Checkpoints(tmp_path / directory, say=said.append) as checkpoints:
            checkpoints.save(10, {"x": jnp.ones(4)}, {"x": jnp.ones(4)})
            checkpoints.wait()
            with full_disk():
                save(checkpoints, 20)
                time.sleep(0.5)
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        run("interrupted", KeyboardInterrupt())
    assert len(said) == 1
    assert "step 20 could not be written" in said[0]
    with pytest.raises(SaveFailed):
        run("ended", None)
    settle()


@abandoned
def test_a_reader_without_descriptors_blames_no_checkpoint(checkpoints, said, capfd):
    """A run that goes on under another limit must not set aside what is sound."""
    for step in (10, 20):
        save(checkpoints, step)
    checkpoints.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as last:
        for room in (0, 2):
            resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1 + room, hard))
            try:
                with pytest.raises(Failed) as caught:
                    checkpoints.restore(make_state())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert type(caught.value) is (Failed, ReadFailed)[room > 0]
            assert str(caught.value).endswith(" could not be read: Too many open files")
    gc.collect()
    assert kept(checkpoints.directory) == [10, 20]
    assert said == []
    assert checkpoints.restore(make_state()).step == 20
    assert capfd.readouterr() == ("", "")


def test_an_empty_folder_in_place_of_a_checkpoint(checkpoints, said):
    for step in (10, 20):
        save(checkpoints, step)
    checkpoints.close()
    shutil.rmtree(checkpoints.directory / "20")
    (checkpoints.directory / "20").mkdir()
    assert checkpoints.restore(make_state()).step == 10
    assert "the checkpoint of step 20 is damaged: record: FileNotFoundError" in said[0]
    assert said[1:] == ["taking the checkpoint of step 10, the newest that is sound"]
    assert [*(checkpoints.directory / "damaged" / "20").iterdir()] == []


KILLED = """
import os, pathlib, signal, sys, time
import jax, numpy as np
from train.checkpoints import Checkpoints
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
x = {"x": jax.numpy.asarray(np.random.default_rng(0).normal(size=(4_000_000,)), "float32")}
checkpoints.save(1, x, {"y": x["x"][:3]})
checkpoints.wait()
checkpoints.save(2, x, {"y": x["x"][:3]})
while not any(path.name[:1] == "2" for path in checkpoints.directory.iterdir()):
    time.sleep(0.001)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_as_it_saves(tmp_path, said):
    directory = tmp_path / "checkpoints"
    ended = subprocess.run([sys.executable, "-c", KILLED, directory], cwd=ROOT, timeout=100)
    assert ended.returncode == -signal.SIGKILL
    left = [path.name for path in directory.iterdir()]
    assert any(name.startswith("2.") for name in left), "it was too quick to be killed midway"
    device = SingleDeviceSharding(jax.devices()[0])
    target = {"x": jax.ShapeDtypeStruct((4_000_000,), jnp.float32, sharding=device)}
    with Checkpoints(directory, say=said.append) as checkpoints:
        restored = checkpoints.restore(target)
        assert restored.step == 1
        checkpoints.save(3, restored.state, {"y": restored.state["x"][:3]})
        assert same(checkpoints.restore(target).state, restored.state)
    assert sorted(path.name for path in directory.iterdir()) == ["1", "3"]
    assert said == []


def test_what_else_logs_through_absl_is_heard(checkpoints, caplog):
    absl.logging.warning("heard")
    save(checkpoints, 10)
    checkpoints.wait()
    assert [record.message for record in caplog.records] == ["heard"]


ORBAX = pathlib.Path(ocp.__file__).parent


@pytest.mark.parametrize(
    ("path", "level", "heard"),
    [
        (ORBAX / "_src" / "metadata" / "checkpoint.py", logging.WARNING, False),
        (ORBAX / "_src" / "metadata" / "checkpoint.py", logging.ERROR, True),
        (ORBAX / "_src" / "checkpointers" / "async_checkpointer.py", logging.ERROR, False),
        (ORBAX / "_src" / "futures" / "future.py", logging.ERROR, False),
        (ORBAX / "checkpoint_manager.py", logging.ERROR, False),
        (ROOT / "train" / "future.py", logging.INFO, True),
    ],
)
def test_of_orbax_the_errors_are_heard_that_it_does_not_raise(path, level, heard):
    record = logging.LogRecord("absl", level, str(path), 1, "text", None, None)
    assert worth_hearing(record) == heard
    assert path.exists() == ("orbax" in path.parts)


async def of_ours():
    pass


class Finaliser:
    def __del__(self):
        raise ValueError("ours")


def test_only_what_orbax_leaves_behind_is_unheard(monkeypatch):
    heard, loop = [], asyncio.new_event_loop()
    loop.close()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: heard.append(str(what.exc_value)))

    def complain(error=None, found=None):
        trace = None if error is None else error.__traceback__
        sys.unraisablehook(
            SimpleNamespace(
                exc_type=type(error), exc_value=error, exc_traceback=trace, object=found
            )
        )

    with abandoned_unheard():
        Finaliser()
        gc.collect()
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            complain(error)
        ours, theirs = of_ours(), ocp.StandardCheckpointHandler().async_save("", None)
        complain(found=ours)
        complain(found=theirs)
        ours.close()
        theirs.close()
    complain(found=loop)
    assert heard == ["ours", "None", "None"]
