"""Processes: several that run one program, on many machines or on one; each knows a part.

All do the same in the same order. The first prints and writes; what the others would have to say
goes to it, see `gathered`. Before they begin, `join` brings them together; without it there is one.
"""

import collections
import contextlib
import dataclasses
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from train.progress import working
from train.refusal import Failed, Refused

Value = TypeVar("Value")

START_SECONDS = 300
"""How long each waits for the others to come."""
SOON = 5.0
"""Seconds of waiting that are worth a line."""
HEARTBEAT_SECONDS = 100
"""After which JAX's runtime ends all processes where one is silent; `train.watch` is faster."""
SHUTDOWN_SECONDS = 30
"""How long one that ends waits for the others, which have ended too or can't."""
AUTO = "auto"
"""As a coordinator: JAX asks the cluster."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MANY = "SLURM_STEP_NUM_TASKS"
"""How many tasks Slurm's `srun` has started as one."""
TPU_HOSTS = "TPU_WORKER_HOSTNAMES"
"""Names of the hosts of a TPU slice, with commas."""


@dataclasses.dataclass
class Joined:
    """Which of the processes this one is."""

    index: int = 0
    count: int = 1
    options: tuple[str, ...] = ()
    """Of the command line that brought them together; none where a cluster did."""
    came: Callable[[], None] = lambda: None
    """Told where this process has come to where all meet; what follows may take long."""
    gave: Callable[[], None] = lambda: None
    """Told where it has given what the others wait for, and goes on at once: see `train.watch`."""


HERE = Joined()


class PeerFailed(Failed):
    """Another process can't go on, and so none can."""

    common = True
    """Every process knows of it."""


class OutOfStep(RuntimeError):
    """A fault of this code: the processes do not do the same."""

    common = True


def first() -> bool:
    """Whether this process prints and writes."""
    return HERE.index == 0


def several() -> bool:
    """Whether there are others."""
    return HERE.count > 1


def join(config: Any) -> None:
    """Come together with the other processes that the configuration or the cluster tells of.

    Must come before JAX is asked for its devices. Joining again changes nothing. From here on what
    a process but the first prints is dropped; errors are not.

    Args:
        config: `coordinator`, `processes` and `process_id`, all or none; see `train.experiment`.

    Raises:
        Refused: some of them, or such as can't be; or the others don't come.
    """
    arguments = asked(config)
    if arguments is None or several():
        return
    import jax

    where = arguments.get("coordinator_address", AUTO)
    count = arguments.get("num_processes")
    late = threading.Timer(START_SECONDS, give_up, [where, count])
    late.daemon = True
    late.start()
    told = f"waiting for {every_one(where, count)}, for up to {START_SECONDS} s"
    try:
        with working(told, after=SOON):
            jax.distributed.initialize(
                **arguments,
                initialization_timeout=START_SECONDS + HEARTBEAT_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            )
    except Failed:  # the output that the line went to
        raise
    except Exception as error:
        why = str(error).strip().partition("\n")[0]
        if "coordinator_address should be defined" in why:
            why = (
                "JAX finds no cluster here; give --coordinator HOST:PORT, --processes, --process-id"
            )
        raise Refused(
            f"coordinator={where!r}: the processes did not come together: {why}"
        ) from None
    finally:
        late.cancel()
    HERE.index, HERE.count = jax.process_index(), jax.process_count()
    own = collections.Counter(device.process_index for device in jax.devices())
    if len({*own.values()}) > 1:
        counts = ", ".join(f"process {index} has {count}" for index, count in sorted(own.items()))
        raise Refused(f"each process must have the same number of devices: {counts}")
    if "coordinator_address" in arguments:
        given = (config.coordinator, config.processes, config.process_id)
        HERE.options = tuple(
            f"--{name}={value}"
            for name, value in zip(("coordinator", "processes", "process-id"), given, strict=True)
        )
    gathered("all have come")  # while all are close together, see `train.mesh.connect`
    if not first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def every_one(where: str, count: int | None) -> str:
    """All processes, in words."""
    if where == AUTO:
        return "all processes of the cluster"
    return f"all {count} processes to connect to {where}"


