"""The real command as a process, to be broken, and what it left: `import commands` in a test."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from processes import within

ROOT = pathlib.Path(__file__).parents[2]
MARK = "SVERTKA_TEST_RUN"
"""A variable in the environment of a run and of all that it starts."""
BARE = (sys.executable, "-I", "-S", "-c")
"""Python without anything of its own: it starts in an instant."""
STEPS, EVALUATE_EVERY, SAVE_EVERY = 600, 300, 100
"""Of a run that takes some seconds, in which it can be broken."""
# What the tests' own process is must not matter: its threads forbid it to fork, and what it leaves
# to a child counts as the child's memory. So a process in between does what comes before.
AS_IN_A_TERMINAL = """
import os, resource, signal, sys
which, most, *command = sys.argv[1:]
for number in (signal.SIGINT, signal.SIGHUP):  # nohup has them ignored
    signal.signal(number, signal.SIG_DFL)
if which:
    resource.setrlimit(getattr(resource, which), (int(most), int(most)))
os.execv(command[0], command)
"""
WEIGHED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@dataclasses.dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str
    peak: int = 0
    """Bytes of memory, at most."""


def classify(pictures, path, *more, log_every=1):
    """The command of a run on a folder of pictures; its directory is made."""
    path.mkdir(exist_ok=True)
    return [
        "experiments/classify.py", "--data", f"folder:{pictures}", "--model", "mlp", "--size", "8",
        "--steps", STEPS, "--batch-size", "4", "--evaluate-every", EVALUATE_EVERY, "--save-every",
        SAVE_EVERY, "--log-every", log_every, "--devices", "1", "--workdir", path, *more,
    ]  # fmt: skip


def again(path, *more):
    """The command that goes on with it."""
    return ["experiments/classify.py", "--workdir", path, "--log-every", "50", *more]


def start(command, *, limit=None, mark="", **env):
    """A process in a group of its own, as in a terminal.

    Args:
        command: the script and its arguments.
        limit: (name, number) of one of the system's limits.
        mark: told by `living`.
        **env: of its environment.
    """
    # Not `-W error`: a warning that a user would read must be seen here too.
    return subprocess.Popen(
        launched(command, limit),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "TFDS_DATA_DIR": "/nonexistent", MARK: mark, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launched(command, limit=None):
    """Python's own command of a script and its arguments, with signals as in a terminal."""
    own = [sys.executable, *map(str, command)]
    return [*BARE, AS_IN_A_TERMINAL, *map(str, limit or ("", 0)), *own]


def ended(process, seconds=300):
    """What it came to; killed with all its group where it takes longer."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"not ended in {seconds} s:\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def run(command, **how):
    """Start it, and wait for its end."""
    return ended(start(command, **how))


def measured(command, **how):
    """The same, with the most memory that it took."""
    end = run(["-c", WEIGHED, sys.executable, *command], **how)
    *lines, kilobytes = end.err.splitlines()
    return Ended(end.code, end.out, "".join(f"{line}\n" for line in lines), 1024 * int(kilobytes))


def wait_for(holds, process, seconds=240):
    """Until it holds, while the process lives."""
    assert within(seconds, lambda: holds() or process.poll() is not None), "waited too long"
    assert process.poll() is None, process.communicate()


def one_line(end, code, words):
    """Nothing but one line says what was wrong."""
    assert "Traceback" not in end.out + end.err, end
    lines = end.err.splitlines()
    assert len(lines) == 1, end
    assert re.match(f"error: .*{words}", lines[0]), end
    assert end.code == code, end


def whole_end(end):
    """A run that came to its end with nothing to complain of."""
    assert (end.code, end.err) == (0, ""), end


def steps(path):
    """The last step that is logged; 0 before."""
    file = path / "metrics.jsonl"
    found = re.findall(r'"kind": "train", "step": (\d+)', file.read_text() if file.exists() else "")
    return int(found[-1]) if found else 0


def trained(path):
    """All steps that are logged."""
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if line["kind"] == "train"]


def saved(path):
    """The steps that have a checkpoint, in order."""
    return sorted(int(p.name) for p in (path / "checkpoints").glob("*") if p.name.isdecimal())


def state(path, step=STEPS):
    """Every array of a checkpoint: its path, type and shape, and a digest of its bits."""
    record = path / "checkpoints" / str(step) / "record" / "metadata"
    return json.loads(record.read_text())["items"]


def living(mark, but=()):
    """Ids of all processes that were started with this mark and have not ended."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0")
            gone = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if marked and not gone and int(path.name) not in but:
            found.append(int(path.name))
    return found
