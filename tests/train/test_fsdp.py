"""Parameters and optimiser state divided over devices: where they lie, and that nothing changes."""

import gc
import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_detector
from jax.sharding import NamedSharding, PartitionSpec
from toy_detector import Config

import models
from experiments.benchmark.collectives import collectives, summed
from train import optim, sharded
from train.checkpoints import Checkpoints
from train.disk import size
from train.mesh import batch_axes, compiled_initial, compiled_step, make_mesh
from train.opened import opened
from train.prepared import prepare
from train.refusal import Refused
from train.run import judge, run, train
from train.session import divided, session
from train.sharded import division
from train.state import initial
from train.stop import Stopped

P = PartitionSpec
WIDE = Config(dtype="float64", backend="jax", steps=12, evaluate_every=6, save_every=5)
SMALL = 256
LAYOUTS = {"one": (1, 1), "data": (4, 1), "both": (4, 2), "fsdp": (4, 4)}
"""Name -> devices, and how many of them share the parameters."""


@pytest.mark.parametrize(
    ("shape", "dtype", "fsdp", "expected"),
    [
        ((128, 128), np.float32, 2, P()),  # 64 KiB, and not above
        ((128, 129), np.float32, 2, P("fsdp")),  # 129 is larger, and odd
        ((130, 128), np.float32, 2, P("fsdp")),
        ((128, 130), np.float32, 2, P(None, "fsdp")),
        ((128, 130), np.float32, 4, P("fsdp")),
        ((128, 130), jnp.bfloat16, 2, P()),  # half the bytes
        ((3, 3, 64, 64), np.float32, 4, P(None, None, "fsdp")),  # the first of equals
        ((3, 3, 64, 128), np.float32, 4, P(None, None, None, "fsdp")),
        ((16385,), np.float32, 2, P()),  # of no axis
        ((16386,), np.float32, 2, P("fsdp")),
        ((1000, 1000), np.float32, 1, P()),
        ((), np.float64, 2, P()),
    ],
)
def test_a_large_leaf_is_divided_along_its_largest_axis(shape, dtype, fsdp, expected):
    mesh = make_mesh(fsdp=fsdp)
    assert division(jax.ShapeDtypeStruct(shape, dtype), mesh) == expected


def held():
    """Device -> bytes of all arrays that live on it."""
    total = dict.fromkeys(jax.devices(), 0)
    for array in jax.live_arrays():
        for shard in array.addressable_shards:
            total[shard.device] += shard.data.nbytes
    return total


@pytest.mark.parametrize("fsdp", [2, 4])
def test_the_state_of_a_resnet_on_each_device_falls_with_their_number(fsdp):
    network = models.create("resnet18_cifar", num_classes=10)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)

    def init(key):  # of the shapes alone: drawing eleven million numbers compiles for long
        return jax.tree.map(lambda x: jnp.full(x.shape, 0.5, x.dtype), shapes)

    def optimizer(hyper):
        rate = optim.scale_by_rate(optim.cosine(10), hyper["learning_rate"])
        return optim.sgd(rate, weight_decay=1e-4, momentum=0.9)

    def start(seed):
        return initial(init, optimizer, {"learning_rate": 0.1}, seed, averaged=True)

    gc.collect()
    before = held()
    state = compiled_initial(start, make_mesh(fsdp=fsdp))(jnp.uint32(0))
    jax.block_until_ready(state)
    each = [after - before[device] for device, after in held().items()]
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert whole > 3 * 4 * 11e6  # parameters, momentum, average
    assert max(each) <= 1.1 / fsdp * whole
    shards = [leaf.addressable_shards for leaf in jax.tree.leaves(state)]
    # Threads of tests before this one may still make or drop a small array.
    own = [sum(of[place].data.nbytes for of in shards) for place in range(4)]
    assert each == pytest.approx(own, rel=0.01)
    where = jax.tree.map(lambda leaf: leaf.sharding.spec, state)
    assert where.params == where.ema["params"]
    assert {*jax.tree.leaves(where.params)} <= {*jax.tree.leaves(where.opt_state)}


@pytest.fixture
def small(monkeypatch):
    """Leaves of the toy detector are small: here even those are divided."""
    monkeypatch.setattr(sharded, "SMALL", SMALL)


def on(layout, config=WIDE):
    devices, fsdp = LAYOUTS[layout]
    return replace(config, devices=devices, fsdp=fsdp)