def give_up(where: str, count: int | None) -> None:
    """End this process, which waits for the others in C++ and would be ended there."""
    advice = (
        "; all are started with the same --coordinator and --processes, each with its own "
        f"--process-id, and must reach {where}"
    )
    print(
        f"error: coordinator={where!r}: waited {START_SECONDS} s for {every_one(where, count)}"
        + (advice if where != AUTO else ""),
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def asked(config: Any) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is to be given; None for one process.

    Raises:
        Refused: a part is missing, or can't be.
    """
    given = {name: getattr(config, name) for name in ("coordinator", "processes", "process_id")}
    coordinator, count, index = given.values()
    if coordinator == AUTO:
        return {}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return {} if launched_as_one() else None
    if missing:
        raise Refused(
            f"{missing[0]}=None: coordinator, processes and process_id are given together; "
            "a cluster that JAX knows (Slurm, Cloud TPU) needs none of them"
        )
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise Refused(f"coordinator={coordinator!r} is no host:port")
    if count < 1:
        raise Refused(f"processes={count} must be above 0")
    if not 0 <= index < count:
        raise Refused(f"process_id={index} is none of processes={count}: they count from 0")
    if count == 1:
        return None
    found = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    found["cluster_detection_method"] = "deactivate"  # all is said
    # Else the first one listens on every network that the machine is on.
    return found | ({"coordinator_bind_address": coordinator} if host in LOOPBACK else {})


def launched_as_one() -> bool:
    """Whether a cluster has started this process as one of several."""
    tasks = os.environ.get(MANY, "1")
    return (tasks.isdecimal() and int(tasks) > 1) or "," in os.environ.get(TPU_HOSTS, "")


def gathered(what: str, value: Any = None, *, error: BaseException | None = None) -> list[Any]:
    """What every process has to say, in their order; each must ask the same.

    Args:
        what: is asked, in words. Where one has gone on to another question than the others, it
            is an error in all of them.
        value: of this process; it must pickle.
        error: why this process can't go on.

    Raises:
        PeerFailed: another process can't, where this one could.
        OutOfStep: they ask different things.
    """
    if not several():
        return [value]
    import numpy as np
    from jax.experimental import multihost_utils

    HERE.came()
    told = {"what": what, "value": value, "error": None if error is None else said(error)}
    own = np.frombuffer(pickle.dumps(told), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(own)], np.int32)).ravel()
    padded = np.zeros(1 << int(lengths.max()).bit_length(), np.uint8)  # few programs
    padded[: len(own)] = own
    every = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    answers = [
        pickle.loads(row[:length].tobytes()) for row, length in zip(every, lengths, strict=True)
    ]
    if error is None:
        for index, answer in enumerate(answers):
            if answer["error"] is not None:
                raise PeerFailed(f"process {index}: {answer['error']}")
        if {answer["what"] for answer in answers} != {what}:
            raise OutOfStep(f"the processes ask different things: {answers}")
    return [answer["value"] for answer in answers]


def said(error: BaseException) -> str:
    """An error in one line; what has no words is named."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Refused | Failed) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Within it each process works for itself; where one fails, it ends in all of them.

    Raises:
        PeerFailed: in the others.
    """
    try:
        yield
    except BaseException as error:
        if not getattr(error, "common", False):  # else all know
            gathered(what, error=error)
        raise
    gathered(what)


def same(what: str, find: Callable[[], Value]) -> Value:
    """What the first process finds, in all of them."""
    if not several():
        return find()
    with together(what):
        found = find() if first() else None
    return gathered(what, found)[0]


def refuse_others(what: str, values: dict[str, Any]) -> None:
    """All processes must have the same values.

    Args:
        what: they are, in words.
        values: name -> value, with `==`.

    Raises:
        Refused: names a process, and the first value of it that is another.
    """
    every = gathered(what, values)
    for index, its in enumerate(every):
        for name, value in every[0].items():
            if its.get(name) != value:
                raise Refused(
                    f"process {index} has another {name} than process 0: {its.get(name)} in place "
                    f"of {value}; all must be started with the same command, data and packages"
                )


def name() -> str:
    """Of this process, for messages: its machine and its number there."""
    return f"{socket.gethostname()}, process id {os.getpid()}"
