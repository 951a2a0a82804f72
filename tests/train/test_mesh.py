"""Meshes, and functions mapped over them: shapes, what is refused, where results lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from train.mesh import (
    compiled_evaluation,
    compiled_initial,
    compiled_step,
    connect,
    make_mesh,
    over_seeds,
    per_seed,
    replicated,
    shard_batch,
    shares,
)

COMPILED = pytest.mark.parametrize(
    "compiled", [compiled_step, compiled_evaluation, compiled_initial]
)


@pytest.mark.parametrize(
    ("devices", "seeds", "shape"),
    [(1, 1, (1, 1)), (3, 1, (1, 3)), (4, 2, (2, 2)), (4, 4, (4, 1)), (2, 2, (2, 1))],
)
def test_devices_that_seeds_do_not_take_go_to_data(devices, seeds, shape):
    mesh = make_mesh(jax.devices()[:devices], seeds=seeds)
    assert (mesh.axis_names, mesh.devices.shape) == (("seed", "data"), shape)
    assert {*mesh.devices.flat} == {*jax.devices()[:devices]}


def test_a_mesh_has_all_devices_unless_told():
    assert dict(make_mesh().shape) == {"seed": 1, "data": 4}


def test_those_that_share_the_parameters_are_next_to_each_other():
    mesh = make_mesh(fsdp=2)
    assert dict(mesh.shape) == {"seed": 1, "data": 2, "fsdp": 2}
    assert mesh.devices.ravel().tolist() == jax.devices()
    assert shares(mesh) == shares(make_mesh()) == 4
    assert make_mesh(fsdp=1) == make_mesh()


@pytest.mark.parametrize("fsdp", [3, 8, 0, -2])
def test_shares_of_the_parameters_that_do_not_divide_the_devices_are_refused(fsdp):
    with pytest.raises(ValueError, match=f"fsdp={fsdp} does not divide the 4 devices"):
        make_mesh(fsdp=fsdp)


def test_seeds_at_once_have_their_parameters_whole():
    with pytest.raises(ValueError, match="seeds=2 and fsdp=2: one of them"):
        make_mesh(seeds=2, fsdp=2)
    with pytest.raises(ValueError, match="4 seeds on a mesh of fsdp=2"):
        compiled_step(lambda *_: 0, make_mesh(fsdp=2), 4)


@pytest.mark.parametrize("seeds", [3, 8, 0, -2])
def test_seeds_that_do_not_divide_the_devices_are_refused(seeds):
    with pytest.raises(ValueError, match=f"seeds={seeds} does not divide the 4 devices"):
        make_mesh(seeds=seeds)


@COMPILED
def test_a_plain_run_has_no_use_for_a_place_a_seed(compiled):
    with pytest.raises(ValueError, match="a plain run on a mesh with 2 places for seeds"):
        compiled(lambda *_: 0, make_mesh(seeds=2))


@COMPILED
@pytest.mark.parametrize(
    ("places", "seeds", "devices"),
    [(2, 3, 2), (4, 2, 4), (2, 4, 4), (1, 2, 4)],
    ids=["no multiple", "fewer than places", "two a place, data of two", "vmap, data of four"],
)
def test_seeds_that_do_not_fit_the_mesh_are_refused(compiled, places, seeds, devices):
    mesh = make_mesh(jax.devices()[:devices], seeds=places)
    message = f"{seeds} seeds on a mesh of seed={places}, data={devices // places}"
    with pytest.raises(ValueError, match=message):
        compiled(lambda *_: 0, mesh, seeds)


MESHES = pytest.mark.parametrize(
    ("devices", "places", "seeds"),
    [(1, 1, 3), (2, 2, 4), (4, 2, 2)],
    ids=["vmap on one device", "seed axis, two seeds a place", "seed axis and data axis"],
)


def one_run(state, data, payload):
    """Something that mixes all three, and is not linear in any."""
    w = jnp.tanh(state["w"] * payload + data["x"])
    return {"w": w, "n": state["n"] + 1}, w.sum() * payload


def arguments(seeds):
    rng = np.random.default_rng(0)
    state = {"w": np.float32(rng.normal(size=(seeds, 5))), "n": np.arange(seeds, dtype=np.int32)}
    return state, {"x": np.float32(rng.normal(size=5))}, np.float32(rng.normal(size=seeds))


def looped(seeds):
    """The runs one by one."""
    state, data, payload = arguments(seeds)
    runs = [
        one_run({name: leaf[i] for name, leaf in state.items()}, data, payload[i])
        for i in range(seeds)
    ]
    return jax.tree.map(lambda *each: np.stack(each), *runs)


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


@MESHES
def test_over_seeds_is_a_loop_over_seeds(devices, places, seeds):
    mesh = make_mesh(jax.devices()[:devices], seeds=places)
    mapped = jax.jit(over_seeds(one_run, mesh, (0, None, 0)))
    close(mapped(*arguments(seeds)), looped(seeds))


@MESHES
def test_a_step_of_several_seeds_gives_each_its_own_where_it_lies(devices, places, seeds):
    mesh = make_mesh(jax.devices()[:devices], seeds=places)
    state, data, payload = arguments(seeds)
    before, payload = jax.device_put((state, payload), per_seed(mesh, seeds))
    state, sums = out = compiled_step(one_run, mesh, seeds)(before, data, payload)
    close(out, looped(seeds))
    assert all(leaf.is_deleted() for leaf in before.values())
    for leaf in (*state.values(), sums):
        assert leaf.sharding.spec == PartitionSpec("seed")
        assert leaf.addressable_shards[0].data.shape[0] == seeds // places


def test_an_evaluation_of_several_seeds_shares_its_payloads():
    mesh = make_mesh(jax.devices()[:2], seeds=2)
    variables, data = {"w": np.float32([[1, 2], [3, 4]])}, {"x": np.float32([10, 100])}
    measure = compiled_evaluation(lambda v, data, k: (v["w"] * data["x"] + k).sum(), mesh, 2)
    assert measure(variables, data, np.float32(1)).tolist() == [212, 432]


def test_a_plain_step_donates_its_state_and_leaves_it_on_every_device():
    mesh = make_mesh()
    states, data, payloads = arguments(1)
    first = jax.tree.map(lambda x: x[0], (states, payloads))
    (state, payload), data = jax.device_put((first, data), replicated(mesh))
    new, sums = compiled_step(one_run, mesh)(state, data, payload)
    assert all(leaf.is_deleted() for leaf in state.values())
    assert not data["x"].is_deleted()
    for leaf in (*new.values(), sums):
        assert leaf.sharding.is_fully_replicated
        assert leaf.sharding.device_set == {*jax.devices()}


def test_an_evaluation_donates_nothing():
    variables = {"w": jnp.ones(3)}
    measure = compiled_evaluation(lambda v, data, k: v["w"] + k, make_mesh(jax.devices()[:1]))
    assert measure(variables, {}, 1.0).tolist() == [2, 2, 2]
    assert not variables["w"].is_deleted()


def draw(seed):
    return {"w": jax.random.normal(jax.random.key(seed), (3,)), "seed": seed}


@MESHES
def test_first_states_of_several_seeds_are_those_of_each(devices, places, seeds):
    mesh = make_mesh(jax.devices()[:devices], seeds=places)
    numbers = jnp.arange(5, 5 + seeds, dtype=jnp.uint32)
    both = compiled_initial(draw, mesh, seeds)(numbers)
    close(both, jax.tree.map(lambda *each: np.stack(each), *map(draw, numbers)))
    assert both["w"].sharding.spec == PartitionSpec("seed")


def test_a_first_state_is_on_every_device():
    first = compiled_initial(draw, make_mesh())(jnp.uint32(5))
    close(first, draw(jnp.uint32(5)))
    assert first["w"].sharding.is_fully_replicated
    assert len(first["w"].sharding.device_set) == 4


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_a_batch_is_shared_out_over_all_devices(fsdp):
    mesh = make_mesh(fsdp=fsdp)
    everywhere = jax.device_put(np.arange(24, dtype=np.float32).reshape(8, 3), replicated(mesh))

    def gathered(x, index):
        return {"image": x[index], "index": index}

    index = jax.device_put(np.arange(8)[::-1].copy(), replicated(mesh))
    batch = jax.jit(lambda x, i: shard_batch(mesh, gathered(x, i)))(everywhere, index)
    assert {shard.data.shape for shard in batch["image"].addressable_shards} == {(2, 3)}
    assert {shard.data.shape for shard in batch["index"].addressable_shards} == {(2,)}
    np.testing.assert_array_equal(batch["image"], np.asarray(everywhere)[::-1])


def test_each_seed_shares_its_batch_out_over_its_own_devices():
    mesh = make_mesh(seeds=2)
    sharded = over_seeds(lambda seed, x: shard_batch(mesh, x + seed), mesh, (0, None))
    batch = jax.jit(sharded)(jnp.array([0.0, 100.0]), jnp.arange(8.0))
    np.testing.assert_array_equal(batch, [np.arange(8.0), 100 + np.arange(8.0)])
    assert {shard.data.shape for shard in batch.addressable_shards} == {(1, 4)}


class Gpu:
    """A device of one of several machines."""

    platform = "gpu"

    def __init__(self, id):
        self.id, self.slice_index = id, id // 2


def test_the_devices_of_several_machines_stay_in_their_order(monkeypatch):
    monkeypatch.setattr("train.mesh.Mesh", lambda table, names, **how: (table, names))
    table, names = make_mesh([Gpu(i) for i in range(8)], fsdp=2)
    assert names == ("seed", "data", "fsdp")
    assert table.shape == (1, 4, 2)
    assert [device.id for device in table.ravel()] == [*range(8)]


@pytest.mark.parametrize("fsdp", [1, 2])
def test_connecting_exchanges_along_each_axis(fsdp):
    connect(make_mesh(fsdp=fsdp))
