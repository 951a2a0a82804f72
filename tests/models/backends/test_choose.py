"""Which backend a run gets, and what it is told."""

from types import SimpleNamespace

import jax
import pytest

from models import backends
from models.backends import pure, xla
from models.backends.onednn import build
from models.backends.onednn import engine as onednn
from models.layers.norm import BatchNorm

GPU = SimpleNamespace(platform="gpu")


@pytest.fixture
def absent(monkeypatch):
    """No extension, whatever this machine has."""

    def built():
        raise build.Impossible("not built, says the test")

    monkeypatch.setattr(build, "built", built)
    monkeypatch.setattr(onednn, "extension", onednn.extension.__wrapped__)


@pytest.fixture
def present(monkeypatch):
    """An extension, whatever this machine has; nothing is computed."""
    monkeypatch.setattr(onednn, "extension", lambda: None)


def engine_of(backend):
    return backend.conv_general_dilated.keywords["engine"]


def one():
    return jax.devices()[:1]


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("name", ["auto", "onednn"])
def test_one_cpu_gets_onednn(name):
    backend = backends.choose(name, one())
    assert (backend.name, backend.why) == ("onednn", "")
    assert engine_of(backend) == onednn.ENGINE
    assert backend.norm.func is BatchNorm
    assert backend.norm.keywords["batch_normalise"].keywords == {"engine": onednn.NORM}


def test_one_cpu_gets_what_is_built_here():
    why = ""
    try:
        build.built()
    except build.Impossible as reason:
        why = str(reason)
    backend = backends.choose("auto", one())
    assert (backend.name, backend.why) == ("jax" if why else "onednn", why)


@pytest.mark.usefixtures("absent")
def test_without_the_extension_one_cpu_gets_jax_and_is_told_why():
    backend = backends.choose("auto", one())
    assert (backend.name, backend.why) == ("jax", "not built, says the test")
    with pytest.raises(backends.Missing, match="not built, says the test"):
        backends.choose("onednn", one())


def test_an_extension_that_does_not_load_is_none(monkeypatch, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(build, "built", lambda: broken)
    monkeypatch.setattr(build, "onednn", lambda: build.OneDNN(broken, tmp_path))
    monkeypatch.setattr(onednn, "extension", onednn.extension.__wrapped__)
    backend = backends.choose("auto", one())
    assert backend.name == "jax"
    assert str(broken) in backend.why


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("count", [2, 4])
def test_several_cpus_get_jax_and_no_complaint(count):
    backend = backends.choose("auto", jax.devices()[:count])
    assert (backend.name, backend.why) == ("jax", "")
    assert engine_of(backend).weights.keywords == {"shards": count}
    with pytest.raises(backends.Missing, match=f"one CPU device, not on {count} cpu"):
        backends.choose("onednn", jax.devices()[:count])


@pytest.mark.usefixtures("present")
def test_jax_is_had_on_request():
    backend = backends.choose("jax", one())
    assert (backend.name, backend.why) == ("jax", "")
    assert engine_of(backend).forward is pure.forward


@pytest.mark.parametrize("devices", [1, 4])
def test_xla_is_as_it_is(devices):
    backend = backends.choose("xla", jax.devices()[:devices])
    assert backend.name == "xla"
    assert backend.fields == {
        "conv_general_dilated": xla.conv_general_dilated,
        "norm": BatchNorm,
    }


@pytest.mark.usefixtures("present")
def test_other_devices_get_xla():
    assert backends.choose("auto", [GPU]) is backends.XLA
    assert backends.choose("auto", [GPU, GPU]) is backends.XLA
    with pytest.raises(backends.Missing, match="one CPU device, not on 1 gpu"):
        backends.choose("onednn", [GPU])


@pytest.mark.parametrize("name", ["oneDNN", "", "cudnn"])
def test_an_unknown_name_is_refused_with_the_known(name):
    with pytest.raises(ValueError, match=f"'{name}' is none of auto, onednn, jax, xla"):
        backends.choose(name, one())
