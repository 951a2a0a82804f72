import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from train.digest import digests
from train.mesh import make_mesh

TYPES = ["float32", "bfloat16", "float16", "int32", "uint32", "int8", "uint8", "bool"]
WIDE = ["float64", "int64", "uint64"]


def reference(x: np.ndarray) -> int:
    """The digest, in Python's integers, from the bytes alone."""
    size = min(x.dtype.itemsize, 4)
    data = np.ascontiguousarray(x).tobytes()
    total = 0
    for n in range(len(data) // size):
        word = int.from_bytes(data[n * size : (n + 1) * size], "little")
        h = (word + (n + 1) * 0x9E3779B9) % 2**32
        h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
        h = (h ^ (h >> 13)) * 0xC2B2AE35 % 2**32
        total += h ^ (h >> 16)
    return total % 2**32


def example(dtype: str, shape=(4, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(jnp.dtype(dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_known_answer(dtype, strict_dtypes):
    x = example(dtype)
    expected = [reference(x), reference(x[0, 0])]
    assert digests([jnp.asarray(x), jnp.asarray(x[0, 0])]) == expected
    assert digests([x, np.asarray(x[0, 0])]) == expected  # on the host


@pytest.mark.parametrize("dtype", WIDE)
def test_known_answer_of_two_words(dtype, strict_dtypes, x64):
    x = example(dtype)
    assert digests([jnp.asarray(x)]) == digests([x]) == [reference(x)]


@pytest.mark.parametrize(("size", "dtype"), [(1, "uint8"), (2**17, "int16"), (70_001, "float64")])
def test_an_array_on_the_host_is_taken_in_parts(size, dtype, strict_dtypes, x64):
    x = np.random.default_rng(0).integers(0, 200, (size, 1)).astype(dtype)[::-1]
    assert digests([x]) == digests([jnp.asarray(x)])
    assert digests([np.zeros((0, 3), np.float32)]) == [0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_any_bit_and_any_exchange_shows(dtype):
    x = example(dtype, (6,))
    flips = []
    for bit in range(8 * x.nbytes):
        changed = bytearray(x.tobytes())
        changed[bit // 8] ^= 1 << bit % 8
        flips.append(np.frombuffer(bytes(changed), x.dtype))
    exchanged = [np.array(x[list(order)]) for order in ((1, 0, 2, 3, 4, 5), (0, 1, 5, 3, 4, 2))]
    everything = digests([jnp.asarray(v) for v in (x, *flips, *exchanged)])
    assert len(set(everything)) == len(everything)


def test_exchanged_signs_show():
    # The sum of bits times odd weights is blind to all of these.
    rows = [[0.0, -0.0, 2.0], [-0.0, 0.0, 2.0], [1.0, -1.0, 2.0], [-1.0, 1.0, 2.0]]
    rows += [[1.0, 1.0, 2.0], [-1.0, -1.0, 2.0]]
    assert len(set(digests([jnp.asarray(row) for row in rows]))) == len(rows)


@pytest.mark.parametrize("spec", [("data",), (None, "data"), ()])
def test_sharding_changes_nothing(spec):
    x = example("float32", (8, 4, 3))
    mesh = make_mesh()
    assert mesh.size == 4
    sharded = jax.device_put(x, jax.NamedSharding(mesh, PartitionSpec(*spec)))
    one = jax.device_put(x, jax.devices()[0])
    assert digests([sharded]) == digests([one]) == [reference(x)]


MANY = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from train.digest import digests
from train.mesh import make_mesh
jax.config.update("jax_num_cpu_devices", 4)
sharding = NamedSharding(make_mesh(seeds=2), PartitionSpec("seed"))
leaves = [jax.device_put(np.full(2, n, np.float32), sharding) for n in range(1000)]
print(len(set(digests(leaves))))
"""


def test_many_arrays_over_several_devices_do_not_wait_for_each_other():
    # In a process of its own, which XLA ends where devices wait for each other.
    seconds = "--xla_cpu_collective_call_terminate_timeout_seconds=15"
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {seconds}"}
    command = [sys.executable, "-c", MANY]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert found.stdout == "1000\n", found.stderr[-2000:]
