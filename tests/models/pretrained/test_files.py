"""Files of weights: what is read, what is refused, and that nothing in one is ever executed."""

import os
import pathlib
import pickle
import shlex
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from models.pretrained.files import BEFORE_ZIP, conversion, read

TENSORS = {
    "half": np.array([[1.5, -2.0]], np.float16),
    "brain": np.array([3.0, -0.15625], ml_dtypes.bfloat16),
    "single": np.array([[[0.1]]], np.float32),
    "double": np.array([1 / 3]),
    "count": np.array(7),
}


class Trap:
    """What runs code when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """A folder that is there only if a trap was sprung."""
    mark = tmp_path / "executed"
    yield mark
    assert not mark.exists()


@pytest.fixture
def no_torch(monkeypatch):
    """`import torch` fails, installed or not."""
    monkeypatch.setitem(sys.modules, "torch", None)


class FakeTensor:
    """As much of a tensor as is asked for."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def is_floating_point(self):
        return self.value.dtype.kind in "fV"

    def float(self):
        return FakeTensor(self.value.astype(np.float32))

    def detach(self):
        return self

    def numpy(self):
        if self.value.dtype == ml_dtypes.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.value


@pytest.fixture
def fake_torch(monkeypatch):
    """A stand-in for torch: what it was called with, and what it shall answer."""
    torch = types.SimpleNamespace(calls=[], content=None, __version__="2.10.0+cpu")

    def load(path, **how):
        torch.calls.append((path, how))
        if isinstance(torch.content, Exception):
            raise torch.content
        return torch.content

    torch.load, torch.is_tensor = load, lambda value: isinstance(value, FakeTensor)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def archive(path, pickled=b"", name="archive/data.pkl"):
    """A file that looks like torch's."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, pickled)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".SafeTensors"])
def test_safetensors_come_as_they_are(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    save_file(TENSORS, file)
    for path in (file, str(file)):
        found = read(path)
        assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in TENSORS.items()}
        for name, value in TENSORS.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH"])
def test_torch_reads_its_files_without_unpickling_objects(tmp_path, fake_torch, suffix):
    fake_torch.content = {name: FakeTensor(value) for name, value in TENSORS.items()}
    file = archive(tmp_path / f"weights{suffix}")
    found = read(file)
    assert fake_torch.calls == [(file, {"map_location": "cpu", "weights_only": True})]
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], np.float32(value) if name != "count" else 7)
        assert found[name].dtype == (np.float32 if name != "count" else int)


def test_the_older_form_of_torchs_files_is_known(tmp_path, fake_torch):
    file = tmp_path / "weights.pth"
    file.write_bytes(BEFORE_ZIP + b"and so on")
    fake_torch.content = {}
    assert read(file) == {}
    # As torch writes it: protocol 2, `torch.serialization.MAGIC_NUMBER`.
    assert pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) == BEFORE_ZIP


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".npz", ".pkl", ".bin", ""])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_unopened(tmp_path, mark, suffix, protocol):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(pickle.dumps({"fc.weight": Trap(mark)}, protocol))
    with pytest.raises(ValueError, match=f"weights{suffix}: "):
        read(file)


@pytest.mark.parametrize("version", ["none", "2.9.1", "2.5.0a0", "1.13.1"])
def test_without_a_torch_that_is_safe_the_conversion_is_named(
    tmp_path, mark, monkeypatch, fake_torch, version
):
    file = archive(tmp_path / "my weights.pth", pickle.dumps({"fc.weight": Trap(mark)}))
    fake_torch.__version__ = version
    if version == "none":
        monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"needs torch 2\.10 or newer") as refusal:
        read(file)
    assert fake_torch.calls == []
    said = str(refusal.value)
    assert ("not installed" if version == "none" else f"not {version}") in said
    assert said.splitlines()[-1] == conversion(file)


@pytest.mark.parametrize("version", ["2.10.0", "2.14.1+cu130", "3.0.0", "2.11.0a0+git1234"])
def test_later_torches_are_taken(tmp_path, fake_torch, version):
    fake_torch.__version__, fake_torch.content = version, {}
    assert read(archive(tmp_path / "weights.pth")) == {}


def test_the_conversion_is_a_command(tmp_path):
    file = tmp_path / "it's mine.pth"
    python, option, program, source, target = shlex.split(conversion(file))
    assert (python, option) == ("python", "-c")
    assert (source, target) == (str(file), str(tmp_path / "it's mine.safetensors"))
    compile(program, "conversion", "exec")
    assert "weights_only=True" in program


@pytest.mark.parametrize(
    "around",
    [
        lambda sd: sd,
        lambda sd: {"state_dict": sd, "epoch": 3},
        lambda sd: {"model_state_dict": sd},
        lambda sd: {"state_dict": {"model": sd}, "optimizer": {}},
    ],
)
def test_the_conversion_finds_the_weights_in_a_checkpoint(monkeypatch, around):
    """The printed program, run with stand-ins for what this project does not need."""

    class Tensor:
        def detach(self):
            return self

        clone = contiguous = detach

    tensors, kept = {"conv1.weight": Tensor(), "fc.bias": Tensor()}, {}
    content = around({**tensors, "steps": 7})

    def load(path, **how):
        assert (path, how) == ("w.pth", {"map_location": "cpu", "weights_only": True})
        return content

    torch = types.SimpleNamespace(load=load, is_tensor=lambda value: isinstance(value, Tensor))
    save = types.SimpleNamespace(save_file=lambda tensors, path: kept.update({path: tensors}))
    for name, module in (
        ("torch", torch),
        ("safetensors", types.SimpleNamespace(torch=save)),
        ("safetensors.torch", save),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    _, _, program, *files = shlex.split(conversion(pathlib.Path("w.pth")))
    monkeypatch.setattr(sys, "argv", ["-c", *files])
    exec(compile(program, "conversion", "exec"), {})
    assert kept == {"w.safetensors": tensors}


def test_what_torch_refuses_is_named(tmp_path, fake_torch):
    fake_torch.content = pickle.UnpicklingError("Weights only load failed. Do trust it.\nTrust it")
    with pytest.raises(ValueError, match=r"w\.pth: torch reads no weights .*Weights only") as error:
        read(archive(tmp_path / "w.pth"))
    assert "trust" not in str(error.value).lower()


def weights(*names):
    return {name: FakeTensor(1.0) for name in names}


@pytest.mark.parametrize(
    "around",
    [
        lambda sd: {"state_dict": sd, "epoch": 3, "optimizer": {"state": {0: weights("step")}}},
        lambda sd: {"model": sd, "model_ema": weights("other"), "args": None},
        lambda sd: {"model_state_dict": sd, "loss": FakeTensor(0.5)},
        lambda sd: {"state_dict": {"model": sd, "step": 1}, "hyper_parameters": {}},
        lambda sd: {"backbone": sd, "epoch": 1},
    ],
)
def test_weights_are_found_in_a_checkpoint(tmp_path, fake_torch, around):
    fake_torch.content = around(weights("conv1.weight", "fc.bias"))
    assert {*read(archive(tmp_path / "w.pth"))} == {"conv1.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, expected a state_dict"),
        (
            {"a": FakeTensor(1.0), "model": {"b": 1}, "epoch": 3},
            "holds tensors alone; found 'model': dict, 'epoch': int",
        ),
        ({f"n{i}": i for i in range(900)}, r"found 'n0': int, .*'n4': int and 895 more$"),
        (
            {"student": weights("w"), "teacher": weights("w"), "epoch": 3},
            "weights of several networks: 'student', 'teacher'; keep those of one",
        ),
        ({"state_dict": weights("w"), "model": weights("w")}, "networks: 'state_dict', 'model'"),
        ({"state_dict": {}}, "found 'state_dict': dict"),
    ],
)
def test_a_checkpoint_is_no_state_dict(tmp_path, fake_torch, content, message):
    fake_torch.content = content
    with pytest.raises(ValueError, match=message):
        read(archive(tmp_path / "w.pth"))


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"<!DOCTYPE html><html>404</html>" * 40, b"\x00" * 64]
)
def test_files_of_another_kind_are_refused(tmp_path, suffix, content):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights{suffix}: is no (whole file|safetensors file)"):
        read(file)


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_refused(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        archive(file, b"x" * 500)
    else:
        save_file(TENSORS, file)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=f"weights{suffix}: is no "):
        read(file)


@pytest.mark.usefixtures("no_torch")
def test_an_archive_of_other_things_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"w\.pth: is no whole file of torch's; it begins b'PK"):
        read(archive(tmp_path / "w.pth", name="word/document.xml"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_not_there(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match=f"weights{suffix}: there is no such file"):
        read(tmp_path / f"weights{suffix}")
    folder = pathlib.Path(tmp_path / f"folder{suffix}")
    folder.mkdir()
    with pytest.raises(ValueError, match=f"folder{suffix}: is no file"):
        read(folder)


def test_another_ending_is_answered_with_those_that_are_read(tmp_path):
    with pytest.raises(ValueError, match=r"ends in one of \.safetensors, \.pth, \.pt"):
        read(tmp_path / "weights.h5")
