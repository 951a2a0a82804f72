"""How large a set is on the devices, and whether there is room for it."""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from train.data import room
from train.data.arrays import Arrays
from train.data.host import Host, RandomResizedCrop, Resize
from train.data.resident import Resident
from train.data.room import SHARE, available, fits, resident_bytes
from train.data.source import About
from train.mesh import make_mesh

BOX = np.float32([[0, 0, 2, 2]])
ABOUT = About("toy", "train", ("a",), mirror=True)
BOXES = Arrays(
    {"image": np.zeros((3, 4, 5, 1), np.uint8), "boxes": [BOX, BOX[:0], BOX], "label": [0] * 3},
    ABOUT,
)
SIGNALS = Arrays({"signal": [np.zeros((n, 2)) for n in (2, 3)]}, ABOUT)


@pytest.mark.parametrize(
    ("source", "how", "one"),
    [
        (BOXES, {"capacity": {"boxes": 7}}, 20 + 7 * (16 + 1) + 4),
        # As the host leaves them: with a matrix and a size.
        (
            BOXES,
            {"capacity": {"boxes": 1}, "host": Host(Resize(), ((8, 10),))},
            80 + 17 + 4 + 36 + 8,
        ),
        (SIGNALS, {"capacity": {"signal": 9}}, 9 * 2 * 4 + 4),
    ],
)
def test_bytes_are_those_that_the_loader_keeps(source, how, one):
    assert resident_bytes(source, **how) == len(source) * one
    loader = Resident(source, mesh=make_mesh(jax.devices()[:1]), batch_size=1, **how)
    assert sum(array.nbytes for array in jax.tree.leaves(loader.data)) == len(source) * one


def test_of_several_shapes_the_largest_counts():
    host = Host(RandomResizedCrop(), ((2, 3), (8, 10), (4, 4)))
    assert resident_bytes(BOXES, host=host, capacity={"boxes": 1}) == 3 * (80 + 17 + 4 + 36 + 8)


def device(limit=None, platform="gpu", process=None):
    def stats():
        if limit == "unknown":
            raise NotImplementedError
        return None if limit is None else {"bytes_limit": limit, "bytes_in_use": 0}

    process = jax.process_index() if process is None else process
    return SimpleNamespace(platform=platform, memory_stats=stats, process_index=process)


@pytest.mark.parametrize(
    ("devices", "there"),
    [
        ([device(4000)], 4000),
        ([device(4000), device(2000)], 2000),  # the set is whole on each
        ([device(4000), device(1, process=7)], 4000),  # another process's own affair
        ([device(20_000)], 8000),  # the host holds it too
        ([device(), device("unknown")], 8000),
        ([device(platform="cpu")], 8000),
        ([device(platform="cpu")] * 4, 2000),  # four copies in one memory
    ],
)
def test_a_set_fits_in_a_share_of_what_is_there(devices, there, monkeypatch):
    monkeypatch.setattr(room, "available", lambda: 8000.0)
    assert fits(int(SHARE * there), devices)
    assert not fits(int(SHARE * there) + 1, devices)


def test_what_this_machine_has():
    assert 0 < available() < math.inf
    assert resident_bytes(BOXES, capacity={"boxes": 1}) < 1000
    assert fits(1000, jax.devices())


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Files as Linux has them: a machine with 8000 kB, and no groups."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (proc / "groups").write_text("")
    monkeypatch.setattr(room, "MEMORY", proc / "meminfo")
    monkeypatch.setattr(room, "OWN_GROUPS", proc / "groups")
    monkeypatch.setattr(room, "CGROUPS", tmp_path / "cgroup")
    return tmp_path


def group(folder, most, used, *, old=False, inactive=0):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, use, cached = names if old else ("memory.max", "memory.current", "inactive_file")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit).write_text(f"{most}\n")
    (folder / use).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{cached} {inactive}\n")


def test_without_groups_the_system_says(system):
    assert available() == 8000 * 1024
    (system / "proc" / "groups").unlink()
    (system / "proc" / "meminfo").unlink()
    assert available() > 0


def test_a_group_s_limit_counts_and_that_of_the_one_above(system):
    (system / "proc" / "groups").write_text("0::/user/job\n")
    group(system / "cgroup" / "user" / "job", 5000, 1000, inactive=300)
    assert available() == 4300  # files that it has read would be given up
    group(system / "cgroup" / "user", 3000, 1000)
    assert available() == 2000
    group(system / "cgroup" / "user", "max", 1000)
    assert available() == 4300


def test_a_group_of_the_older_kind(system):
    (system / "proc" / "groups").write_text("5:cpu,cpuacct:/other\n4:memory:/job\n")
    group(system / "cgroup" / "memory" / "job", 5000, 1000, old=True)
    group(system / "cgroup" / "cpu" / "other", 1, 1, old=True)
    assert available() == 4000


def test_a_container_sees_its_group_at_the_root(system):
    (system / "proc" / "groups").write_text("0::/../../gone\n")
    group(system / "cgroup", 700, 900)
    assert available() == 0
