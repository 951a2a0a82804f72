"""Names of tensors without what a training script put around the network."""

import pytest

from models.pretrained.wrapping import common_prefix, unwrapped

WANTED = ["conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer1.0.bn1.bias", "fc.weight"]


def named(names):
    """Tensors of these names, each its own number."""
    return {name: number for number, name in enumerate(names)}


def test_names_without_a_wrapper_stay():
    found = named([*WANTED, "extra.weight"])
    assert unwrapped(found, WANTED) == found
    other = named(["features.0.weight", "classifier.weight"])  # of another network
    assert unwrapped(other, WANTED) == other
    assert unwrapped({}, WANTED) == {}


@pytest.mark.parametrize(
    "wrapper",
    [
        *("module.", "model.", "backbone.", "encoder.", "_orig_mod.", "module.module."),
        *("model._orig_mod.", "learner.online.encoder.", "module.net.", "0."),
    ],
)
def test_a_wrapper_is_taken_off(wrapper):
    assert unwrapped(named(wrapper + name for name in WANTED), WANTED) == named(WANTED)


def test_data_parallel_around_a_part():
    wanted = ["features.0.weight", "features.3.weight", "classifier.1.weight"]
    found = ["features.module.0.weight", "features.module.3.weight", "classifier.1.weight"]
    assert unwrapped(named(found), wanted) == named(wanted)


def test_a_head_beside_the_wrapper_is_the_networks():
    found = [f"backbone.{name}" for name in WANTED[:-1]] + ["fc.weight"]
    assert unwrapped(named(found), WANTED) == named(WANTED)


def test_what_stands_outside_is_passed_over():
    found = named([f"module.{name}" for name in WANTED] + ["n_averaged", "queue"])
    assert unwrapped(found, WANTED) == named(WANTED)
    inside = named([f"module.{name}" for name in [*WANTED, "queue"]])
    assert unwrapped(inside, WANTED) == named([*WANTED, "queue"])


def test_two_networks_are_ambiguous():
    for first, second in (("student.", "teacher."), ("encoder_q.", "module.encoder_k.")):
        found = named([first + name for name in WANTED] + [second + name for name in WANTED[:-1]])
        with pytest.raises(ValueError, match=r"2 networks, under .*: keep the tensors of one"):
            unwrapped(found, WANTED)
    # The one without a wrapper is the one that was always taken.
    found = named(WANTED + [f"ema.{name}" for name in WANTED])
    assert common_prefix(found, WANTED) == ""


@pytest.mark.parametrize(
    "twice", [("module.fc.weight", "fc.weight"), ("model.fc.weight", "model.module.fc.weight")]
)
def test_one_tensor_twice_is_refused(twice):
    found = named([f"model.{name}" for name in WANTED[:-1]] + list(twice))
    with pytest.raises(ValueError, match=r"holds (model\.)?fc\.weight twice"):
        unwrapped(found, WANTED)


def test_blocks_of_a_network_are_no_networks():
    found = [f"layer{i}.{j}.{name}" for i in (1, 2) for j in (0, 1) for name in WANTED[:2]]
    assert common_prefix(found, [*WANTED, *(f"layer{i}.weight" for i in range(9))]) == ""
