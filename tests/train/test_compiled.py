"""Programs that were compiled are there for the next process, and none that is damaged is in its
way."""

import os
import pathlib
import subprocess
import sys
import zlib

import jax
import pytest

from train import compiled
from train.compiled import keep_programs, kind, remove_unsound, shrink, sound

ROOT = pathlib.Path(__file__).parents[2]

SCRIPT = """
import os, sys
import jax
from train import compiled

compiled.WORTH = 0.0
found = []
jax.monitoring.register_event_listener(lambda name, **what: found.append(name))
compiled.keep_programs()
print(jax.jit(lambda x: jax.numpy.sin(x) * 2)(1.0))
print("hits", sum("cache_hits" in name for name in found))
"""


def process(cache, **more):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    environment |= {"SVERTKA_CACHE": str(cache), "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stderr == ""
    value, hits = done.stdout.splitlines()
    return float(value), int(hits.split()[1])


def entries(cache):
    return sorted((cache / "programs").glob(f"*/{compiled.ENTRIES}"))


def test_a_second_process_compiles_nothing_and_a_damaged_program_anew(tmp_path):
    value, hits = process(tmp_path)
    assert (hits, len(entries(tmp_path))) == (0, 1)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    assert process(tmp_path) == (value, 1)
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    for damaged in (whole[:100], b"", bytes(changed)):
        entry.write_bytes(damaged)
        assert process(tmp_path) == (value, 0)
        assert len(entry.read_bytes()) == pytest.approx(len(whole), rel=0.05)  # written anew


@pytest.mark.parametrize("place", ["a_file", "of_others", "turned_off"])
def test_where_nothing_can_be_kept_a_program_is_compiled_without_a_word(place, tmp_path):
    more = {}
    if place == "a_file":
        (tmp_path / "programs").write_text("")
    elif place == "of_others":
        (tmp_path / "programs").mkdir()
        (tmp_path / "programs").chmod(0o777)  # anybody could leave code there
    else:
        more["JAX_ENABLE_COMPILATION_CACHE"] = "0"
    assert process(tmp_path, **more)[1] == 0
    assert entries(tmp_path) == []


def test_whoever_names_a_folder_has_jax_s_own_cache():
    before = jax.config.jax_compilation_cache_dir
    assert before  # the tests' own
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == before


def test_what_is_new_is_looked_at_once(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(compiled, "sound", lambda content: looked.append(content) or True)
    (tmp_path / "jit_a-1-cache").write_bytes(b"a")
    remove_unsound(tmp_path)
    assert looked == [b"a"]
    os.utime(tmp_path / "seen", (2**32, 2**32))  # later than any file
    remove_unsound(tmp_path)
    assert looked == [b"a"]


def test_what_is_cut_short_is_removed(tmp_path):
    whole = zlib.compress(b"a program" * 100)
    files = {"whole": whole, "short": whole[:-3], "empty": b"", "longer": whole + b"x"}
    for name, content in files.items():
        (tmp_path / f"jit_{name}-1-cache").write_bytes(content)
    (tmp_path / "notes.txt").write_text("no program")
    remove_unsound(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {"jit_longer-1-cache"} == {"jit_whole-1-cache", "notes.txt", "seen"}
    assert sound(whole)


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for number, folder in enumerate(("a", "a", "b")):
        path = tmp_path / folder / f"jit_{number}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 + number, 1000 + number))
    os.utime(tmp_path / "a" / "jit_0-cache", (5000, 1000))  # read later
    shrink(tmp_path, 200)
    assert {path.name for path in tmp_path.glob("*/*")} == {"jit_0-cache", "jit_2-cache"}
    shrink(tmp_path, 200)
    assert len([*tmp_path.glob("*/*")]) == 2


def test_processors_of_one_kind_share_programs():
    text = "processor : 0\nmodel name : A\ncpu MHz : 2000\nflags : fpu avx\n"
    twice = text + text.replace("2000", "2100")
    assert kind(text) == kind(twice)
    assert kind(text) != kind(text.replace("avx", "avx avx2"))
    assert kind(text) != kind(text.replace(": A", ": B"))
    assert kind("") == [""]
