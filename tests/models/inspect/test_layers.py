"""The layer table: multi-adds that torchvision publishes, and by hand where it has none."""

import functools
import io
import math
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from rich.console import Console

import models
from models import backends
from models.inspect import layers
from models.inspect.layers import layer_table, rendered
from models.layers.norm import BatchNorm
from models.layers.transposed import ConvTranspose

# torchvision 0.29, `_ops` of the weights: 1e9 multiply-adds at 224x224, Inception v3's at 299x299.
PUBLISHED = {
    "alexnet": 0.714,
    "googlenet": 1.498,
    "inception_v3": 5.713,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "resnext50_32x4d": 4.23,
    "resnext101_32x8d": 16.414,
    "vgg11": 7.609,
    "vgg11_bn": 7.609,
    "vgg13": 11.308,
    "vgg13_bn": 11.308,
    "vgg16": 15.47,
    "vgg16_bn": 15.47,
    "vgg19": 19.632,
    "vgg19_bn": 19.632,
    "wide_resnet50_2": 11.398,
    "wide_resnet101_2": 22.753,
}


def sums(rows):
    return tuple(
        sum(getattr(row, name) for row in rows) for name in ("parameters", "others", "multi_adds")
    )


def by_path(*args, **kwargs):
    return {row.path: row for row in layer_table(*args, **kwargs)}


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PUBLISHED)
def test_multi_adds_are_those_that_torchvision_publishes(name):
    network = models.create(name, num_classes=1000)
    image = (1, *[299 if name == "inception_v3" else 224] * 2, 3)
    rows = layer_table(network, image)
    multi_adds = sum(row.multi_adds for row in rows)
    assert multi_adds / 1e9 == pytest.approx(PUBLISHED[name], abs=6e-4)
    assert all(row.fields is not None for row in rows)


# The same of its networks for segmentation at 520x520, with the auxiliary head, which torchvision
# computes in evaluation too.
OF_PIXELS = {
    "deeplabv3_resnet50": 178.722,
    "deeplabv3_resnet101": 258.743,
    "fcn_resnet50": 152.717,
    "fcn_resnet101": 232.738,
}


@pytest.mark.parametrize("name", OF_PIXELS)
def test_multi_adds_of_segmentation_are_those_that_torchvision_publishes(name):
    rows = layer_table(models.create(name, num_classes=21), (2, 520, 520, 3), train=True)
    # The network's own products are those of bringing logits to the image's size.
    multi_adds = sum(row.multi_adds for row in rows if row.path) / 2
    assert multi_adds / 1e9 == pytest.approx(OF_PIXELS[name], abs=6e-4)


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "lenet5_1998", "inception_v3"])
def test_parameters_and_the_rest_are_those_of_init(name):
    network = models.create(name, num_classes=10)
    image = {"lenet5_1998": (1, 32, 32, 1), "inception_v3": (1, 299, 299, 3)}
    image = image.get(name, (1, 224, 224, 3))
    parameters, others, _ = sums(layer_table(network, image))
    init = functools.partial(network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(image, jnp.float32))
    assert parameters == size(variables["params"])
    assert parameters + others == size(variables)


@pytest.mark.parametrize("name", sorted(set(models.names()) - PUBLISHED.keys()))
def test_every_network_has_a_table(name):
    channels = 1 if name.startswith(("lenet", "mlp", "unet_2015")) else 3
    edge = 224 if name in ("alexnet_2012", "googlenet_2014") else 32
    edge = {"unet_2015": 572, "yolov1": 64}.get(name, edge)
    inputs = (1, 64, 2) if name in models.names("sequence") else (1, edge, edge, channels)
    rows = layer_table(models.create(name, num_classes=10), inputs)
    parameters, _, multi_adds = sums(rows)
    assert multi_adds > 0
    assert parameters > 0
    assert len({row.path for row in rows}) == len(rows)
    # What is called reads the image, but for the anchors and the like.
    assert all(bool(row.fields) == bool(row.outputs) for row in rows)
    assert sum(bool(str(row.fields and row.fields[0])) for row in rows) > len(rows) / 2


