"""Networks with torchvision's weights compute what torchvision computes."""

import functools
import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

import models
from models.classification.auxiliary import parts
from models.layers.norm import BatchNorm
from models.pretrained.naming import FAMILIES, names
from models.pretrained.torchvision import from_torchvision, load, tensors

FROM_TORCH = {"norm": partial(BatchNorm, unbiased=True)}


def state_dict(golden, inputs, name):
    return inputs.weights(json.loads(str(golden(name)["shapes"])))


def compute(name, variables, x, *, train):
    """Logits and auxiliary logits, the backbone's maps, and the variables that changed."""
    network = models.create(name, num_classes=10, **FROM_TORCH)
    if name == "googlenet":
        heads = tuple(partial(head, dropout=0.0) for head in network.heads)
        network = network.clone(heads=heads, dropout=0.0)

    @jax.jit
    def run(variables, x):
        return network.apply(
            variables,
            x,
            train=train,
            mutable=["batch_stats"] if train else [],
            capture_intermediates=lambda module, _: module.name == "backbone",
        )

    output, changed = run(variables, x)
    maps = changed["intermediates"]["backbone"]["__call__"][0]
    return parts(output), maps, changed.get("batch_stats", {})


def difference(found, expected, scale):
    return float(np.abs(np.float64(found) - expected).max() / scale)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("resnet18", "eval"),
        ("resnet18", "train"),
        ("resnext50_32x4d", "eval"),
        ("alexnet", "eval"),
        ("vgg11_bn", "eval"),
        ("googlenet", "eval"),
        ("googlenet", "train"),
        ("inception_v3", "eval"),
    ],
)
def test_logits_features_and_statistics_are_torchvisions(golden, inputs, name, mode):
    expected = golden(name)
    variables = from_torchvision(name, state_dict(golden, inputs, name))
    x = inputs.images(json.loads(str(expected["x"]))).transpose(0, 2, 3, 1)
    output, maps, statistics = compute(name, variables, jnp.asarray(x), train=mode == "train")

    found = {"logits": output.logits}
    found |= {f"aux_logits{n}": logits for n, logits in enumerate(output.aux, 1)}
    kept = {key for key in expected if re.fullmatch(rf"{mode}/(aux_)?logits\d?", key)}
    assert {f"{mode}/{key}" for key in found} == kept
    for key, value in found.items():
        wanted = expected[f"{mode}/{key}"]
        # Different images have different logits: there is something to compare.
        assert np.abs(wanted[0] - wanted[1]).max() > 0.05 * np.abs(wanted).max()
        assert difference(value, wanted, np.abs(wanted).max()) < 1e-4, key

    modules = [key.split("/")[1] for key in expected if re.fullmatch(f"{mode}/.*/scale", key)]
    assert len(modules) == len(maps) > 1
    for module, found in zip(modules, maps, strict=True):
        wanted, scale = expected[f"{mode}/{module}"], expected[f"{mode}/{module}/scale"]
        found = inputs.sampled(module, np.asarray(found).transpose(0, 3, 1, 2))
        assert difference(found, wanted, scale) < 1e-4, module

    theirs = {path: tensor.name for path, tensor in tensors(name, 10).items()}
    moved = {theirs["batch_stats", *path]: v for path, v in flatten_dict(statistics).items()}
    kept = {key for key in expected if re.fullmatch(r"train/.*running_(mean|var)", key)}
    assert {f"train/{key}" for key in moved} == (kept if mode == "train" else set())
    for key, found in moved.items():
        wanted = expected[f"train/{key}"]
        found = inputs.sampled(key, np.asarray(found), 8)
        assert difference(found, wanted, np.abs(wanted).max()) < 1e-4, key


# --- every variant: names and shapes -----------------------------------------------------------


def test_all_that_torchvision_and_the_table_share_are_there(golden):
    theirs = {*golden("names"), *golden("detection_names")}
    assert theirs - {"resnext101_64x4d"} == set(names())
    assert theirs & set(models.names()) == set(names())


OF_IMAGES = [name for name, family in FAMILIES.items() if not (family.pixels or family.boxes)]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_tensor_has_its_place(golden, name):
    expected = {
        key: tuple(shape)
        for key, shape in json.loads(str(golden("names")[name])).items()
        if not key.endswith("num_batches_tracked")
    }
    wanted = tensors(name, 1000)
    assert {tensor.name: tensor.shape for tensor in wanted.values()} == expected
    assert len(wanted) == len(expected)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_go_by_the_weights(golden, name):
    with_heads = {tensor.name for tensor in tensors(name, 7).values()}
    without = {tensor.name for tensor in tensors(name, 7, auxiliary=False).values()}
    heads = {key for key in with_heads if key.lower().startswith("aux")}
    assert without == with_heads - heads
    assert heads


