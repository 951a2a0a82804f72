"""What the checkpoints of a run take on the disk."""

import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from train import disk

STATE = {"params": jnp.zeros((250, 1000)), "step": jnp.int32(0)}
ONE = 1_000_000 + 4 + disk.OVERHEAD


def config(steps, evaluate_every=100, save_every=1000):
    return SimpleNamespace(steps=steps, evaluate_every=evaluate_every, save_every=save_every)


@pytest.mark.parametrize(
    ("steps", "evaluate_every", "save_every", "count"),
    [
        (20, 1000, 1000, 1),
        (100, 100, 100, 1),
        (101, 100, 1000, 2),
        (400, 100, 150, 5),  # 100, 150, 200, 300, 400
        (10**12, 1, 1, 6),
    ],
)
def test_how_many_are_made(steps, evaluate_every, save_every, count):
    assert disk.saves(config(steps, evaluate_every, save_every), 6) == count


def test_what_is_said(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert disk.taken(STATE, config(50), tmp_path, 2) == ["Its checkpoint takes up to 1.1 MB."]
    assert disk.taken(STATE, config(200), tmp_path, 2) == [
        "Its 2 checkpoints take up to 2.1 MB, 1.1 MB each."
    ]
    many = "Checkpoints take up to 3.2 MB: the newest 2 and the best, 1.1 MB each."
    assert disk.taken(STATE, config(1000), tmp_path, 2) == [many]
    usage.free = 4 * ONE - 1  # a fourth is there before the oldest goes
    assert disk.taken(STATE, config(1000), tmp_path, 2) == [
        many,
        f"The disk may fill up: 4.2 MB more may be needed, and 4.2 MB are free for {tmp_path}.",
    ]
    assert len(disk.taken(STATE, config(300), tmp_path, 2)) == 1  # there never is a fourth
    (tmp_path / "checkpoints" / "100").mkdir(parents=True)
    (tmp_path / "checkpoints" / "100" / "file").write_bytes(bytes(10))
    assert disk.taken(STATE, config(1000), tmp_path, 2) == [many]


def test_bytes_of_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(bytes(300))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert 300 <= disk.folder_bytes(tmp_path) < 300 + 4096
    assert disk.folder_bytes(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "1 kB"), (1500, "2 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"),
        (9_949_999, "9.9 MB"), (9_960_000, "10 MB"), (2_060_000_000, "2.1 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)  # fmt: skip
def test_sizes(count, text):
    assert disk.size(count) == text
