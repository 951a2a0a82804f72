"""Weights measured on other data: which recipe reads them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import detect, segment
from train.refusal import Refused
from train.remeasure import remeasured


class Read(Exception):
    """What was asked for."""


def splits(config):
    raise Read(config)


@pytest.mark.parametrize(("data", "classes"), [("", "ground,road"), ("folder:other", "")])
def test_another_set_has_the_classes_that_it_lists_itself(data, classes):
    config = segment.Config(data="folder:own", classes="ground,road", workdir=Path("run"))
    run = SimpleNamespace(config=config, parts=None, module=SimpleNamespace(splits=splits))
    with pytest.raises(Read) as read:
        remeasured(run, data)
    (asked,) = read.value.args
    assert asked.classes == classes
    assert asked.workdir == config.workdir  # where the run's own names are found


@pytest.mark.parametrize("data", ["", "coco:other"])
def test_names_that_lead_out_of_a_set_are_taken_where_that_is_asked(data):
    config = detect.Config(data="coco:own", workdir=Path("run"))
    run = SimpleNamespace(config=config, parts=None, module=SimpleNamespace(splits=splits))
    for outside in (False, True):
        with pytest.raises(Read) as read:
            remeasured(run, data, outside=outside)
        assert read.value.args[0].outside is outside
    with pytest.raises(Refused, match="outside=True: data='folder:other' names no files"):
        remeasured(run, "folder:other", outside=True)