# --- what becomes of a state_dict --------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet(golden, inputs):
    """The smallest state_dict of torchvision's form, not to be changed."""
    return state_dict(golden, inputs, "resnet18")


@pytest.fixture(scope="module")
def with_heads(golden, inputs):
    return state_dict(golden, inputs, "googlenet")


def structure(name, variables, **fields):
    network = models.create(name, num_classes=10, **fields)
    init = partial(network.init, train=False)
    made = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
    describe = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, str(leaf.dtype)))
    return describe(made), describe(variables)


def test_the_variables_are_those_of_the_network(resnet):
    made, found = structure("resnet18", from_torchvision("resnet18", resnet))
    assert made == found


@pytest.mark.parametrize("heads", [True, False])
def test_with_and_without_auxiliary_heads(with_heads, heads):
    state = {k: v for k, v in with_heads.items() if heads or not k.startswith("aux")}
    made, found = structure("googlenet", from_torchvision("googlenet", state), aux=heads)
    assert made == found
    assert ("aux1" in found["params"]) == heads


def test_the_input_transform_belongs_to_the_variables(with_heads):
    x = jnp.asarray([[[[1.0, -2.0, 0.5]]]])
    pixels = np.array([0.485, 0.456, 0.406]) + np.array([0.229, 0.224, 0.225]) * np.asarray(x)
    for transform, expected in ((True, (pixels - 0.5) / 0.5), (False, x)):
        variables = from_torchvision("googlenet", with_heads, transform_input=transform)
        constants = variables["input_transform"]["backbone"]["input"]
        found = x * constants["scale"].reshape(1, 1, 1, 3) + constants["shift"].reshape(1, 1, 1, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(resnet, dtype):
    state = {key: value.astype(dtype) for key, value in resnet.items()}
    variables = from_torchvision("resnet18", state)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {"float32"}
    expected = state["fc.weight"].astype(np.float32).T
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], expected)


def test_arrays_are_copied(resnet):
    state = {key: value.copy() for key, value in resnet.items()}
    variables = from_torchvision("resnet18", state)
    before = jax.tree.map(np.array, variables)
    for key, value in state.items():
        np.testing.assert_array_equal(value, resnet[key])
        value[...] = 0
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_statistics_without_a_count_of_batches(resnet):
    state = {k: v for k, v in resnet.items() if not k.endswith("num_batches_tracked")}
    assert len(state) == len(resnet) - 20
    made, found = structure("resnet18", from_torchvision("resnet18", state))
    assert made == found


def test_a_file_is_read(tmp_path, resnet):
    file = tmp_path / "weights.safetensors"
    save_file(resnet, file)
    expected = from_torchvision("resnet18", resnet)
    jax.tree.map(np.testing.assert_array_equal, load("resnet18", file), expected)
    with pytest.raises(ValueError, match=r"weights\.safetensors: \d+ tensor\(s\) do not fit resn"):
        load("resnet34", file)


@pytest.mark.parametrize("wrapper", ["module.", "model.", "_orig_mod.module.", "net.backbone."])
def test_wrapped_names_are_understood(resnet, wrapper):
    wrapped = {wrapper + key: value for key, value in resnet.items()} | {"n_averaged": np.array(3)}
    found, expected = from_torchvision("resnet18", wrapped), from_torchvision("resnet18", resnet)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def headless(state):
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def other_heads(state):
    return headless(state) | {"fc.0.weight": np.zeros((9, 512)), "projector.2.bias": np.zeros(9)}


