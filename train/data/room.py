"""Room: whether a set is small enough to live on the devices, in bytes."""

import math
import os
import pathlib
import sys
from collections.abc import Sequence

import jax

from train.data.example import Shaper
from train.data.gaps import Gaps
from train.data.host import Host
from train.data.ragged import Capacity
from train.data.source import Source

SHARE = 1 / 4
"""Of the memory there is, what a set may take: the rest is for the network and its gradients."""

MEMORY = pathlib.Path("/proc/meminfo")
OWN_GROUPS = pathlib.Path("/proc/self/cgroup")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
"""Where Linux says what there is, and what a group of processes, such as a container, may use."""


def resident_bytes(
    source: Source,
    *,
    host: Host | None = None,
    capacity: Capacity | None = None,
    gaps: Gaps | None = None,
) -> int:
    """What `train.data.resident.Resident` would keep of a source; example 0 is read.

    Args:
        source: any.
        host, capacity, gaps: as the loader takes them; of several shapes the largest counts.

    Raises:
        Refused: as the loader would.
    """
    examples = Shaper(source, capacity, host, gaps, cut=True)
    one = max(
        sum(math.prod(shape) * dtype.itemsize for shape, dtype in examples.first(shape).values())
        for shape in ((None,) if host is None else host.shapes)
    )
    return len(source) * one


def fits(needed: int, devices: Sequence[jax.Device]) -> bool:
    """Whether so many bytes are at most `SHARE` of what each device, and this host, have for them.

    Args:
        needed: of all sets together, each whole on every device.
        devices: of the mesh; on a CPU they share the host's memory.
    """
    return needed <= SHARE * room(devices)


def room(devices: Sequence[jax.Device]) -> float:
    """Bytes that a set copied to each of the devices may have: `math.inf` where nobody says."""
    here = [device for device in devices if device.process_index == jax.process_index()]
    limits = [limit for device in here if (limit := _limit(device)) is not None]
    shared = sum(device.platform == "cpu" for device in here)
    # The host holds the set while it is read, and once for each device that is the host's own.
    return min([*limits, available() / max(shared, 1)])


def available() -> float:
    """Bytes of memory that the host, and the groups this process is in, have left for it.

    `math.inf` where nobody says.
    """
    return min([_free(), *_groups()])


def _limit(device: jax.Device) -> int | None:
    """Of a device with memory of its own."""
    if device.platform == "cpu":
        return None
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except (jax.errors.JaxRuntimeError, NotImplementedError):  # not all say
        return None


def _free() -> float:
    """What the system could give without swapping; all it has, where it does not say more."""
    try:
        for line in MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    if sys.platform == "win32":
        return math.inf
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return math.inf


def _groups() -> list[float]:
    """Limit less use, of the group of this process and of each above it, as far as one is set."""
    found: list[float] = []
    for folder, limit, used in _places():
        try:
            most = int((folder / limit).read_text())  # "max" is none
            cached = _inactive(folder / "memory.stat")  # would be given up
            found.append(max(0, most - int((folder / used).read_text()) + cached))
        except (OSError, ValueError):
            continue
    return found


def _places() -> list[tuple[pathlib.Path, str, str]]:
    """Folders of groups, with the names of the files for limit and use (cgroup 2, cgroup 1)."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, files = CGROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, files = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = root / path.strip("/")
        # A container sees its own group at the root, whatever the path says.
        found += [(folder, *files) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return found


def _inactive(file: pathlib.Path) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0
