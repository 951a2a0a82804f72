"""Provenance: it says what was there, and None for what was not."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from train import provenance as room
from train.provenance import processor, provenance, revision

KNOWN = {"seed": 3, "convolution": "xla", "fingerprints": {"train": "sha256:ab", "test": "cd"}}


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "a")
    return tmp_path


def test_what_it_says():
    found = provenance(**KNOWN, argv=["experiments/resnet_cifar.py", "--workdir", "my runs"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["command"] == "experiments/resnet_cifar.py --workdir 'my runs'"
    assert (found["seed"], found["convolution"]) == (3, "xla")
    assert found["data"] == {"train": "sha256:ab", "test": "cd"}
    assert found["device"] == {
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "count": 4,
        "processes": 1,
        "fsdp": 1,
    }
    assert found["matmul_precision"] is None
    versions = found["versions"]
    assert versions.pop("python") == platform.python_version()
    assert versions == {name: importlib.metadata.version(name) for name in room.PACKAGES}
    started = datetime.datetime.fromisoformat(found["started"])
    assert started.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - started).total_seconds() < 60


def test_the_devices_are_those_that_the_run_uses():
    assert provenance(**KNOWN, devices=jax.devices()[:3])["device"]["count"] == 3
    tpu = SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
    device = provenance(**KNOWN, devices=[tpu])["device"]
    assert device == {
        "platform": "tpu",
        "kind": "TPU v5 lite",
        "count": 1,
        "processes": 1,
        "fsdp": 1,
    }


def test_the_precision_of_products():
    with jax.default_matmul_precision("float32"):
        found = provenance(**KNOWN)
    assert json.loads(json.dumps(found))["matmul_precision"] == "float32"


def test_several_seeds_are_plain_integers():
    found = provenance(**KNOWN | {"seed": list(np.arange(3))})
    assert json.loads(json.dumps(found))["seed"] == [0, 1, 2]


def test_nothing_that_is_missing_raises(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(room, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(room, "_cpuinfo", lambda: "")
    found = provenance(**KNOWN)
    assert found["git"] == {"commit": None, "dirty": None}
    assert found["versions"]["no-such-package"] is None
    assert found["cpu"]["class"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("cpuinfo", "model", "kind"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx avx2 avx512f", "Xeon", "AVX-512"),
        ("model name\t: EPYC: 7\nflags\t\t: fpu avx avx2\nmodel name\t: B", "EPYC: 7", "AVX2"),
        ("model name : i5\nflags : fpu avx", "i5", "AVX"),
        ("model name : old\nflags : fpu avx2x sse4_2", "old", "SSE4.2"),
        ("model name : N1\nFeatures : fp asimd", "N1", "NEON"),
        ("model name : V1\nFeatures : fp asimd sve", "V1", "SVE"),
        ("model name : odd\nflags : fpu", "odd", None),
    ],
)
def test_the_class_of_a_processor(cpuinfo, model, kind):
    assert processor(cpuinfo) == (model, kind)


def test_a_commit_and_whether_it_is_all(repository):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert revision(repository / "a.py") == (head, False)
    (repository / "new.py").write_text("2\n")
    assert revision(repository / "a.py") == (head, True)
    (repository / "new.py").unlink()
    (repository / "a.py").write_text("3\n")
    assert revision(repository / "a.py") == (head, True)


def test_somebody_elses_repository_is_not_ours(repository):
    installed = repository / "site-packages" / "train"
    installed.mkdir(parents=True)
    (installed / "provenance.py").write_text("")
    assert revision(installed / "provenance.py") == (None, None)


def test_no_repository(tmp_path):
    assert revision(tmp_path / "a.py") == (None, None)


def test_a_slow_git_is_not_waited_for(repository, monkeypatch):
    monkeypatch.setattr(room, "GIT_SECONDS", 1e-9)
    assert revision(repository / "a.py") == (None, None)