def whole(path, config, *, stop_at=None):
    """Prepare, train, judge; or a run that a signal stops: state and summary."""
    prepared = prepare(toy_detector, config)
    if stop_at is not None:
        prepared = replace(prepared, step=toy_detector.signalling(prepared.step, stop_at))
    with session(prepared, path) as here:
        state = train(prepared, here)
        return state, judge(prepared, here, state)


def differ(a, b):
    """The largest difference of any leaf, as a fraction of its largest value."""

    def of_leaf(x, y):
        x, y = np.float64(x), np.float64(y)
        return np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)

    return max(jax.tree.leaves(jax.tree.map(of_leaf, *jax.device_get((a, b)))))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Layout -> path, state and summary of an uninterrupted run in float64."""
    return over_layouts(
        tmp_path_factory, ("one", "data", "both"), lambda path, config: (path, *whole(path, config))
    )


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Layout -> path of a run that was stopped at step 7."""

    def stop(path, config):
        with pytest.raises(Stopped):
            whole(path, config, stop_at=7)
        return path

    return over_layouts(tmp_path_factory, ("data", "both", "fsdp"), stop)


def over_layouts(factory, layouts, make):
    """Layout -> what is made of (path, config), as the tests below see both."""
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "SMALL", SMALL)
        return {layout: make(factory.mktemp(layout), on(layout)) for layout in layouts}


def test_every_layout_is_the_same_run(runs):
    _, one, summary = runs["one"]
    assert one.params["Conv_0"]["kernel"].dtype == np.float64
    for layout in ("data", "both"):
        _, state, found = runs[layout]
        assert differ(state, one) < 1e-9
        assert found.scalars == pytest.approx(summary.scalars, rel=1e-9)


