"""What ends a worker of the streaming loader, or the process that started it; and what is left."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

import commands
import processes
import pytest
from image_files import classes
from processes import children, within

from train.data.decode import Unreadable
from train.data.folder import folder
from train.data.host import Host, Resize
from train.data.loader import LoaderFailed
from train.data.order import once
from train.data.streaming import Streaming
from train.mesh import make_mesh

ROOT = pathlib.Path(__file__).parents[3]
MARK = "SVERTKA_TEST_RUN"


@pytest.fixture(autouse=True)
def ours():
    """What other tests have started, and what has not ended yet, is no concern of these."""
    processes.begin()


def environment(mark):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "1",
        MARK: mark,
    }


def living(mark, but=()):
    """Ids of all processes that were started with this mark and have not ended."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0")
            ended = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if marked and not ended and int(path.name) not in but:
            found.append(int(path.name))
    return found


@pytest.fixture
def pictures(tmp_path):
    classes(tmp_path / "pictures", {"a": 20, "b": 20}, size=(12, 12))
    return tmp_path / "pictures"


def loader(root, **how):
    how = {"batch_size": 4, "workers": 2, "host": Host(Resize(), ((8, 8),)), **how}
    return Streaming(folder(root), mesh=make_mesh(), **how)


def named_memory(pids):
    """What these processes hold of /dev/shm, where a block stays until somebody removes its name.

    (What others on this machine have there is no concern of a test.)
    """
    maps = (pathlib.Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return [line for one in maps for line in one.splitlines() if "/dev/shm/" in line]


def take(payloads, count=1000):
    for _ in range(count):
        next(payloads)


@pytest.mark.parametrize(("victim", "number"), [(0, signal.SIGKILL), (1, signal.SIGSEGV)])
def test_a_worker_killed_is_one_line(pictures, victim, number):
    before = named_memory([os.getpid()])  # of another test's set, TensorFlow's semaphores
    payloads = loader(pictures).payloads(0)
    next(payloads)
    assert {*named_memory([os.getpid(), *children()])} <= {*before}
    os.kill(children()[victim], number)
    began = time.monotonic()
    with pytest.raises(LoaderFailed, match=rf"worker process .* ended \(signal {number}\)") as e:
        take(payloads)
    assert time.monotonic() - began < 3
    assert "\n" not in str(e.value)
    assert within(2, lambda: not children())


def test_a_worker_killed_before_it_has_begun_is_one_line(pictures):
    payloads = loader(pictures).payloads(0)

    def kill():
        assert within(20, lambda: children())
        os.kill(children()[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(LoaderFailed, match=r"ended \(signal 9\)"):
        take(payloads)
    thread.join()
    assert not children()


def test_an_unreadable_picture_is_unreadable_with_workers_too(pictures):
    path = pictures / "a" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    payloads = loader(pictures, order=once).payloads(0)
    with pytest.raises(Unreadable, match=r"3\.png, example \d+: cannot be decoded"):
        take(payloads)
    assert not children()


SCRIPT = """
import sys, time
from train.data.folder import folder
from train.data.host import Host, Resize
from train.data.streaming import Streaming
from train.mesh import make_mesh

host = Host(Resize(), ((8, 8),))
loader = Streaming(folder(sys.argv[1]), mesh=make_mesh(), batch_size=4, host=host, workers=2)
payloads = loader.payloads(0)
print("starting", flush=True)
for _ in payloads:
    print("step", flush=True)
    if sys.argv[2:]:
        break  # and leave it open
    time.sleep(0.01)
"""


def killed(root, script, after, seconds, number=signal.SIGKILL):
    """Kill a run so long after it has said this; the ids of what lives two seconds later."""
    mark = uuid.uuid4().hex
    command = [sys.executable, str(script), str(root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(mark), **pipes) as process:
        line = next(line for line in process.stdout if line.strip() == after)
        assert line
        if after == "starting":
            assert within(10, lambda: living(mark, but=(process.pid,)))
        time.sleep(seconds)
        workers = living(mark, but=(process.pid,))
        process.send_signal(number)
        errors = process.communicate(timeout=10)[1]
    assert errors == ""
    assert len(workers) in (1, 2)
    within(2, lambda: not living(mark))
    left = living(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


@pytest.mark.parametrize(("after", "seconds"), [("starting", 0), ("starting", 0.3), ("step", 0.2)])
def test_workers_end_with_a_killed_parent(pictures, tmp_path, after, seconds):
    """At its start, while they import, at work."""
    (tmp_path / "script.py").write_text(SCRIPT)
    assert killed(pictures, tmp_path / "script.py", after, seconds) == []


def test_a_run_that_ends_without_closing_leaves_nothing(pictures, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    mark = uuid.uuid4().hex
    command = [sys.executable, str(tmp_path / "script.py"), str(pictures), "once"]
    done = subprocess.run(command, env=environment(mark), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "starting\nstep\n", "")
    assert within(2, lambda: not living(mark))


@pytest.mark.slow
def test_workers_end_with_a_parent_killed_at_any_moment(pictures, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    for k in range(40):
        found = killed(pictures, tmp_path / "script.py", "starting", 0.05 * k)
        assert found == [], f"killed after {0.05 * k:.2f} s"


def train(root, path, *more, mark):
    command = [
        str(ROOT / "experiments" / "classify.py"), "--data", f"folder:{root}",
        "--model", "mlp", "--size", "8", "--steps", "100000", "--batch-size", "4", "--log-every",
        "1", "--evaluate-every", "100000", "--workdir", str(path), "--workers", "2", *more,
    ]  # fmt: skip
    return subprocess.Popen(
        commands.launched(command),
        env=environment(mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def steps(path):
    log = path / "metrics.jsonl"
    return log.read_text().count('"train"') if log.exists() else 0


def test_a_run_whose_worker_is_killed_is_saved_and_says_so(pictures, tmp_path):
    mark = uuid.uuid4().hex
    process = train(pictures, tmp_path / "run", mark=mark)
    try:
        assert within(60, lambda: steps(tmp_path / "run") > 5)
        os.kill(living(mark, but=(process.pid,))[0], signal.SIGKILL)
        errors = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 1
    assert re.fullmatch(r"error: a worker process of the loader ended \(signal 9\); .*\n", errors)
    assert len(list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))) == 1
    assert within(2, lambda: not living(mark))


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_all_processes_of_a_run_leaves_nothing(pictures, tmp_path, number):
    """As Ctrl-C in a terminal, and as a scheduler's SIGTERM."""
    mark = uuid.uuid4().hex
    process = train(pictures, tmp_path / "run", mark=mark)
    try:
        assert within(60, lambda: steps(tmp_path / "run") > 5)
        assert len(living(mark)) == 3
        assert named_memory(living(mark)) == []
        os.killpg(process.pid, number)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "Stopped and saved at step" in out
    assert errors == ""
    assert within(2, lambda: not living(mark))
