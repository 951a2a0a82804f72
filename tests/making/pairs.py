"""Two processes of one run, on this machine: `import pairs` in a test."""

import re
import socket

from commands import ROOT, ended, start

GLOO = re.compile(r"\[Gloo\].*\n|^\d+ is connected.*\n|^Waiting for all.*\n", re.MULTILINE)
"""What the collectives of a CPU print, to where output goes; and what one says that came early."""
DRIVER = """
import sys, time
from experiments import classify
from train import cli
{patch}
sys.argv[:] = ["experiments/classify.py", *sys.argv[1:]]
raise SystemExit(cli.command_line("experiments.classify"))
"""


def port():
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def pair(command, *, firsts=(), seconds=(), limits=(None, None), scripts=(None, None), **env):
    """Both processes of a command, with two devices each."""
    found, at = [], port()
    for index, (more, limit, script) in enumerate(
        zip((firsts, seconds), limits, scripts, strict=True)
    ):
        own = [*command, "--coordinator", f"127.0.0.1:{at}", "--processes", 2]
        own += ["--process-id", index, *more]
        if script is not None:
            own = ["-c", DRIVER.format(patch=script), *own[1:]]
        found.append(start(own, limit=limit, JAX_NUM_CPU_DEVICES="2", PYTHONPATH=ROOT, **env))
    return found


def both(processes, seconds=300):
    """How they ended, without what gloo prints."""
    ends = [ended(process, seconds) for process in processes]
    for end in ends:
        end.out = GLOO.sub("", end.out)
    return ends