def test_what_is_large_is_divided_and_stays_so(runs):
    for layout, parts in (("data", 1), ("both", 2)):
        state = runs[layout][1]
        kernel = state.params["Conv_0"]["kernel"]
        assert kernel.shape == (4, 4, 1, 8)
        sizes = {shard.data.shape for shard in kernel.addressable_shards}
        assert sizes == {(4, 4, 1, 8 // parts)}
        moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
        assert len(moments) == 2
        for same in (*moments, state.ema["params"]["Conv_0"]["kernel"]):
            assert same.sharding == kernel.sharding
        assert state.params["head"]["bias"].sharding.is_fully_replicated


@pytest.mark.parametrize(("layout", "fsdp"), [("data", 1), ("both", 2)])
def test_what_each_device_has_is_said_and_recorded(runs, layout, fsdp):
    path, state, _ = runs[layout]
    assert json.loads((path / "provenance.json").read_text())["device"]["fsdp"] == fsdp
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    one = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert sharded.held(state) == one
    if fsdp == 1:
        words = f"Each device has the whole state, {size(total)}: fsdp=4 divides none of it."
        assert divided(state, 4) == words
    else:
        assert one < total
        words = f"Each device has {size(one)} of the state's {size(total)} (fsdp=2)."
        assert divided(state, 2) == words


@pytest.mark.usefixtures("x64", "small")
@pytest.mark.parametrize(
    ("first", "second"), [("both", "data"), ("both", "fsdp"), ("data", "both"), ("fsdp", "both")]
)
def test_a_run_goes_on_with_another_layout(runs, stopped, tmp_path, first, second):
    path = shutil.copytree(stopped[first], tmp_path / "again")
    # The same numbers, bit for bit, as either layout reads them.
    read = [
        Checkpoints(path / "checkpoints").restore(target(on(layout))) for layout in (first, second)
    ]
    assert [found.step for found in read] == [7, 7]
    assert differ(read[0].state, read[1].state) == 0
    kernels = [found.state.params["Conv_0"]["kernel"] for found in read]
    sizes = [kernel.addressable_shards[0].data.shape[-1] for kernel in kernels]
    assert sizes == [8 // LAYOUTS[layout][1] for layout in (first, second)]
    state, summary = whole(path, on(second))
    _, uncut, expected = runs["one"]
    assert differ(state, uncut) < 1e-9
    assert summary.scalars == pytest.approx(expected.scalars, rel=1e-9)


def target(config):
    """What a state is restored into."""
    prepared = prepare(toy_detector, config)
    shapes = prepared.shapes()
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        shapes,
        sharded.sharded(shapes, prepared.mesh),
    )


@pytest.mark.usefixtures("x64", "small")
def test_on_the_same_layout_it_goes_on_bit_for_bit_and_streams_the_same_batches(
    runs, stopped, tmp_path
):
    path = shutil.copytree(stopped["both"], tmp_path / "again")
    state, _ = whole(path, replace(on("both"), loader="streaming"))
    assert differ(state, runs["both"][1]) == 0


@pytest.mark.usefixtures("x64", "small")
def test_accumulation_takes_the_same_slices(tmp_path):
    config = replace(WIDE, accumulation=2, steps=2)
    one, _ = whole(tmp_path / "one", on("one", config))
    both, _ = whole(tmp_path / "both", on("both", config))
    assert differ(both, one) < 1e-9


@pytest.mark.usefixtures("x64")
def test_such_a_run_is_read_without_its_layout(runs):
    images = np.stack([example["image"] for example in toy_detector.scenes(4, 3, "some")])
    found = {}
    for layout in ("one", "both"):
        read = opened(runs[layout][0])
        assert read.config.fsdp == LAYOUTS[layout][1]
        for leaf in jax.tree.leaves(read.variables):
            assert leaf.devices() == {jax.devices()[0]}
        task = read.parts.task
        found[layout] = task.predict(read.variables, task.inputs({"image": jnp.asarray(images)}))
    assert differ(found["both"], found["one"]) < 1e-9


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("layout", ["data", "both", "fsdp"])
def test_the_compiled_step_gathers_each_weight_once_and_no_activation(layout):
    prepared = prepare(toy_detector, replace(on(layout), dtype="float32"))
    shapes, payload = prepared.shapes(), next(prepared.loader.payloads(0))
    text = prepared.step.lower(shapes, prepared.loader.data, payload).compile().as_text()
    found = summed(collectives(text), 4)
    moved = {kind: own["bytes"] for kind, own in found.items()}
    parts = LAYOUTS[layout][1]
    sizes = [4 * x.size for x in jax.tree.leaves(shapes.params)]
    divided = sum(size for size in sizes if size > SMALL and parts > 1)
    assert moved.get("all-gather", 0) == divided
    # The gradients, where XLA sums over `fsdp` and then over `data` a part of them again; what
    # BatchNorm sums forward and backward; and a few scalars.
    assert {*moved} <= {"all-gather", "all-reduce", "reduce-scatter"}
    reduced = moved["all-reduce"] + moved.get("reduce-scatter", 0)
    assert sum(sizes) <= reduced <= sum(sizes) + divided // parts + 256


@pytest.mark.usefixtures("small")
def test_a_gradient_lies_as_its_parameter_and_a_collection_may_hold_integers():
    mesh = make_mesh(fsdp=2)

    def loss(variables, x):
        w = variables["params"]["w"]
        seen = {"calls": variables["stats"]["calls"] + 1}
        return (x @ w).sum(), seen

    w = np.arange(256, dtype=np.float32).reshape(32, 8)
    variables = {"params": {"w": w}, "stats": {"calls": np.int32(3)}}
    state = jax.device_put(variables, sharded.sharded(variables, mesh))

    @jax.jit
    def gradient(variables, x):
        def of(params):
            return sharded.whole(loss, mesh)({**variables, "params": params}, x)

        return jax.grad(of, has_aux=True)(variables["params"])

    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    found, seen = gradient(state, jax.device_put(x, NamedSharding(mesh, P(batch_axes(mesh)))))
    np.testing.assert_allclose(found["w"], np.tile(x.sum(0)[:, None], 8), rtol=1e-5)
    assert found["w"].sharding.is_equivalent_to(state["params"]["w"].sharding, 2)
    assert found["w"].addressable_shards[0].data.shape == (16, 8)
    assert seen["calls"] == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fsdp": 0}, "fsdp=0 must be above 0"),
        ({"fsdp": 3}, "fsdp=3 must divide the number of devices: 1, 2, 4"),
        ({"fsdp": 2, "devices": 1}, "fsdp=2 must divide the number of devices: 1$"),
        (
            {"fsdp": 2, "devices": 2, "batch_size": 15},
            "batch_size=15 can't be divided among 2 devices: take 14 or 16",
        ),
        (
            {"fsdp": 2, "seeds": (0, 1), "seeds_as": "devices", "weights": "last"},
            "seeds_as='devices' can't be had: fsdp=2 shares out the parameters of one run",
        ),
    ],
)
def test_what_can_not_be_is_refused(fields, message):
    with pytest.raises(Refused, match=message):
        run(toy_detector, replace(Config(), **fields))


def test_a_step_on_such_a_mesh_needs_the_shapes_of_its_state():
    with pytest.raises(ValueError, match="state=None on a mesh of fsdp=2"):
        compiled_step(lambda *_: 0, make_mesh(fsdp=2))
