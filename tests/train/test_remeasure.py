"""Weights measured on other data: which recipe reads them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import segment
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