@pytest.mark.parametrize("change", [headless, other_heads])
@pytest.mark.parametrize("wrapper", ["", "module.", "encoder."])
def test_a_head_may_be_absent_where_that_is_allowed(resnet, change, wrapper):
    state = {wrapper + key: value for key, value in change(resnet).items()}
    with pytest.raises(ValueError, match=r"fc\.weight is missing"):
        from_torchvision("resnet18", state)
    found = from_torchvision("resnet18", state, whole=False)
    expected = from_torchvision("resnet18", resnet)
    assert {*found["params"]} == {"backbone"}
    del expected["params"]["head"]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_without_a_head_the_backbone_is_still_the_same(resnet):
    deeper = headless(resnet) | {"layer4.2.conv1.weight": np.zeros((512, 512, 3, 3), np.float32)}
    with pytest.raises(ValueError, match=r"(?s)1 tensor.*layer4\.2\.conv1\.weight is unexpected"):
        from_torchvision("resnet18", deeper, whole=False)
    less = headless(resnet)
    del less["layer4.1.bn2.bias"]
    with pytest.raises(ValueError, match=r"(?s)1 tensor.*layer4\.1\.bn2\.bias is missing"):
        from_torchvision("resnet18", less, whole=False)
    half = {key: value for key, value in resnet.items() if key != "fc.bias"}
    with pytest.raises(ValueError, match=r"(?s)1 tensor.*fc\.bias is missing"):
        from_torchvision("resnet18", half, whole=False)
    both = resnet | {"projector.bias": np.zeros(9)}  # of weights with a head nothing is left over
    with pytest.raises(ValueError, match=r"(?s)1 tensor.*projector\.bias is unexpected"):
        from_torchvision("resnet18", both, whole=False)


# --- what is refused ---------------------------------------------------------------------------


def test_all_faults_are_listed_in_one_error(resnet):
    state = dict(resnet)
    del state["layer1.0.conv1.weight"], state["bn1.running_var"]
    state["conv1.weight"] = resnet["conv1.weight"].transpose(2, 3, 1, 0)
    state["fc.bias"] = np.zeros(11, np.float32)
    state["layer5.0.conv1.weight"] = np.zeros((2, 3), np.float32)
    state["bn1.bias"] = np.zeros(64, np.int64)
    state["bogus.num_batches_tracked"] = np.zeros(3)  # of no statistics
    with pytest.raises(ValueError, match="7 tensor") as refusal:
        from_torchvision("resnet18", state)
    assert str(refusal.value).splitlines() == [
        "7 tensor(s) do not fit resnet18: 2 missing, 2 misshapen, 1 no floats, 2 unexpected",
        "  bn1.running_var is missing: expected (64,)",
        "  layer1.0.conv1.weight is missing: expected (64, 64, 3, 3)",
        "  conv1.weight is misshapen: expected (64, 3, 7, 7), found (7, 7, 3, 64)",
        "  bn1.bias is of dtype int64: expected floats",
        "  fc.bias is misshapen: expected (10,), found (11,)",
        "  layer5.0.conv1.weight is unexpected: found (2, 3)",
        "  bogus.num_batches_tracked is unexpected: found (3,)",
    ]


@pytest.mark.parametrize("shape", [None, (10,), (0, 512), (10, 512, 1, 1)])
def test_a_head_that_is_none_is_named(resnet, shape):
    state = {key: value for key, value in resnet.items() if key != "fc.weight"}
    if shape is not None:
        state["fc.weight"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=r"fc\.weight is (missing|misshapen)"):
        from_torchvision("resnet18", state)


def test_one_auxiliary_head_of_two(with_heads):
    state = {key: value for key, value in with_heads.items() if not key.startswith("aux2")}
    with pytest.raises(ValueError, match="9 tensor") as refusal:
        from_torchvision("googlenet", state)
    assert str(refusal.value).startswith("9 tensor(s) do not fit googlenet: 9 missing\n  aux2.")


@pytest.mark.parametrize(
    ("name", "weights"), [("vgg16", "resnet50"), ("resnet18", "vgg11"), ("alexnet", "googlenet")]
)
def test_however_different_a_network_is_the_error_fits_on_a_screen(name, weights):
    state = {
        tensor.name: np.broadcast_to(np.float32(0), tensor.shape)
        for tensor in tensors(weights, 10).values()
    }
    with pytest.raises(ValueError, match=rf"do not fit {name}: \d+ missing, \d+ unexp") as refusal:
        from_torchvision(name, state)
    lines = str(refusal.value).splitlines()
    assert 4 <= len(lines) <= 10
    assert max(map(len, lines)) < 120


def test_of_an_empty_state_dict_everything_is_missing():
    with pytest.raises(ValueError, match=r"102 tensor\(s\) do not fit resnet18"):
        from_torchvision("resnet18", {})


@pytest.mark.parametrize("name", ["resnet20", "googlenet_2014", "alexnet_2012", "resnet9000"])
def test_networks_that_torchvision_lacks_are_refused(tmp_path, name):
    for call in (partial(from_torchvision, name, {}), partial(load, name, tmp_path / "no.pth")):
        with pytest.raises(ValueError, match=f"name='{name}' is none of torchvision's: resnet18, "):
            call()
