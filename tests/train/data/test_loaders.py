"""Both loaders: the same examples, each exactly when (seed, step) says, wherever they live."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from train.data.host import Host, RandomResizedCrop
from train.data.order import once, order, position
from train.data.resident import Resident
from train.data.source import About
from train.data.streaming import Streaming
from train.mesh import make_mesh, over_seeds, replicated
from train.refusal import Refused

KEY = np.array([0, 7], np.uint32)
CROP = Host(RandomResizedCrop(), ((3, 4),))


def tiny(length=11, *, boxes=False, change=None):
    """A source whose pixels say which example it is; local, so that it pickles by value."""

    class Tiny:
        about = About("tiny", "train", ("a", "b", "c"), mirror=True, shape=(4, 5, 3))
        fingerprint = "tiny"
        reads = 0

        def __len__(self):
            return length

        def __getitem__(self, i):
            self.reads += 1
            image = np.full((4, 5, 3), i % 251, np.uint8)
            example = {"image": image, "label": np.int64(i % 3)}
            if boxes:
                example["boxes"] = np.arange(4.0 * (i % 3)).reshape(i % 3, 4)
                example["box_label"] = np.arange(i % 3)
                example["box_difficult"] = np.ones(i % 3, bool)
            return example if change is None else change(i, example)

        def truth(self, i):
            return {}

    return Tiny()


def mesh_of(devices=1, seeds=1):
    return make_mesh(jax.devices()[:devices], seeds=seeds)


def batches(loader, seed, start=0, count=None):
    """`count` batches as NumPy; the payloads are closed whatever happens."""
    step = jax.jit(loader.device)
    payloads = loader.payloads(start)
    try:
        taken = payloads if count is None else (next(payloads) for _ in range(count))
        return [jax.device_get(step(loader.data, p, np.uint32(seed), KEY)) for p in taken]
    finally:
        payloads.close()


def assert_same(these, those):
    assert len(these) == len(those)
    for this, that in zip(these, those, strict=True):
        assert this.keys() == that.keys()
        for key in this:
            assert this[key].dtype == that[key].dtype, key
            np.testing.assert_array_equal(this[key], that[key], err_msg=key)


def test_a_batch_holds_what_the_contract_says():
    (batch,) = batches(Resident(tiny(), mesh=mesh_of(), batch_size=4), seed=5, start=3, count=1)
    index = order(5, [1, 1, 1, 1], [1, 2, 3, 4], 11)
    np.testing.assert_array_equal(batch["index"], index)
    np.testing.assert_array_equal(batch["label"], index % 3)
    np.testing.assert_array_equal(batch["image"], np.tile(index[:, None, None, None], (1, 4, 5, 3)))
    np.testing.assert_array_equal(batch["matrix"], np.tile(np.eye(3), (4, 1, 1)))
    np.testing.assert_array_equal(batch["size"], [[4, 5]] * 4)
    np.testing.assert_array_equal(batch["valid"], [True] * 4)
    np.testing.assert_array_equal(batch["epoch"], [1] * 4)
    np.testing.assert_array_equal(batch["replaced"], [False] * 4)
    assert {key: value.dtype.name for key, value in batch.items()} == {
        "image": "uint8", "label": "int32", "index": "int32", "size": "int32",
        "matrix": "float32", "valid": "bool", "epoch": "int32", "replaced": "bool",
    }  # fmt: skip


def test_boxes_are_padded_to_the_capacity():
    loader = Resident(
        tiny(boxes=True), mesh=mesh_of(), batch_size=3, order=once, capacity={"boxes": 2}
    )
    batch = batches(loader, seed=0)[0]
    np.testing.assert_array_equal(batch["box_valid"], [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(batch["box_label"], [[0, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(batch["box_difficult"], batch["box_valid"])
    np.testing.assert_array_equal(batch["boxes"][2], [[0, 1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_array_equal(batch["boxes"][1], [[0, 1, 2, 3], [0, 0, 0, 0]])
    assert batch["boxes"].dtype == np.float32
    assert batch["box_label"].dtype == np.int32


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_both_loaders_give_the_same_examples(workers):
    request = {"mesh": mesh_of(2), "batch_size": 4, "capacity": {"boxes": 2}, "seed": 3}
    resident = Resident(tiny(boxes=True), **request)
    streaming = Streaming(tiny(boxes=True), workers=workers, **request)
    expected = batches(resident, seed=3, count=9)
    assert_same(batches(streaming, seed=3, count=6), expected[:6])
    if not workers:
        assert_same(batches(streaming, seed=3, start=5, count=4), expected[5:])
        other = Streaming(tiny(boxes=True), **{**request, "seed": 4})
        assert batches(other, 4, count=1)[0]["index"].tolist() != expected[0]["index"].tolist()


@pytest.mark.parametrize("kind", [Resident, Streaming])
@pytest.mark.parametrize(("length", "batch_size"), [(1, 4), (7, 2), (8, 4), (9, 4), (3, 8)])
def test_evaluation_covers_the_source_exactly(kind, length, batch_size):
    loader = kind(tiny(length), mesh=mesh_of(2), batch_size=batch_size, order=once)
    everything = batches(loader, seed=0)
    assert len(everything) == -(-length // batch_size)
    seen = np.concatenate([batch["index"][batch["valid"]] for batch in everything])
    assert seen.tolist() == list(range(length))
    labels = np.concatenate([batch["label"][batch["valid"]] for batch in everything])
    assert labels.tolist() == [i % 3 for i in range(length)]
    assert_same(batches(loader, seed=0, start=1), everything[1:])


def test_evaluation_in_two_workers_keeps_the_order_and_the_tail():
    request = {"mesh": mesh_of(), "batch_size": 2, "order": once}
    expected = batches(Resident(tiny(9), **request), seed=0)
    assert_same(batches(Streaming(tiny(9), workers=2, **request), seed=0), expected)


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_training_takes_every_example_once_an_epoch(kind):
    loader = kind(tiny(), mesh=mesh_of(), batch_size=4, seed=1)
    index = np.concatenate([batch["index"] for batch in batches(loader, seed=1, count=11)])
    for epoch in index.reshape(4, 11):
        assert sorted(epoch) == list(range(11))
    assert loader.length == 11
    assert loader.shape(0) == loader.shape(10**9)


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_starting_late_reads_nothing_before(kind):
    source = tiny()
    step = 10**12  # beyond 2^32 epochs
    loader = kind(source, mesh=mesh_of(), batch_size=4, seed=1)
    before = source.reads
    (batch,) = batches(loader, seed=1, start=step, count=1)
    epoch, slot = position(step, 4, 11)
    assert batch["index"][0] == order(1, epoch, slot, 11)
    assert source.reads - before <= 40


def test_reading_ahead_is_bounded():
    source = tiny(200)
    payloads = Streaming(source, mesh=mesh_of(), batch_size=4).payloads(0)
    try:
        next(payloads)
        deadline = time.monotonic() + 30
        while source.reads < 9 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert 9 <= source.reads <= 1 + 4 * 10
    finally:
        payloads.close()


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_the_transform_sees_the_batch_and_the_key(kind):
    def transform(key, batch):
        return dict(batch, image=batch["image"] + key[1].astype(np.uint8))

    plain = kind(tiny(), mesh=mesh_of(), batch_size=4)
    moved = kind(tiny(), mesh=mesh_of(), batch_size=4, transform=transform)
    (a,), (b,) = batches(plain, 0, count=1), batches(moved, 0, count=1)
    np.testing.assert_array_equal(a["image"] + 7, b["image"])


@pytest.mark.parametrize("kind", [Resident, Streaming])
@pytest.mark.parametrize(("devices", "seeds"), [(1, 1), (4, 2)])
def test_runs_of_several_seeds_see_what_each_sees_alone(kind, devices, seeds):
    mesh = mesh_of(devices, seeds)
    loader = kind(tiny(), mesh=mesh, batch_size=4, seed=(3, 8))
    step = jax.jit(over_seeds(loader.device, mesh, (None, 0, 0, None)))
    payloads = loader.payloads(2)
    together = [
        jax.device_get(step(loader.data, next(payloads), np.array([3, 8], np.uint32), KEY))
        for _ in range(3)
    ]
    payloads.close()
    for n, seed in enumerate((3, 8)):
        alone = batches(kind(tiny(), mesh=mesh_of(), batch_size=4, seed=seed), seed, 2, 3)
        assert_same([{k: v[n] for k, v in batch.items()} for batch in together], alone)


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_payloads_lie_on_the_mesh_with_a_seed_axis_in_training_alone(kind):
    mesh = mesh_of(4, seeds=2)
    training = kind(tiny(), mesh=mesh, batch_size=4, seed=(3, 8, 9, 1)).payloads(0)
    evaluation = kind(tiny(), mesh=mesh, batch_size=4, seed=(3, 8), order=once).payloads(0)
    batch = () if kind is Resident else (4,)
    for payloads, lead, spec in ((training, (4,), ("seed",)), (evaluation, (), ())):
        for leaf in jax.tree.leaves(next(payloads)):
            assert leaf.shape[: len(lead + batch)] == lead + batch
            assert leaf.sharding.mesh == mesh
            assert leaf.sharding.spec == PartitionSpec(*spec, *(("data",) if batch else ()))
        payloads.close()


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_no_device_holds_more_than_its_part_of_a_batch(kind, seeds):
    mesh = mesh_of(4, seeds)
    seed = (3, 8) if seeds == 2 else 3
    loader = kind(tiny(64), mesh=mesh, batch_size=8, seed=seed)

    def step(data, payload, seed, key):
        batch = loader.device(data, payload, seed, key)
        return jnp.mean(batch["image"].astype(np.float32) ** 2) + jnp.sum(batch["matrix"])

    if seeds == 2:
        step = over_seeds(step, mesh, (None, 0, 0, None))
    payloads = loader.payloads(0)
    text = (
        jax.jit(step).lower(loader.data, next(payloads), np.uint32(seed), KEY).compile().as_text()
    )
    payloads.close()
    leading = {int(n) for n in re.findall(r"u8\[(?:1,)?(\d+),(?:1,)?4,5,3\]", text)}
    assert leading <= {64, 8 * seeds // 4}, text
    assert 8 * seeds // 4 in leading
    assert "all-gather" not in text


@pytest.mark.parametrize("kind", [Resident, Streaming])
def test_nothing_crosses_unasked(kind):
    mesh = mesh_of(2)
    loader = kind(tiny(), mesh=mesh, batch_size=4)
    seed, key = jax.device_put((np.uint32(0), KEY), replicated(mesh))
    step = jax.jit(loader.device)
    with jax.transfer_guard("disallow"):
        payloads = loader.payloads(0)
        for _ in range(3):
            step(loader.data, next(payloads), seed, key)
        payloads.close()
    assert step._cache_size() == 1


def grain_threads():
    return [t for t in threading.enumerate() if t.name.startswith("grain")]


def children():
    """Ids of the processes of this one."""  # run as a script, this file finds no helper module
    return {*pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@pytest.mark.parametrize("workers", [0, 2])
def test_close_ends_threads_and_processes(workers):
    before, others = set(grain_threads()), children()  # what another test has left is not ours
    payloads = Streaming(tiny(), mesh=mesh_of(), batch_size=4, workers=workers).payloads(0)
    next(payloads)
    assert len(children() - others) == workers
    assert set(grain_threads()) - before
    payloads.close()
    for _ in range(600):
        if not set(grain_threads()) - before:
            break
        time.sleep(0.05)
    assert not set(grain_threads()) - before
    assert not children() - others


def broken(i, example):
    if i == 6:
        raise OSError("tiny/6.jpg is truncated")
    return example


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_decoding_arrives_with_its_message(workers):
    loader = Streaming(
        tiny(change=broken), mesh=mesh_of(), batch_size=2, order=once, workers=workers
    )
    payloads = loader.payloads(2)
    assert next(payloads)["index"].tolist() == [4, 5]
    with pytest.raises(OSError, match=r"tiny/6.jpg is truncated"):
        next(payloads)
    payloads.close()


def at_six(**changes):
    """Example 6 differs from the others; a value None takes the key away."""

    def change(i, example):
        merged = {**example, **changes} if i == 6 else example
        return {key: value for key, value in merged.items() if value is not None}

    return change


@pytest.mark.parametrize(
    ("changes", "boxes", "message"),
    [
        ({"label": -1}, False, r"example 6 of tiny/train has label=-1, outside the 3 classes"),
        ({"label": 3}, False, r"example 6 .* label=3"),
        ({"boxes": np.zeros((2, 4)), "box_label": [0, 5]}, True, r"example 6 .* box_label=5"),
        ({"label": 1.7}, False, r"example 6 of tiny/train has label 1\.7 of type float64"),
        ({"boxes": np.zeros((1, 4))}, True, r"example 6 .* 1 boxes and 0 of box_label"),
        ({"image": np.zeros((4, 6, 3), np.uint8)}, False, r"6 .*\(4, 6, 3\), .* 0 .*\(4, 5, 3\)"),
        ({"image": np.zeros((4, 5, 3))}, False, r"example 6 .* float64"),
        ({"image": np.zeros((4, 5), np.uint8)}, False, r"example 6 .* image \(4, 5\)"),
        ({"label": None}, False, r"example 6 .* has keys \['image'\]"),
    ],
)  # fmt: skip
def test_refuses_an_example_that_cannot_be_used(changes, boxes, message):
    request = {"mesh": mesh_of(), "batch_size": 4, "order": once, "capacity": {"boxes": 2}}
    source = tiny(boxes=boxes, change=at_six(**changes))
    with pytest.raises(Refused, match=message):
        Resident(source, **request)
    payloads = Streaming(source, **request).payloads(1)
    with pytest.raises(Refused, match=message):
        next(payloads)
    payloads.close()


def flat(i, example):
    return dict(example, image=example["image"][0])


@pytest.mark.parametrize("kind", [Resident, Streaming])
@pytest.mark.parametrize(
    ("source", "changes", "seeds", "message"),
    [
        (tiny(), {"batch_size": 0}, 1, "batch_size=0 is not positive"),
        (tiny(), {"batch_size": -4}, 1, "batch_size=-4 is not positive"),
        (tiny(), {"batch_size": 12}, 1, r"batch_size=12 is larger than the data \(11\)"),
        (
            tiny(),
            {"batch_size": 6},
            1,
            "batch_size=6 can't be divided among 4 devices: take 4 or 8",
        ),
        (tiny(), {"seed": (1, 2, 3)}, 2, r"seed=\(1, 2, 3\) does not divide .* 2"),
        (tiny(), {"seed": ()}, 1, r"seed=\(\)"),
        (tiny(0), {}, 1, "tiny/train has no examples"),
        (tiny(boxes=True), {}, 1, "capacity=None.*has boxes"),
        (tiny(boxes=True), {"capacity": {"proposals": 3}}, 1, "capacity=.*proposals.*has boxes"),
        (tiny(boxes=True), {"capacity": 4}, 1, "capacity=4 does not say of which key"),
        (
            tiny(boxes=True),
            {"capacity": {"box": 4}},
            1,
            "capacity='box' is unknown; nearest: boxes",
        ),
        (tiny(boxes=True), {"capacity": {"boxes": 0}}, 1, r"capacity\['boxes'\]=0 is no positive"),
        (tiny(change=flat), {}, 1, r"example 0 of tiny/train has image \(5, 3\)"),
    ],
)
def test_refuses_at_construction_what_cannot_be(kind, source, changes, seeds, message):
    with pytest.raises(Refused, match=message):
        kind(source, mesh=mesh_of(4, seeds), **{"batch_size": 4, **changes})


@pytest.mark.parametrize("field", ["workers", "threads"])
def test_streaming_refuses_negative_counts(field):
    with pytest.raises(Refused, match=f"{field}=-1"):
        Streaming(tiny(), mesh=mesh_of(), batch_size=4, **{field: -1})


def rows_here(process, port):
    """What one of two processes holds and reads; printed, since it is a process of its own."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
    found = {}
    for seeds, seed in ((1, 3), (2, (3, 8))):
        mesh = make_mesh(seeds=seeds)
        for kind in (Resident, Streaming):
            source = tiny(1000)
            loader = kind(source, mesh=mesh, batch_size=8, seed=seed)
            reads = source.reads
            payloads = loader.payloads(2)
            step = loader.device
            if seeds == 2:
                step = over_seeds(step, mesh, (None, 0, 0, None))
            batch = jax.jit(step)(loader.data, next(payloads), np.uint32(seed), KEY)
            payloads.close()
            parts = [np.asarray(shard.data) for shard in batch["index"].addressable_shards]
            found[f"{kind.__name__}{seeds}"] = np.concatenate(parts, -1).ravel().tolist()
            assert source.reads - reads <= (kind is Streaming) * 10 * (8 if seeds == 2 else 4)
    found["cropped"] = cropped(make_mesh())
    print(json.dumps(found))