# --- one layer, by hand -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "output", "window", "parameters", "multi_adds"),
    [
        (nn.Dense(7), (1, 5), (1, 7), "", 42, 35),
        (nn.Dense(7, use_bias=False), (2, 3, 5), (2, 3, 7), "", 35, 6 * 35),
        (nn.Conv(8, (3, 3)), (1, 6, 5, 4), (1, 6, 5, 8), "3x3", 296, 30 * 9 * 4 * 8),
        (nn.Conv(8, (3, 3), padding="VALID"), (1, 6, 5, 4), (1, 4, 3, 8), "3x3", 296, 12 * 288),
        (nn.Conv(8, (5, 3), strides=2), (2, 6, 5, 4), (2, 3, 3, 8), "5x3/2", 488, 18 * 15 * 32),
        (nn.Conv(8, (3,), strides=(2,)), (1, 9, 4), (1, 5, 8), "3/2", 104, 5 * 3 * 32),
        (nn.Conv(8, 3, kernel_dilation=2), (1, 9, 4), (1, 9, 8), "3, dilated 2", 104, 9 * 96),
        (
            nn.Conv(8, (3, 3), strides=(2, 1), feature_group_count=2),
            *((1, 6, 5, 4), (1, 3, 5, 8), "3x3/2x1, 2 groups", 152, 15 * 9 * 2 * 8),
        ),
        # Depthwise: a kernel of one channel for each feature.
        (
            nn.Conv(4, (3, 3), feature_group_count=4, use_bias=False),
            *((1, 6, 5, 4), (1, 6, 5, 4), "3x3, 4 groups", 36, 30 * 9 * 4),
        ),
        (nn.Conv(2, (2, 2, 2)), (1, 3, 3, 3, 1), (1, 3, 3, 3, 2), "2x2x2", 18, 27 * 8 * 2),
        # Every input position meets every tap, whatever is cut off afterwards.
        (ConvTranspose(8, 4, 2, 1), (1, 9, 4), (1, 18, 8), "4/2", 136, 9 * 4 * 32),
        (ConvTranspose(8, (3, 3), 2), (1, 6, 5, 4), (1, 13, 11, 8), "3x3/2", 296, 30 * 9 * 32),
        (ConvTranspose(8, (3, 3)), (1, 6, 5, 4), (1, 8, 7, 8), "3x3", 296, 30 * 9 * 32),
        (
            ConvTranspose(8, (3, 3), (2, 1), feature_group_count=2),
            *((1, 6, 5, 4), (1, 13, 7, 8), "3x3/2x1, 2 groups", 152, 30 * 9 * 2 * 8),
        ),
        (nn.ConvTranspose(8, (3, 3), (2, 2)), (1, 6, 5, 4), (1, 12, 10, 8), "3x3/2", 296, 8640),
        (nn.Embed(5, 3), (1, 4), (1, 4, 3), "", 15, 0),
        (nn.GroupNorm(2), (1, 4, 4, 6), (1, 4, 4, 6), "", 12, 0),
    ],
)
def test_a_layer_by_hand(layer, shape, output, window, parameters, multi_adds):
    inputs = jax.ShapeDtypeStruct(shape, jnp.int32) if isinstance(layer, nn.Embed) else shape
    (row,) = layer_table(layer, inputs)
    assert row[:7] == ("", type(layer).__name__, window, (output,), parameters, 0, multi_adds)
    assert row.activation == 4 * math.prod(output)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layer", [nn.Conv, ConvTranspose])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_backend_counts_as_the_definition_does(layer, strides, groups):
    made = functools.partial(layer, 6, (3, 3), strides, "VALID", feature_group_count=groups)
    convs = [backends.choose(name, jax.devices()).conv_general_dilated for name in ("jax", "xla")]
    stock, *ours = (
        layer_table(made(conv_general_dilated=conv), (2, 7, 7, 4))
        for conv in (lax.conv_general_dilated, *convs)
    )
    assert ours == [stock, stock]
    assert stock[0].fields
    assert stock[0].multi_adds > 0


def test_a_backend_and_remat_change_nothing():
    backend = backends.choose("jax", jax.devices())
    tables = [
        layer_table(models.create("resnet20", num_classes=10, **fields), (1, 32, 32, 3))
        for fields in ({}, {"remat": True}, backend.fields, {"dtype": "bfloat16"})
    ]
    assert tables[0] == tables[1] == tables[2]
    assert all([row[:7] for row in table] == [row[:7] for row in tables[0]] for table in tables)
    # Half as much in bfloat16; the head is float32 and takes the same.
    plain, half = ({row.path: row.activation for row in tables[i]} for i in (0, 3))
    assert {path: size - 2 * half[path] for path, size in plain.items() if path != "head"} == (
        dict.fromkeys(plain.keys() - {"head"}, 0)
    )
    assert plain["head"] == half["head"] == 40
    assert {row.path: row.multi_adds for row in tables[0]}["head"] == 640


# --- which module it is -----------------------------------------------------------------------


