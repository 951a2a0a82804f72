"""The contracts, proven by a new task: a detector in 50 lines goes through the loop as it is."""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.layers.norm import BatchNorm
from train.accumulate import accumulated
from train.augment import chain, flip
from train.checkpoints import Checkpoints
from train.data.arrays import Arrays
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About
from train.data.streaming import Streaming
from train.evaluate import evaluate, evaluation_step
from train.logs import Logs
from train.loop import NonFinite, Rhythm, fit
from train.mesh import compiled_evaluation, compiled_initial, compiled_step, make_mesh
from train.optim import moving_average
from train.state import initial
from train.step import training_step
from train.tasks.task import Aux, Measured, Ratio, Summary, Task

GRID, CELL, CAPACITY = 4, 4, 3


def scenes(count, seed):
    """16x16 images with 0 to 3 bright squares, each in a cell of its own."""
    rng = np.random.default_rng(seed)
    images, boxes = rng.integers(0, 60, (count, 16, 16, 1), np.uint8), []
    for image in images:
        cells = rng.permutation(GRID * GRID)[: rng.integers(0, CAPACITY + 1)]
        corners = np.stack([cells % GRID, cells // GRID], -1) * CELL
        for x, y in corners:
            image[y : y + CELL, x : x + CELL] = 200
        boxes.append(np.concatenate([corners, corners + CELL], -1).astype(np.float32))
    labels = [np.zeros(len(b), np.int32) for b in boxes]
    return Arrays(
        {"image": images, "boxes": boxes, "box_label": labels},
        About("squares", f"part {seed}", ("square",), mirror=True, shape=(16, 16, 1)),
    )


# --- the detector: a network and a task, nothing else -----------------------------------------


class Detector(nn.Module):
    """(B, 16, 16, 1) -> (B, 4, 4, 5): objectness and box; in training an auxiliary (B,) too."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train):
        conv = partial(nn.Conv, dtype=self.dtype, param_dtype=self.dtype)
        x = conv(8, (CELL, CELL), strides=CELL, use_bias=False)(x)
        x = BatchNorm(dtype=self.dtype, param_dtype=self.dtype)(x, train=train, act=nn.relu)
        count = conv(1, (1, 1), name="count")(x).sum((1, 2, 3))
        x = conv(5, (1, 1), name="head")(x)
        return (x, count) if train else x


CORNERS = np.stack(np.meshgrid(np.arange(GRID), np.arange(GRID)), -1) * CELL
ANCHORS = np.concatenate([CORNERS, CORNERS + CELL], -1)[None].astype(np.float32)


def targets(batch):
    """(B, 4, 4) whether a box is centred in the cell, and (B, 4, 4, 4) that box."""
    boxes, valid = batch["boxes"], batch["box_valid"] & batch["valid"][:, None]
    x, y = jnp.moveaxis((boxes[..., :2] + boxes[..., 2:]).astype(int) // 2 // CELL, -1, 0)
    cells = jax.nn.one_hot(y * GRID + x, GRID * GRID) * valid[..., None]
    shape = (len(boxes), GRID, GRID)
    return cells.sum(1).reshape(shape), jnp.einsum("bnc,bnk->bck", cells, boxes).reshape(*shape, 4)


def detection(network):
    def inputs(batch):
        return batch["image"].astype(jnp.float32) / 255

    def loss(variables, batch, key):
        (out, count), updated = network.apply(
            variables, inputs(batch), train=True, mutable=["batch_stats"]
        )
        there, boxes = targets(batch)
        of_score = optax.sigmoid_binary_cross_entropy(out[..., 0], there).sum()
        of_box = (jnp.abs(out[..., 1:] + ANCHORS - boxes).sum(-1) * there).sum()
        of_count = ((count - there.sum((1, 2))) ** 2).sum()  # the auxiliary output
        weight = jnp.maximum(batch["valid"].sum(), 1).astype(out.dtype)
        total = of_score + of_box + 0.01 * of_count
        return total / weight, Aux(dict(updated), {"loss": Ratio(total, weight)})

    def predict(variables, x):
        out = network.apply(variables, x, train=False)
        boxes = (out[..., 1:] + ANCHORS).reshape(len(x), -1, 4)
        scores, best = jax.lax.top_k(nn.sigmoid(out[..., 0]).reshape(len(x), -1), CAPACITY)
        return {"boxes": jnp.take_along_axis(boxes, best[..., None], 1), "scores": scores}

    def measure(variables, batch):
        keep = {name: batch[name] for name in ("matrix", "size", "index")}
        return Measured({"scenes": batch["valid"].sum()}, predict(variables, inputs(batch)) | keep)

    def score(record, truth):
        assert record["size"].tolist() == [16, 16]
        assert np.array_equal(record["matrix"], np.eye(3))
        found = record["boxes"][record["scores"] > 0.5]
        near = np.abs(found[:, None] - truth["boxes"][None]).max(-1) < 1
        sums = {
            "recall": Ratio(near.any(0).sum(), len(truth["boxes"])),
            "precision": Ratio(near.any(1).sum(), len(found)),
        }
        return sums, int(record["index"])

    def summarise(sums, kept):
        scalars = {name: sums[name].total / sums[name].weight for name in ("recall", "precision")}
        return Summary(scalars | {"count": int(sums["scenes"])}, {"kept": kept})

    return Task(inputs, loss, predict, measure, score, summarise)


# --- what goes through the loop ----------------------------------------------------------------

TRAIN, TEST = scenes(96, 0), scenes(37, 1)


def optimizer(hyper):
    return optax.adam(hyper["learning_rate"])


class Run:
    """The pieces of a run of the detector, put together as an experiment does."""

    def __init__(self, mesh, seed=0, *, dtype="float32", kind=Resident, rate=0.02):
        self.mesh, self.seed = mesh, seed
        self.seeds = len(seed) if isinstance(seed, tuple) else None
        network = Detector(dtype)
        self.task = detection(network)
        self.loader = kind(
            TRAIN,
            mesh=mesh,
            batch_size=16,
            transform=chain(flip()),
            seed=seed,
            capacity={"boxes": CAPACITY},
        )
        self.tests = kind(TEST, mesh=mesh, batch_size=16, order=once, capacity={"boxes": CAPACITY})
        self.step = compiled_step(
            training_step(self.task, optimizer, self.loader, average=moving_average(0.9)),
            mesh,
            self.seeds,
        )
        self.measure = compiled_evaluation(evaluation_step(self.task, self.tests), mesh, self.seeds)
        start = partial(
            initial,
            lambda key: network.init(key, jnp.zeros((1, 16, 16, 1)), train=False),
            optimizer,
            {"learning_rate": rate},
            averaged=True,
        )
        self.start = compiled_initial(lambda s: start(seed=s), mesh, self.seeds)

    def initial(self):
        return self.start(jnp.asarray(self.seed, jnp.uint32))

    def fit(self, path, until, state=None):
        self.summaries = []
        evaluated = self.summaries

        def validate(at, state):
            found = evaluate(
                self.measure, self.task, self.tests, TEST, state.evaluated, seeds=self.seeds
            )
            evaluated.append((at, found))
            return None if self.seeds else found[0].scalars["recall"]

        with Checkpoints(path / "checkpoints") as checkpoints:
            if state is None:
                restored = checkpoints.restore(shapes(self.initial()))
                state = self.initial() if restored is None else restored.state
            rhythm = Rhythm(until=until, evaluate_every=20, save_every=10, log_every=5)
            logs = Logs(path, steps=until, seeds=self.seed if self.seeds else None)
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


def one_device():
    return make_mesh(jax.devices()[:1])


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
    run = Run(one_device())
    path = tmp_path_factory.mktemp("plain")
    return run, jax.device_get(run.fit(path, 60)), path


def test_a_new_task_trains_and_is_scored_against_the_truth(plain):
    run, state, path = plain
    assert [at for at, _ in run.summaries] == [20, 40, 60]
    (first,), (last,) = run.summaries[0][1], run.summaries[-1][1]
    assert last.scalars["count"] == len(TEST)
    assert last.tables["kept"] == list(range(len(TEST)))
    assert last.scalars["recall"] > 0.9
    assert last.scalars["precision"] > 0.9
    assert first.scalars["precision"] <= last.scalars["precision"]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 4
    assert int(state.step) == 60


def test_one_compilation_serves_the_whole_run(plain):
    run, *_ = plain
    assert run.step._cache_size() == 1
    assert run.measure._cache_size() == 1


def test_a_run_cut_in_two_is_the_same_run_bit_for_bit(plain, tmp_path):
    _, whole, _ = plain
    Run(one_device()).fit(tmp_path, 25)
    resumed = Run(one_device()).fit(tmp_path, 60)
    assert largest_difference(resumed, whole) == 0


def test_a_run_goes_on_with_the_same_examples_on_other_devices(plain, tmp_path):
    _, whole, _ = plain
    Run(one_device()).fit(tmp_path, 25)
    resumed = Run(make_mesh()).fit(tmp_path, 60)
    assert largest_difference(numbers(resumed), numbers(whole)) < 2e-2
    assert largest_difference(numbers(resumed), numbers(Run(one_device()).initial())) > 0.1


def test_a_streaming_loader_gives_the_same_run(plain, tmp_path):
    _, whole, _ = plain
    assert largest_difference(Run(one_device(), kind=Streaming).fit(tmp_path, 60), whole) == 0


@pytest.mark.usefixtures("x64")
def test_one_and_four_devices_agree_in_float64(tmp_path):
    one = Run(one_device(), dtype="float64").fit(tmp_path / "one", 40)
    four = Run(make_mesh(), dtype="float64").fit(tmp_path / "four", 40)
    assert jax.tree.leaves(one.params)[0].dtype == np.float64
    difference = largest_difference(numbers(one), numbers(four))
    print(f"largest difference after 40 steps in float64: {difference:.1e}")
    assert difference < 1e-9


def test_one_and_four_devices_in_float32(tmp_path):
    one = Run(one_device()).fit(tmp_path / "one", 40)
    four = Run(make_mesh()).fit(tmp_path / "four", 40)
    difference = largest_difference(numbers(one), numbers(four))
    print(f"largest difference after 40 steps in float32: {difference:.1e}")
    assert difference < 1e-3


MESHES = pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(one_device, id="vmap on one device"),
        pytest.param(lambda: make_mesh(jax.devices()[:2], seeds=2), id="seed axis on two"),
        pytest.param(lambda: make_mesh(seeds=2), id="seed axis of two, data axis of two"),
    ],
)


@MESHES
def test_two_seeds_at_once_are_two_runs(mesh, tmp_path):
    pair = Run(mesh(), seed=(0, 7))
    both = pair.fit(tmp_path / "both", 20)
    for place, seed in enumerate((0, 7)):
        alone = Run(one_device(), seed=seed)
        single = alone.fit(tmp_path / str(seed), 20)
        mine = jax.tree.map(lambda x, place=place: x[place], jax.device_get(both))
        assert int(mine.seed) == seed
        assert largest_difference(numbers(mine), numbers(single)) < 1e-2
        assert len(pair.summaries[-1][1]) == 2
    other = jax.tree.map(lambda x: x[1], jax.device_get(both.params))
    assert (
        largest_difference(other, jax.tree.map(lambda x: x[0], jax.device_get(both.params))) > 0.1
    )
    lines = [
        json.loads(line) for line in (tmp_path / "both/metrics.jsonl").read_text().splitlines()
    ]
    assert {line["seed"] for line in lines} == {0, 7}
    assert pair.step._cache_size() == 1
    # Both resume, too.
    again = Run(mesh(), seed=(0, 7)).fit(tmp_path / "both", 30)
    assert again.step.tolist() == [30, 30]


def test_a_restored_state_needs_no_compilation_of_its_own(tmp_path):
    Run(make_mesh()).fit(tmp_path, 10)
    run = Run(make_mesh())
    run.fit(tmp_path, 20)
    run.step(run.initial(), run.loader.data, next(run.loader.payloads(0)))
    assert run.step._cache_size() == len({run.loader.shape(step) for step in range(20)}) == 1


@MESHES
def test_finiteness_is_per_seed(mesh, tmp_path):
    run = Run(mesh(), seed=(0, 7))
    state = run.initial()
    rates = jax.device_put(np.float32([0.02, np.nan]), state.hyper["learning_rate"].sharding)
    state = state.replace(hyper={"learning_rate": rates})
    with pytest.raises(NonFinite, match=r"step 1 in the runs \[1\]"):
        run.fit(tmp_path, 20, state)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = {line["seed"]: line for line in lines[-2:]}
    assert last[7]["weight_norm"] is None
    assert last[0]["weight_norm"] > 0


@pytest.fixture(scope="module")
def sharded():
    """The compiled step on four devices."""
    run = Run(make_mesh())
    state = run.initial()
    payload = next(run.loader.payloads(0))
    return run, state, payload, run.step.lower(state, run.loader.data, payload).compile().as_text()


def is_shared_out(text):
    # 16 examples on four devices: four each; with 16 the batch was silently replicated.
    assert "f32[4,16,16,1]" in text
    assert "f32[16,16,16,1]" not in text
    assert "u8[16,16,16,1]" not in text


def test_no_device_holds_the_whole_batch(sharded):
    run, state, payload, text = sharded
    is_shared_out(text)
    assert "all-gather" not in text
    payload = next(run.tests.payloads(0))
    evaluation = run.measure.lower(state.evaluated, run.tests.data, payload)
    is_shared_out(evaluation.compile().as_text())  # XLA gathers scores for top_k, no pixels


def test_accumulation_gathers_nothing(sharded):
    run, state, payload, _ = sharded
    step = training_step(
        run.task, optimizer, run.loader, gradient=accumulated(2), average=moving_average(0.9)
    )
    compiled = compiled_step(step, run.mesh).lower(state, run.loader.data, payload).compile()
    text = compiled.as_text()
    assert "f32[2,16,16,1]" in text  # 16 examples, four devices, two slices
    assert "all-gather" not in text


def test_a_step_transfers_nothing_implicitly(sharded):
    run, state, payload, _ = sharded
    state = jax.tree.map(jnp.copy, state)
    with jax.transfer_guard("disallow"):
        run.step(state, run.loader.data, payload)
