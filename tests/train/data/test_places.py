"""Where data lie: at home, where there is one that can be written."""

import os
import pathlib
import pwd
import subprocess
import sys
import tempfile

import pytest

from train.data import places

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def own(monkeypatch, tmp_path):
    """What is below the temporary directory."""
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary" / f"svertka-{os.getuid()}"


def test_at_home(monkeypatch, tmp_path, own):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.at_home("a/b") == tmp_path / "a" / "b"
    assert places.data_dir() == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "~/mine")
    assert places.data_dir() == tmp_path / "mine"


def test_no_home(monkeypatch, own):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    assert places.data_dir() == own / "tensorflow_datasets"
    assert not places.lies("cifar10")


@pytest.mark.parametrize("home", ["nobody_may", "a_file"])
def test_a_home_that_can_not_be_written(monkeypatch, tmp_path, own, home):
    (tmp_path / "nobody_may").mkdir()
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / home))
    real = os.access  # root may write anywhere
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != tmp_path / home and real(path, mode)
    )
    assert places.data_dir() == own / "tensorflow_datasets"
    (tmp_path / "nobody_may" / "tensorflow_datasets").mkdir()
    prepared = places.data_dir()  # may be read
    assert (prepared.parent == tmp_path / home) == (home == "nobody_may")


def test_no_temporary_directory_either(monkeypatch):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert places.temporary() == pathlib.Path(f"svertka-{os.getuid()}")


NOBODY = """
import os, pwd, runpy, sys
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("home", "backend"),
    [(None, "nonsense"), ("/dev/null", "module://matplotlib_inline.backend_inline")],
)
def test_a_run_of_a_container_s_user(tmp_path, home, backend):
    """One without a name, and without a home, or with one that is none; started by a notebook."""
    gone = {"HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"}
    env = {name: value for name, value in os.environ.items() if name not in gone}
    env |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": backend} | ({"HOME": home} if home else {})
    wanted = ["--data", "digits", "--model", "lenet5", "--steps", "1", "--workdir", "run"]
    script = ROOT / "experiments" / "classify.py"
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, script, *wanted],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "report.html").exists()