class Parts(nn.Module):
    """A shared layer on two sizes, products of its own, and a head for training alone."""

    def setup(self):
        self.shared = nn.Conv(4, (3, 3), use_bias=False)
        self.scale = self.param("scale", nn.initializers.ones, (4, 6))
        self.table = self.variable("fixed", "table", jnp.zeros, (10,))
        self.head, self.aux = nn.Dense(5), nn.Dense(3)
        self.dropout = nn.Dropout(0.5)

    def __call__(self, x, *, train):
        maps = (self.shared(x), self.shared(x[:, ::2, ::2]))
        y = self.dropout(jnp.einsum("bhwc,cd->bd", maps[0], self.scale), deterministic=not train)
        more = self.aux(y) if train or self.is_initializing() else None
        return self.head(jnp.einsum("bd,d->bd", y, self.table.value[:6])), maps, more


def test_what_belongs_to_whom():
    rows = by_path(Parts(), (1, 8, 8, 4))
    assert rows["shared"][:8] == (
        *("shared", "Conv", "3x3", ((1, 8, 8, 4), (1, 4, 4, 4)), 144, 0),
        *((64 + 16) * 9 * 16, 4 * 4 * (64 + 16)),
    )
    assert [str(field) for field in rows["shared"].fields] == ["3/1", "5/2"]
    # XLA sums the positions first: 4 x 6 products. Those with the table are along b and d alone.
    own = rows[""]
    assert (own.kind, own.parameters, own.others) == ("Parts", 24, 10)
    assert own.outputs == ((1, 5), (1, 8, 8, 4), (1, 4, 4, 4))
    assert own.multi_adds >= 24
    assert rows["head"][:8] == ("head", "Dense", "", ((1, 5),), 35, 0, 30, 20)
    assert [str(field) for field in rows["head"].fields] == ["all"]
    assert rows["aux"] == ("aux", "Dense", "", (), 21, 0, 0, 0, ())
    assert rows["dropout"][:8] == ("dropout", "Dropout", "", ((1, 6),), 0, 0, 0, 24)
    assert by_path(Parts(), (1, 8, 8, 4), train=True)["aux"].multi_adds == 18


def test_auxiliary_heads_are_named_and_not_called():
    network = models.create("googlenet", num_classes=1000)
    rows = layer_table(network, (1, 224, 224, 3))
    assert sums(rows)[0] == 13_004_888
    assert sum(row.parameters for row in rows if row.outputs) == 6_624_904
    training = layer_table(network, (2, 224, 224, 3), train=True)
    assert all(row.outputs for row in training)
    assert [row.path for row in training if row.parameters] == [
        row.path for row in rows if row.parameters
    ]


