"""The work directory: written whole, read back, and refused where it is another run's."""

import dataclasses
import json
import pathlib

import pytest

from train import workdir
from train.experiment import RUNTIME, Runtime
from train.refusal import Refused


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Runtime):
    data: str = "digits"
    steps: int = 10
    sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nested(Config):
    shapes: tuple[tuple[int, int], ...] = ()
    weights: pathlib.Path | None = None


def test_a_config_is_read_back_as_it_was(tmp_path):
    config = Config(steps=7, workdir=tmp_path, log_every=3)
    workdir.write_config(tmp_path, "experiments.toy", config)
    assert workdir.read_config(tmp_path, "experiments.toy", Config) == config
    assert json.loads((tmp_path / "config.json").read_text())["experiment"] == "experiments.toy"


def test_there_is_no_config_in_an_empty_directory(tmp_path):
    assert workdir.read_config(tmp_path / "none", "experiments.toy", Config) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json can't be read"),
        ("[]", "config.json can't be read"),
        (
            '{"experiment": "experiments.toy", "data": "digits", "steps": 1, "sizes": [], '
            '"workdir": null, "devices": "many", "loader": "resident", "backend": "auto", '
            '"workers": 0, "log_every": 1, "save_every": 1}',
            "holds a wrong value",
        ),
        ('{"steps": 1}', "config.json can't be read"),
        ('{"experiment": "experiments.other"}', "belongs to experiments.other"),
        ('{"experiment": "experiments.toy", "width": 3}', "unknown fields: width"),
    ],
)
def test_what_is_no_config_of_ours_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refused, match=message):
        workdir.read_config(tmp_path, "experiments.toy", Config)


def test_a_nested_tuple_and_a_path_are_read_back(tmp_path):
    config = Nested(shapes=((1, 2), (3, 4)), weights=pathlib.Path("a/b"), workdir=tmp_path)
    workdir.write_config(tmp_path, "experiments.toy", config)
    again = workdir.read_config(tmp_path, "experiments.toy", Nested)
    assert again == config
    workdir.refuse_changes(tmp_path, again, config, RUNTIME)


def test_a_field_that_was_added_since_is_as_it_was(tmp_path):
    workdir.write_config(tmp_path, "experiments.toy", Config(steps=7, workdir=tmp_path))
    again = workdir.read_config(tmp_path, "experiments.toy", Nested)
    assert again == Nested(steps=7, workdir=tmp_path)


def test_a_run_may_change_its_runtime_fields_alone(tmp_path):
    earlier = Config()
    workdir.refuse_changes(
        tmp_path, earlier, Config(log_every=1, loader="streaming", workers=2, devices=1), RUNTIME
    )
    with pytest.raises(Refused, match=r"steps: 10 there, 11 asked; sizes: \(1, 2\) there"):
        workdir.refuse_changes(tmp_path, earlier, Config(steps=11, sizes=(3,)), RUNTIME)


def test_a_run_goes_on_with_its_data_alone(tmp_path):
    for started in (1, 2, 3):
        record = workdir.joined(tmp_path, {"data": {"train": "a"}, "started": started})
        workdir.write(tmp_path / workdir.PROVENANCE, record)
    assert record["started"] == 1
    assert [one["started"] for one in record["resumed"]] == [2, 3]
    with pytest.raises(Refused, match="began with other data"):
        workdir.joined(tmp_path, {"data": {"train": "b"}})


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"workdir='.*/file/run' can't be written: Not a directory"):
        workdir.make(tmp_path / "file" / "run")


def test_a_directory_is_made_and_left_clean(tmp_path):
    workdir.make(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["a[b]", "a*", "a?", "a\\b", "a\udc80"])
def test_where_no_checkpoint_could_be_read_nothing_is_made(tmp_path, monkeypatch, name):
    """Orbax takes the path for a pattern, merges none of what it wrote, and says nothing."""
    message = "checkpoints can't be kept below a directory with '.*' in its name"
    with pytest.raises(Refused, match=message):
        workdir.make(tmp_path / name / "run")
    assert not [*tmp_path.iterdir()]
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(Refused, match=message):
        workdir.claim("experiments.toy", "digits")
    assert not [*(tmp_path / name).iterdir()]


def test_default_names_say_the_data_and_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = workdir.claim("experiments.toy", "digits")
    assert first.parent == pathlib.Path("runs/toy")
    assert first.name.endswith("-digits")
    assert first.is_dir()
    assert len({first, *(workdir.claim("experiments.toy", "digits") for _ in range(3))}) == 4
    assert workdir.claim("experiments.toy", "emnist/letters:3.1.0").parent == first.parent


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (f"folder:/data/{'very-long/' * 25}pets", "-very-long-pets"),
        ("folder:/" + "Кошки и собаки " * 20, ""),
        ("folder:" + "/" * 250, "-folder"),
        ("folder:" + "猫" * 80, "-folder"),
        ("..", "-data"),
    ],
)
def test_a_long_or_odd_path_makes_no_long_name(tmp_path, monkeypatch, data, end):
    monkeypatch.chdir(tmp_path)
    path = workdir.claim("experiments.toy", data)
    assert path.is_dir()
    assert len(path.name) <= 80
    assert path.name.endswith(end)


def test_json_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a.json"
    workdir.write(path, {"a": 1, "p": pathlib.PurePath("x")})
    with pytest.raises(ValueError, match="JSON compliant"):
        workdir.write(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1, "p": "x"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("devices", 0), ("log_every", 0), ("save_every", -1), ("workers", -1)],
)
def test_runtime_fields_are_checked(field, value):
    with pytest.raises(Refused, match=f"{field}={value}"):
        Config(**{field: value})


def test_a_fingerprint_of_an_earlier_form_is_known_until_the_run_has_gone_on(tmp_path):
    old, new, other = ({"train": print_, "test": "t"} for print_ in ("old", "2:new", "2:other"))
    asked = []

    def earlier():
        asked.append(1)
        return old

    workdir.write(tmp_path / workdir.PROVENANCE, {"data": old})
    with pytest.raises(Refused, match="began with other data: the files of train, or"):
        workdir.refuse_other_data(tmp_path, new)
    record = workdir.joined(tmp_path, {"data": new}, earlier=earlier)
    workdir.write(tmp_path / workdir.PROVENANCE, record)
    assert (record["data"], len(asked)) == (old, 1)
    # Rewritten with equal sizes: the earlier form does not see it.
    with pytest.raises(Refused, match="began with other data: the files of train, or"):
        workdir.refuse_other_data(tmp_path, other, earlier)
    workdir.refuse_other_data(tmp_path, new, earlier)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("began", "now", "differ"),
    [
        ({"train": "a", "test": "b"}, {"train": "a"}, "test"),
        ({"train": "a"}, {"train": "a", "validation": "c"}, "validation"),
        ({"train": "a", "test": "b"}, {"train": "b", "test": "a"}, "train, test"),
        (["a"], {"train": "a"}, "train"),
    ],
)
def test_splits_that_differ_are_named(tmp_path, began, now, differ):
    workdir.write(tmp_path / workdir.PROVENANCE, {"data": began})
    with pytest.raises(Refused, match=f"the files of {differ}, or") as refused:
        workdir.refuse_other_data(tmp_path, now, lambda: now)
    assert "\n" not in str(refused.value)
    workdir.refuse_other_data(tmp_path / "none", now)
