"""The contracts, proven by a new task: a detector in a page goes through the house as it is.

The experiment itself is `tests/making/toy_detector.py`.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_detector
from toy_detector import CAPACITY, Config

from train.accumulate import accumulated
from train.augment import chain, flip
from train.checkpoints import Checkpoints
from train.data.order import once
from train.data.resident import Resident
from train.evaluate import evaluate, evaluation_step
from train.logs import Logs, read_metrics
from train.loop import NonFinite, Rhythm, fit
from train.mesh import compiled_evaluation, compiled_initial, compiled_step, make_mesh
from train.optim import moving_average
from train.prepared import prepare
from train.run import judge, train
from train.session import session
from train.state import initial
from train.step import training_step
from train.stop import Stopped

ONE = Config(devices=1)


def whole(path, config=ONE, *, stop_at=None):
    """Prepare, train, judge; or a run that a signal stops."""
    prepared = prepare(toy_detector, config)
    if stop_at is not None:
        prepared = replace(prepared, step=toy_detector.signalling(prepared.step, stop_at))
    with session(prepared, path) as here:
        state = train(prepared, here)
        return prepared, jax.device_get(state), judge(prepared, here, state)


def cut_in_two(path, first, second):
    """A run that is stopped at step 25, and gone on with."""
    with pytest.raises(Stopped):
        whole(path, first, stop_at=25)
    return whole(path, second)[1]


def largest_difference(a, b):
    """Of any leaf, as a fraction of its largest value."""

    def of_leaf(x, y):
        x, y = np.float64(x), np.float64(y)
        return np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)

    return max(jax.tree.leaves(jax.tree.map(of_leaf, *jax.device_get((a, b)))))


def numbers(state):
    return state.params, state.collections, state.opt_state, state.ema


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One run, uninterrupted, on one device."""
    path = tmp_path_factory.mktemp("plain")
    return *whole(path), path


def test_a_new_task_trains_and_is_scored_against_the_truth(plain):
    _, state, summary, path = plain
    assert int(state.step) == 60
    assert summary.scalars["count"] == 37
    assert [*summary.tables["predictions"].indices] == list(range(37))
    assert summary.scalars["recall"] > 0.9
    assert summary.scalars["precision"] > 0.9
    lines = read_metrics(path)
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 4
    validated = [line for line in lines if line.get("split") == "validation"]
    assert [line["step"] for line in validated] == [20, 40, 60]
    assert [line["count"] for line in validated] == [21, 21, 21]
    assert validated[0]["precision"] <= validated[-1]["precision"]


def test_one_compilation_serves_the_whole_run(plain):
    prepared, *_ = plain
    assert prepared.step._cache_size() == 1


def test_a_run_cut_in_two_is_the_same_run_bit_for_bit(plain, tmp_path):
    _, uncut, *_ = plain
    assert largest_difference(cut_in_two(tmp_path, ONE, ONE), uncut) == 0


def test_a_run_goes_on_with_the_same_examples_on_other_devices(plain, tmp_path):
    prepared, uncut, *_ = plain
    resumed = cut_in_two(tmp_path, ONE, Config(devices=4))
    assert largest_difference(numbers(resumed), numbers(uncut)) < 2e-2
    assert largest_difference(numbers(resumed), numbers(prepared.start(jnp.uint32(0)))) > 0.1


def test_a_streaming_loader_gives_the_same_run(plain, tmp_path):
    _, uncut, *_ = plain
    assert largest_difference(whole(tmp_path, replace(ONE, loader="streaming"))[1], uncut) == 0


@pytest.mark.usefixtures("x64")
def test_one_and_four_devices_agree_in_float64(tmp_path):
    config = Config(steps=40, dtype="float64", backend="jax")
    one = whole(tmp_path / "one", replace(config, devices=1))[1]
    four = whole(tmp_path / "four", replace(config, devices=4))[1]
    assert jax.tree.leaves(one.params)[0].dtype == np.float64
    difference = largest_difference(numbers(one), numbers(four))
    print(f"largest difference after 40 steps in float64: {difference:.1e}")
    assert difference < 1e-9


