"""Which process this one is, and what several say to each other."""

import dataclasses

import pytest

from train import processes
from train.refusal import Failed, Refused


@dataclasses.dataclass
class Config:
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None


HERE = "127.0.0.1:1234"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv(processes.MANY, raising=False)
    monkeypatch.delenv(processes.TPU_HOSTS, raising=False)


def test_one_process_is_the_first_and_alone():
    assert processes.asked(Config()) is None
    assert processes.first()
    assert not processes.several()
    assert processes.gathered("anything", 3) == [3]
    assert processes.same("anything", lambda: [1, "a"]) == [1, "a"]


def test_what_jax_is_given():
    assert processes.asked(Config("host:99", 4, 3)) == {
        "coordinator_address": "host:99",
        "num_processes": 4,
        "process_id": 3,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_one_machine_no_other_network_is_listened_on(host):
    found = processes.asked(Config(f"{host}:7", 2, 0))
    assert found["coordinator_bind_address"] == f"{host}:7"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(HERE), "processes=None: .* given together"),
        (Config(HERE, 2), "process_id=None"),
        (Config(None, 2, 0), "coordinator=None"),
        (Config("127.0.0.1", 2, 0), "coordinator='127.0.0.1' is no host:port"),
        (Config(":80", 2, 0), "coordinator=':80' is no host:port"),
        (Config("host:http", 2, 0), "coordinator='host:http' is no host:port"),
        (Config(HERE, 2, 2), "process_id=2 is none of processes=2"),
        (Config(HERE, 2, -1), "process_id=-1 is none"),
        (Config(HERE, 0, 0), "processes=0 must be above 0"),
    ],
)
def test_what_can_not_be_is_refused(config, words):
    with pytest.raises(Refused, match=words):
        processes.asked(config)


def test_a_cluster_is_asked_where_it_has_started_several(monkeypatch):
    monkeypatch.setenv(processes.MANY, "1")
    assert processes.asked(Config()) is None
    monkeypatch.setenv(processes.MANY, "8")
    assert processes.asked(Config()) == {}
    monkeypatch.delenv(processes.MANY)
    monkeypatch.setenv(processes.TPU_HOSTS, "one")
    assert processes.asked(Config()) is None
    monkeypatch.setenv(processes.TPU_HOSTS, "one,two")
    assert processes.asked(Config()) == {}
    # What is asked for counts more.
    assert processes.asked(Config(HERE, 1, 0)) is None
    assert processes.asked(Config("auto")) == {}


def test_an_error_of_ours_is_said_as_it_is_and_another_with_its_kind():
    assert processes.said(Refused("steps=0 is wrong")) == "steps=0 is wrong"
    assert processes.said(Failed("disk\n full")) == "disk full"
    assert processes.said(KeyError("x")) == "KeyError: 'x'"
