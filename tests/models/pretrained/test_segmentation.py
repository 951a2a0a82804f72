"""torchvision's networks for segmentation: what its weights yield, before and after resizing."""

import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import models
from models.layers.norm import BatchNorm
from models.pretrained.torchvision import from_torchvision, tensors
from models.segmentation.deeplab import DeepLabV3Head
from models.segmentation.fcn import FCNHead

NAMES = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")
HEADS = {"fcn_resnet50": FCNHead, "deeplabv3_resnet50": DeepLabV3Head}


def state_dict(golden, inputs, name):
    return inputs.weights(json.loads(str(golden(name)["shapes"])))


@pytest.mark.parametrize("name", HEADS)
def test_logits_and_statistics_are_torchvisions(golden, inputs, name):
    """On 65x50 pixels, maps of 9x7: in evaluation, and with the auxiliary head in training."""
    expected = golden(name)
    variables = from_torchvision(name, state_dict(golden, inputs, name))
    x = inputs.images(json.loads(str(expected["x"]))).transpose(0, 2, 3, 1)
    network = models.create(
        name,
        num_classes=10,
        norm=partial(BatchNorm, unbiased=True),
        head=partial(HEADS[name], dropout=0.0),
        aux_head=partial(FCNHead, dropout=0.0),
    )

    def run(variables, x, *, train):
        return network.apply(
            variables,
            x,
            train=train,
            mutable=["batch_stats"] if train else [],
            capture_intermediates=lambda module, _: module.name in ("head", "aux"),
        )

    def both(variables, x):
        return run(variables, x, train=False), run(variables, x, train=True)

    (logits, evaluated), (output, trained) = jax.jit(both)(variables, jnp.asarray(x))
    heads = [kept["intermediates"] for kept in (evaluated, trained)]
    found = {
        "eval/logits": logits,
        "eval/classifier": heads[0]["head"]["__call__"][0],
        "train/logits": output.logits,
        "train/classifier": heads[1]["head"]["__call__"][0],
        "train/aux_logits1": output.aux[0],
        "train/aux_classifier": heads[1]["aux"]["__call__"][0],
    }
    assert len(output.aux) == 1
    assert "aux" not in heads[0]
    for key, value in found.items():
        assert value.shape == (3, *((65, 50) if "logits" in key else (9, 7)), 10), key
        values = inputs.sampled(key.partition("/")[2], np.asarray(value).transpose(0, 3, 1, 2))
        wanted = expected[key]
        assert np.ptp(wanted) > 0.2 * expected[f"{key}/scale"]
        error = np.abs(np.float64(values) - wanted).max() / expected[f"{key}/scale"]
        # In training ASPP's pooled branch is normalised over three values a channel.
        assert error < (1e-4 if key.startswith("eval") else 5e-4), key

    theirs = {path: tensor.name for path, tensor in tensors(name, 10).items()}
    moved = {theirs["batch_stats", *p]: v for p, v in flatten_dict(trained["batch_stats"]).items()}
    kept = [key for key in expected if re.fullmatch(r"train/.*running_(mean|var)", key)]
    assert len(kept) == 2 * (8 if "deeplab" in name else 2)
    for key in kept:
        module = key.partition("/")[2]
        values = inputs.sampled(module, np.asarray(moved[module]), 8)
        error = np.abs(np.float64(values) - expected[key]).max() / np.abs(expected[key]).max()
        assert error < 1e-4, key


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_its_place_with_and_without_the_auxiliary_head(golden, name):
    shapes = json.loads(str(golden("names")[name])).items()
    expected = {key: tuple(shape) for key, shape in shapes if not key.endswith("batches_tracked")}
    without = {key: shape for key, shape in expected.items() if not key.startswith("aux_")}
    assert len(expected) == len(without) + 7
    for auxiliary, wanted in ((True, expected), (False, without)):
        made = tensors(name, 21, auxiliary=auxiliary)
        assert {tensor.name: tensor.shape for tensor in made.values()} == wanted
        assert len(made) == len(wanted)


@pytest.mark.parametrize("heads", [True, False])
def test_variables_are_those_of_the_network(golden, inputs, heads):
    state = state_dict(golden, inputs, "fcn_resnet50")
    state = {key: value for key, value in state.items() if heads or not key.startswith("aux_")}
    variables = from_torchvision("fcn_resnet50", state)
    network = models.create("fcn_resnet50", num_classes=10, aux=heads)
    x = jax.ShapeDtypeStruct((1, 33, 40, 3), jnp.float32)
    made = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    describe = partial(jax.tree.map, lambda leaf: (leaf.shape, str(leaf.dtype)))
    assert describe(made) == describe(variables)
    assert ("aux" in variables["params"]) == heads
    kernel = variables["params"]["head"]["logits"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0], state["classifier.4.weight"][:, :, 0, 0].T)


@pytest.mark.parametrize("shape", [None, (10,), (0, 512, 1, 1), (10, 512), (10, 512, 3, 3)])
def test_a_head_that_is_none_is_named(golden, inputs, shape):
    state = state_dict(golden, inputs, "fcn_resnet50")
    del state["classifier.4.weight"]
    if shape is not None:
        state["classifier.4.weight"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=r"classifier\.4\.weight is (missing|misshapen)"):
        from_torchvision("fcn_resnet50", state)
