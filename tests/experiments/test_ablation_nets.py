"""Classifiers whose parts are fields: what reaches the network, what is refused, a run again."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import ablation_nets
from models.layers.norm import BatchNorm, NoNorm
from train import cli, encoding
from train.data.source import About
from train.data.subset import labels
from train.experiment import refuse_idle
from train.help import read
from train.opened import opened
from train.refusal import Refused

ABOUT = About(
    "drawn",
    "train",
    tuple("0123456789"),
    mirror=True,
    shape=(28, 28, 1),
    mean=(73.0,),
    std=(90.0,),
)
PLAIN = ("--data", "digits", "--model", "resnet32", "--shortcut", "none", "--norm", "none")
DILATED = (
    *("--data", "digits", "--stages", "2,2,2", "--channels", "4", "4", "4"),
    *("--kernel-size", "5", "--dilations", "1,2", "--downsample", "subsample"),
)


def configured(*arguments):
    return cli.configure(ablation_nets, arguments)


def test_fields_are_the_networks():
    network = ablation_nets.build(configured(*PLAIN), ABOUT).network.backbone
    assert (network.shortcut, network.norm, network.stages) == ("none", NoNorm, (5, 5, 5))
    network = ablation_nets.build(configured(*DILATED), ABOUT).network.backbone
    assert (network.stages, network.channels) == ((2, 2, 2), (4, 4, 4))
    assert (network.kernel_size, network.dilations) == (5, (1, 2))
    assert (network.downsample, network.norm) == ("subsample", BatchNorm)


@pytest.mark.parametrize("model", ["resnet20", "plain_cnn", "lenet5"])
def test_left_alone_the_network_is_the_variants_own(model):
    config = configured("--data", "digits", "--model", model)
    assert config.of_network == {}
    other = ablation_nets.models.create(model, num_classes=10, dtype="float32")
    assert ablation_nets.build(config, ABOUT).network == other


@pytest.mark.parametrize("words", [PLAIN, DILATED])
def test_a_configuration_is_read_back_from_json(words):
    config = configured(*words)
    text = json.dumps(encoding.plain(config))
    again = encoding.decoded(ablation_nets.Config, json.loads(text))
    assert again == config
    built = [ablation_nets.build(one, ABOUT).network for one in (config, again)]
    assert built[0] == built[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model resnet20 --kernel-size 5", "kernel_size=5: resnet20 has no such option"),
        ("--model plain_cnn --shortcut none", "shortcut='none': plain_cnn has no such option"),
        ("--model mlp --stages 1,1", r"stages=\(1, 1\): mlp has no such option"),
        ("--kernel-size 4", "model='plain_cnn': kernel_size=4 must be odd"),
        ("--kernel-size -3", "kernel_size=-3 must not be below 0"),
        ("--dilations 1,0", r"model='plain_cnn': dilations=\(1, 0\)"),
        ("--stages 1,1", r"model='plain_cnn': stages=\(1, 1\) and channels=\(32, 48, 64\)"),
        ("--examples -1", "examples=-1 must not be below 0"),
    ],
)
def test_what_the_network_cannot_be_is_refused_before_data_are_read(words, message):
    with pytest.raises(Refused, match=message):
        configured("--data", "nonesuch", *words.split())


def test_help_says_something_of_every_option():
    options = {option.name: option for option in read(ablation_nets.Config, ablation_nets.recipe())}
    assert all(option.text for option in options.values())
    assert {*ablation_nets.Config.OF_NETWORK} <= options.keys()


@pytest.mark.parametrize("model", ["lenet5", "mlp", "vgg11"])
def test_without_a_norm_there_is_none_to_leave_out(model):
    config = configured("--data", "digits", "--model", model, "--norm", "none")
    with pytest.raises(Refused, match=f"norm='none' has no effect: {model} has no BatchNorm"):
        refuse_idle(ablation_nets, config, ABOUT)


def test_norm_may_be_left_out_where_there_is_one():
    refuse_idle(ablation_nets, configured(*PLAIN), ABOUT)


def test_a_part_of_the_examples_is_the_same_for_every_seed():
    config = configured("--data", "digits", "--examples", "200")
    part, _, test = ablation_nets.splits(config)
    assert (len(part), part.about.split) == (200, "train")
    other = ablation_nets.splits(dataclasses.replace(config, seed=7)).train
    assert other.fingerprint == part.fingerprint
    whole = ablation_nets.splits(dataclasses.replace(config, examples=0))
    assert (len(whole.train), len(whole.test)) == (1262, len(test))
    shares = np.bincount(labels(whole.train), minlength=10) * 200 / len(whole.train)
    assert np.abs(np.bincount(labels(part), minlength=10) - shares).max() < 1
    more = ablation_nets.splits(dataclasses.replace(config, examples=10**6))
    assert len(more.train) == len(whole.train)


def test_a_run_is_opened_with_its_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = {"norm": "none", "examples": 64, "batch_size": 8, "steps": 2, "warmup_steps": 1}
    config = dataclasses.replace(
        configured(*DILATED), **fields, workdir=tmp_path / "run", devices=1, backend="xla"
    )
    summary = ablation_nets.main(config)
    assert 0 <= summary.scalars["accuracy"] <= 1
    run = opened(tmp_path / "run")
    network = run.parts.network.backbone
    assert (network.kernel_size, network.downsample, network.norm) == (5, "subsample", NoNorm)
    assert run.module is ablation_nets
    assert {*run.variables} == {"params"}
    shapes = jax.tree.map(jax.numpy.shape, run.variables["params"]["backbone"]["stage2_conv2"])
    assert shapes == {"kernel": (5, 5, 4, 4)}
    assert run.predict([np.zeros((8, 8), np.uint8)])[0].shape == (10,)