class Spectrum(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(jnp.fft.fft(x, axis=1).real)


def test_what_is_not_known_has_no_field_and_other_errors_are_no_question_mark(monkeypatch):
    (row,) = (row for row in layer_table(Spectrum(), (1, 8, 2)) if row.parameters)
    assert row.fields is None

    def broken(found):
        raise ValueError("a mistake")

    monkeypatch.setattr(layers, "fields", broken)
    with pytest.raises(ValueError, match="a mistake"):
        layer_table(Spectrum(), (1, 8, 2))


class Loop(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = lax.scan(lambda x, _: (x @ jnp.ones((4, 4)), None), x, length=5)
        x = lax.cond(x.sum() > 0, lambda x: x @ jnp.ones((4, 4)) @ jnp.ones((4, 4)), jnp.sin, x)
        cell = nn.SimpleCell(4, name="cell")
        y = nn.RNN(cell, name="rnn")(x[None])
        return jax.jit(lambda y: jnp.einsum("bti,ti->b", y, x))(y)


def test_what_is_repeated_counts_each_time():
    rows = by_path(Loop(), (6, 4))
    assert rows[""].multi_adds == 5 * 6 * 16 + 2 * 6 * 16 + 24
    inside = {path: row.multi_adds for path, row in rows.items() if row.parameters}
    assert inside == {"cell/i": 6 * 16, "cell/h": 6 * 16}


def test_equal_functions_that_are_traced_once_count_for_each_module():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.DenseGeneral(4, name="a")(nn.DenseGeneral(4, name="b")(x))

    rows = by_path(Twice(), (3, 4))
    assert rows["a"].multi_adds == rows["b"].multi_adds == 48


def test_a_backbone_and_a_network_of_signals():
    backbone = models.create("resnet18", num_classes=10).backbone
    rows = layer_table(backbone, (1, 64, 64, 3))
    assert rows[-1].outputs == ((1, 2, 2, 512),)
    whole = layer_table(models.create("resnet18", num_classes=10), (1, 64, 64, 3))
    assert sums(whole)[2] - sums(rows)[2] == 5120

    class Signals(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.Conv(4, (5,), name="conv")(x)
            return BatchNorm(name="norm")(x, train=train)

    rows = by_path(Signals(), (2, 100, 3), train=True)
    assert rows["conv"].multi_adds == 2 * 100 * 5 * 12
    assert rows["norm"][3:8] == (((2, 100, 4),), 8, 8, 0, 3200)
    assert [str(*rows[name].fields) for name in ("conv", "norm")] == ["5/1", "all"]


def test_a_module_that_is_only_a_place_is_no_layer():
    class Place(nn.Module):
        def setup(self):
            self.layer = nn.Dense(2)

    class Outer(nn.Module):
        def setup(self):
            self.place = Place()

        def __call__(self, x):
            return self.place.layer(x)

    assert by_path(Outer(), (1, 3)).keys() == {"place/layer"}
    assert by_path(Outer(), (1, 3), depth=1)["place"].multi_adds == 6


def test_depth_folds():
    network = models.create("resnet18", num_classes=1000)
    whole = layer_table(network, (1, 224, 224, 3))
    for depth in (1, 2, 9):
        rows = layer_table(network, (1, 224, 224, 3), depth=depth)
        assert sums(rows) == sums(whole)
        assert all(row.path.count("/") < depth for row in rows)
    assert rows == whole
    first, second = layer_table(network, (1, 224, 224, 3), depth=1)
    assert (first.path, first.kind, second.path) == ("backbone", "ResNet", "head")
    assert [shape[-1] for shape in first.outputs] == [64, 128, 256, 512]
    with pytest.raises(ValueError, match="depth=0"):
        layer_table(network, (1, 224, 224, 3), depth=0)


def test_nothing_is_allocated():
    """The lecture's: 3 x 1920 x 1080 values into half as many units are 19 T weights."""

    class First(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x.reshape(len(x), -1)
            return nn.Dense(x.shape[-1] // 2, use_bias=False, name="first")(x)

    (row,) = layer_table(First(), (1, 1080, 1920, 3))
    assert row.parameters == row.multi_adds == 19_349_176_320_000


def test_inputs_of_other_types_and_more_than_one():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, boxes):
            return nn.Dense(2)(x) + boxes

    seen = layer_table(Two(), jnp.zeros((1, 3), jnp.bfloat16), np.zeros((1, 2), np.float32))
    assert seen[0].outputs == ((1, 2),)


def test_what_the_network_refuses_is_its_own_to_say():
    with pytest.raises(ValueError, match="expected 4 axes"):
        layer_table(models.create("resnet18", num_classes=10), (224, 224, 3))


def test_what_is_not_known_leaves_the_table():
    class Waves(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(2, (3,), name="conv")(jnp.fft.fft(x, axis=1).real)

    rows = layer_table(Waves(), (1, 16, 2))
    assert [row.fields for row in rows] == [None]
    assert "?" in printed(rows)


# --- on the terminal --------------------------------------------------------------------------


def printed(rows):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(rendered(rows, "net"))
    return console.export_text()


def test_the_screen():
    lines = [line.split() for line in printed(layer_table(Parts(), (1, 8, 8, 4))).splitlines()]
    assert ["net"] in lines
    titles = ["layer", "kind", "output", "field", "bytes", "parameters", "multi-adds"]
    assert titles in lines
    shared = ["shared", "Conv", "3x3", "1x8x8x4,", "1x4x4x4", "3/1,", "5/2", "1,280"]
    assert [*shared, "144", "11,520"] in lines
    assert ["head", "Dense", "1x5", "all", "20", "35", "30"] in lines
    assert ["aux", "Dense", "not", "called", "21"] in lines
    assert any(line[:2] == ["total", "224"] for line in lines)
    assert ["10", "values", "that", "are", "not", "trained"] in lines
    assert ["203", "parameters", "of", "what", "is", "called"] in lines


def test_the_command():
    def run(*arguments):
        command = [sys.executable, "-m", "models.inspect", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("resnet18", "--size", "64x96", "--classes", "10", "--depth", "2")
    assert done.returncode == 0, done.stderr
    assert "resnet18 on 1 x 64 x 96 x 3" in done.stdout
    expected = ["backbone/stage4_block2", "BasicBlock", "1x2x3x512", "435/32", "12,288"]
    assert [*expected, "4,720,640"] in [line.split()[:6] for line in done.stdout.splitlines()]
    # Of a series one size; of a network that does not take every size, the next that it takes.
    done = run("unet_2015", "--classes", "3", "--depth", "1")
    assert "unet_2015 on 1 x 412 x 412 x 3" in done.stdout, done.stderr
    done = run("tcn_small", "--size", "50", "--channels", "2", "--classes", "3")
    assert "tcn_small on 1 x 50 x 2" in done.stdout, done.stderr
    for wrong, message in (
        (["resnet19"], "network 'resnet19' is unknown"),
        (["resnet18", "--classes", "0"], "num_classes=0"),
        (["resnet18", "--size", "1x2x3"], "--size"),
    ):
        done = run(*wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