def cropped(mesh):
    """How the host cut what this process holds of a batch of step 2: (rows, 9)."""
    loader = Streaming(tiny(1000), mesh=mesh, batch_size=8, seed=3, host=CROP)
    payloads = loader.payloads(2)
    batch = jax.jit(loader.device)(loader.data, next(payloads), np.uint32(3), KEY)
    payloads.close()
    parts = [np.asarray(shard.data) for shard in batch["matrix"].addressable_shards]
    return np.concatenate(parts).reshape(-1, 9).tolist()


def test_each_of_two_processes_makes_its_part_alone():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(pathlib.Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-W", "error", __file__]
    processes = [
        subprocess.Popen(
            [*command, str(i), str(port)], env=environment, stdout=-1, stderr=-1, text=True
        )
        for i in range(2)
    ]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    three, eight = (order(seed, 0, np.arange(16, 24), 1000).tolist() for seed in (3, 8))
    halves = ((three[:4], three), (three[4:], eight))
    alone = cropped(mesh_of())
    cuts = (alone[:4], alone[4:])
    for (out, err), (one, two), cut in zip(results, halves, cuts, strict=True):
        expected = {"Resident1": one, "Streaming1": one, "Resident2": two, "Streaming2": two}
        expected["cropped"] = cut
        assert json.loads(out) == expected
        assert not err


if __name__ == "__main__":
    rows_here(int(sys.argv[1]), sys.argv[2])