def test_one_and_four_devices_in_float32(tmp_path):
    config = Config(steps=40, backend="jax")
    one = whole(tmp_path / "one", replace(config, devices=1))[1]
    four = whole(tmp_path / "four", replace(config, devices=4))[1]
    difference = largest_difference(numbers(one), numbers(four))
    print(f"largest difference after 40 steps in float32: {difference:.1e}")
    assert difference < 1e-3


def test_a_restored_state_needs_no_compilation_of_its_own(tmp_path):
    config = Config(steps=12)
    with pytest.raises(Stopped):
        whole(tmp_path, config, stop_at=6)
    prepared, *_ = whole(tmp_path, config)
    prepared.step(
        prepared.start(jnp.uint32(0)), prepared.loader.data, next(prepared.loader.payloads(0))
    )
    assert prepared.step._cache_size() == len({prepared.loader.shape(n) for n in range(20)}) == 1


# --- several seeds as one program --------------------------------------------------------------

DATA = toy_detector.splits(Config())


class Seeds:
    """A run of N seeds at once, put together from the pieces."""

    def __init__(self, mesh, seeds, rates=0.02):
        self.mesh, self.seeds = mesh, seeds
        parts = toy_detector.build(Config(), DATA.train.about)
        how = {"mesh": mesh, "batch_size": 16, "capacity": {"boxes": CAPACITY}}
        self.loader = Resident(DATA.train, transform=chain(flip()), seed=seeds, **how)
        self.tests = Resident(DATA.test, order=once, **how)
        self.task = parts.task
        step = training_step(parts.task, parts.optimizer, self.loader, average=moving_average(0.9))
        self.step = compiled_step(step, mesh, len(seeds))
        self.measure = compiled_evaluation(
            evaluation_step(parts.task, self.tests), mesh, len(seeds)
        )
        start = partial(
            initial,
            lambda key: parts.network.init(key, jnp.zeros((1, 16, 16, 1)), train=False),
            parts.optimizer,
            parts.hyper,
            averaged=True,
        )
        self.start = compiled_initial(lambda seed: start(seed=seed), mesh, len(seeds))

    def initial(self):
        return self.start(jnp.asarray(self.seeds, jnp.uint32))

    def fit(self, path, until, state=None):
        self.summaries = []

        def validate(at, state):
            found = evaluate(
                self.measure,
                self.task,
                self.tests,
                DATA.test,
                state.evaluated,
                seeds=len(self.seeds),
            )
            self.summaries.append(found)

        with Checkpoints(path / "checkpoints") as checkpoints:
            if state is None:
                restored = checkpoints.restore(shapes(self.initial()))
                state = self.initial() if restored is None else restored.state
            rhythm = Rhythm(until=until, evaluate_every=20, save_every=10, log_every=5)
            logs = Logs(path, steps=until, seeds=self.seeds)
            try:
                return fit(
                    state,
                    step=self.step,
                    loader=self.loader,
                    rhythm=rhythm,
                    evaluate=validate,
                    checkpoints=checkpoints,
                    logs=logs,
                )
            finally:
                logs.close()


def shapes(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


MESHES = pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(lambda: make_mesh(jax.devices()[:1]), id="vmap on one device"),
        pytest.param(lambda: make_mesh(jax.devices()[:2], seeds=2), id="seed axis on two"),
        pytest.param(lambda: make_mesh(seeds=2), id="seed axis of two, data axis of two"),
    ],
)


