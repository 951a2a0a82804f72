"""Provenance: what a run was made of, so that its numbers can be questioned and made again."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

PACKAGES = (
    "svertka", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow",
    "simplejpeg",
)  # fmt: skip
CPU_CLASSES = {
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "avx": "AVX",
    "sse4_2": "SSE4.2",
    "sve": "SVE",
    "asimd": "NEON",
}
"""A feature that the kernel lists -> the class it stands for; the first that is there counts."""
GIT_SECONDS = 3.0


def provenance(
    *,
    seed: int | Sequence[int],
    convolution: str,
    fingerprints: Mapping[str, str],
    devices: Sequence[jax.Device] | None = None,
    fsdp: int = 1,
    weights: str | None = None,
    origin: Mapping[str, Any] | None = None,
    argv: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Versions, devices, processor, commit, data, seed, backend, command and time of the start.

    Args:
        seed: of the run, or those of a run of several.
        convolution: name of the backend that computes the convolutions.
        fingerprints: split -> `Source.fingerprint`.
        devices: that the run uses; all by default.
        fsdp: how many of them share the state.
        weights: digest of those that the run began from (`train.seal.digest_of`); None where they
            were random, or are already known.
        origin: where these were found, see `train.weights`.
        argv: the command line; that of this process by default.

    Returns:
        What `json.dumps` takes as it is. What cannot be found out is None; nothing raises.
        `matmul_precision` is that of JAX's configuration; None leaves it to the device, and a GPU
        or TPU then multiplies float32 in fewer bits.
    """
    devices = jax.devices() if devices is None else devices
    commit, dirty = revision(pathlib.Path(__file__))
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv if argv is None else argv),
        "seed": [int(one) for one in seed] if isinstance(seed, Sequence) else int(seed),
        "convolution": convolution,
        "matmul_precision": jax.default_matmul_precision.value,
        "data": dict(fingerprints),
        **({} if weights is None else {"weights": weights}),
        **({"weights_from": dict(origin)} if origin else {}),
        "git": {"commit": commit, "dirty": dirty},
        "device": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
            "fsdp": fsdp,
        },
        "cpu": cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """Package -> its version, None where it is not installed; and that of Python."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def cpu() -> dict[str, Any]:
    """Model and class of the processor, and how many cores this process may use."""
    model, kind = processor(_cpuinfo())
    return {"model": model, "class": kind, "cores": _cores()}


def processor(cpuinfo: str) -> tuple[str | None, str | None]:
    """Model and class of the first processor in the text of Linux's `/proc/cpuinfo`.

    >>> processor("model name : Xeon\\nflags : fpu avx avx2")
    ('Xeon', 'AVX2')
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    features = fields.get("flags", fields.get("Features", "")).split()
    model = fields.get("model name") or platform.processor() or None
    return model, next((CPU_CLASSES[name] for name in CPU_CLASSES if name in features), None)


def revision(file: pathlib.Path) -> tuple[str | None, bool | None]:
    """Commit of the repository that tracks `file`, and whether anything in it is not committed.

    (None, None) where no repository tracks it (an installed package inside somebody else's
    repository is not that one's), or git is missing, refuses or is slow.
    """
    tracked = _git(file.parent, ["ls-files", "--error-unmatch", "--", file.name])
    commit = None if tracked is None else _git(file.parent, ["rev-parse", "HEAD"])
    if commit is None:
        return None, None
    changes = _git(file.parent, ["status", "--porcelain"])
    return commit.strip(), None if changes is None else bool(changes.strip())


def _git(folder: pathlib.Path, arguments: Iterable[str]) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            # `status` would otherwise write to the index, under the feet of whoever works there.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _cpuinfo() -> str:
    try:
        return pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cores() -> int | None:
    """Those that this process may use, where the system says so."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
