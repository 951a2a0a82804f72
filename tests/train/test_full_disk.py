"""A disk that is full, as a user meets it: one line that names the file, and a run that goes on."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from train.logs import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
RUN = ("--data", "digits", "--steps", "30", "--evaluate-every", "10", "--log-every", "1")


LIMITED = """
import os, resource, sys
size, *command = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
os.execv(command[0], command)
"""


def run(*arguments, size=None, stdout=subprocess.PIPE):
    """The quickest experiment as a process of which no file grows beyond `size` bytes."""
    command = [sys.executable, "-W", "error", "experiments/mlp_vs_cnn.py", *map(str, arguments)]
    if size is not None:
        command = [sys.executable, "-c", LIMITED, str(size), *command]
    return subprocess.run(
        command,
        cwd=ROOT,
        # JAX's cache has files of its own, and words of its own where they can't be written.
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )


def assert_one_line(out, what, why):
    assert out.returncode == 1, out.stdout + out.stderr
    assert "Traceback" not in out.stdout + out.stderr
    (line,) = out.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f" could not be written: {why}")
    assert what in line


def assert_goes_on(path, model="mlp"):
    """Where there is room again the run ends as any other, and nothing half written is left."""
    saved = max([int(p.name) for p in path.glob("checkpoints/*") if p.name.isdecimal()], default=0)
    out = run(*RUN, "--model", model, "--workdir", path)
    assert (out.returncode, out.stderr) == (0, ""), out.stdout + out.stderr
    if saved == 30:
        assert "is at its last step, 30." in out.stdout
    elif saved:
        assert f"Going on from step {saved} of" in out.stdout
    assert "can't be read" not in out.stdout
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert len(read_metrics(path)) == len(lines)
    trained = [line["step"] for line in read_metrics(path) if line["kind"] == "train"]
    assert trained == list(range(1, 31))
    assert json.loads((path / "summary.json").read_text())["test/count"] == 355
    page = (path / "report.html").read_text()
    assert page.endswith("</html>")
    assert "could not be drawn" not in page
    assert not [*path.rglob("*.part"), *path.rglob("*tmp*")]


def test_a_file_too_large_is_one_line_and_the_run_goes_on(tmp_path):
    out = run(*RUN, "--model", "mlp", "--workdir", tmp_path, size=60_000)
    assert_one_line(out, "the checkpoint of step 10", "File too large")
    assert_goes_on(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "what"),
    [
        ("mlp", 100, "config.json"),
        ("mlp", "config.json", "provenance.json"),
        ("mlp", 2000, "metrics.jsonl"),
        ("mlp", 5000, "the checkpoint of step 10"),
        ("mlp", 1_000_000, "the checkpoint of step"),
        ("cnn", 150_000, "report.html"),
    ],
)
def test_every_file_in_its_turn(tmp_path, model, size, what):
    if isinstance(size, str):  # as large as this file, and the next one is larger
        assert run(*RUN, "--model", model, "--workdir", tmp_path / "whole").returncode == 0
        size = (tmp_path / "whole" / size).stat().st_size
        tmp_path = tmp_path / "run"
        tmp_path.mkdir()
    out = run(*RUN, "--model", model, "--workdir", tmp_path, size=size)
    assert_one_line(out, what, "File too large")
    assert_goes_on(tmp_path, model)


@contextlib.contextmanager
def disk(path, size):
    """A disk of so many bytes."""
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("kib", [16, 64, 1000, 2600, 3500, 5500])
def test_a_full_disk_is_one_line_and_the_run_goes_on(tmp_path, kib):
    path = tmp_path / "disk"
    with disk(path, kib * 1024):
        out = run(*RUN, "--model", "mlp", "--workdir", path / "run")
        assert_one_line(out, "", "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=100m", path], check=True)
        assert_goes_on(path / "run")


@pytest.mark.slow
def test_output_on_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        out = run(*RUN, "--model", "mlp", "--workdir", tmp_path, stdout=full)
    assert out.returncode == 1
    assert out.stderr == "error: the output could not be written: No space left on device\n"