def of_seed(tree, place):
    return jax.tree.map(lambda x: x[place], jax.device_get(tree))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Seed -> the state of a run of that seed alone, after 20 steps."""
    found = {}
    for seed in (0, 7):
        path = tmp_path_factory.mktemp("alone")
        config = replace(ONE, seed=seed, steps=20, backend="xla")
        found[seed] = whole(path, config)[1]
    return found


@MESHES
def test_two_seeds_at_once_are_two_runs(mesh, alone, tmp_path):
    pair = Seeds(mesh(), (0, 7))
    both = pair.fit(tmp_path, 20)
    for place, seed in enumerate((0, 7)):
        mine = of_seed(both, place)
        assert int(mine.seed) == seed
        assert largest_difference(numbers(mine), numbers(alone[seed])) < 1e-2
    assert len(pair.summaries[-1]) == 2
    assert largest_difference(of_seed(both.params, 1), of_seed(both.params, 0)) > 0.1
    assert {line["seed"] for line in read_metrics(tmp_path)} == {0, 7}
    assert pair.step._cache_size() == 1
    # Both resume, too.
    again = Seeds(mesh(), (0, 7)).fit(tmp_path, 30)
    assert again.step.tolist() == [30, 30]


def with_rates(run, rates):
    state = run.initial()
    rates = jax.device_put(np.float32(rates), state.hyper["learning_rate"].sharding)
    return state.replace(hyper={**state.hyper, "learning_rate": rates})


@MESHES
def test_a_seed_that_diverges_is_a_result_and_the_others_go_on(mesh, alone, tmp_path, capsys):
    run = Seeds(mesh(), (0, 7))
    both = run.fit(tmp_path, 20, with_rates(run, [0.02, np.nan]))
    assert largest_difference(numbers(of_seed(both, 0)), numbers(alone[0])) < 1e-2
    assert capsys.readouterr().out.count("Seed 7 diverged at step 1") == 1
    sound, lost = run.summaries[-1]
    assert lost.scalars["recall"] == 0
    assert np.isnan(lost.scalars["precision"])
    assert sound.scalars["recall"] > 0
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert {line["weight_norm"] for line in lines if line["seed"] == 7} == {None}
    assert all(line["weight_norm"] > 0 for line in lines if line["seed"] == 0)


def test_where_all_diverge_the_run_ends(tmp_path):
    run = Seeds(make_mesh(jax.devices()[:1]), (0, 7))
    with pytest.raises(NonFinite, match="not finite at step 1 in any seed"):
        run.fit(tmp_path, 20, with_rates(run, [np.nan, np.nan]))
    assert all(line["weight_norm"] is None for line in read_metrics(tmp_path))


# --- what a program over several devices holds -------------------------------------------------


@pytest.fixture(scope="module")
def sharded():
    """The compiled step on four devices."""
    prepared = prepare(toy_detector, Config())
    state = prepared.start(jnp.uint32(0))
    payload = next(prepared.loader.payloads(0))
    text = prepared.step.lower(state, prepared.loader.data, payload).compile().as_text()
    return prepared, state, payload, text


def is_shared_out(text):
    # 16 examples on four devices: four each; with 16 the batch was silently replicated.
    assert "f32[4,16,16,1]" in text
    assert "f32[16,16,16,1]" not in text
    assert "u8[16,16,16,1]" not in text


def test_no_device_holds_the_whole_batch(sharded):
    prepared, state, _, text = sharded
    is_shared_out(text)
    assert "all-gather" not in text
    tests = Resident(
        DATA.test, mesh=prepared.mesh, batch_size=16, order=once, capacity={"boxes": CAPACITY}
    )
    measure = compiled_evaluation(evaluation_step(prepared.parts.task, tests), prepared.mesh)
    evaluation = measure.lower(state.evaluated, tests.data, next(tests.payloads(0)))
    is_shared_out(evaluation.compile().as_text())  # XLA gathers scores for top_k, no pixels


def test_accumulation_gathers_nothing(sharded):
    prepared, state, payload, _ = sharded
    step = training_step(
        prepared.parts.task,
        prepared.parts.optimizer,
        prepared.loader,
        gradient=accumulated(2),
        average=moving_average(0.9),
    )
    compiled = compiled_step(step, prepared.mesh).lower(state, prepared.loader.data, payload)
    text = compiled.compile().as_text()
    assert "f32[2,16,16,1]" in text  # 16 examples, four devices, two slices
    assert "all-gather" not in text


def test_a_step_transfers_nothing_implicitly(sharded):
    prepared, state, payload, _ = sharded
    state = jax.tree.map(jnp.copy, state)
    with jax.transfer_guard("disallow"):
        prepared.step(state, prepared.loader.data, payload)
