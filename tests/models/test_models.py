"""The table of variants: every name has its parameter count, every bad name its answer."""

import functools

import jax
import jax.numpy as jnp
import pytest

import models

CIFAR = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet18_cifar": 11_173_962,
}
IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "alexnet": 61_100_840,
    "alexnet_2012": 60_965_224,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 13_004_888,
    "googlenet_2014": 13_378_280,
    "inception_v3": 27_161_264,
}
# Grey images of 10 classes: the side of one, and the parameters.
GREY = {
    "mlp": (28, 247_766),
    "lenet5": (32, 61_706),
    "lenet5_1998": (32, 60_000),
    "plain_cnn": (28, 109_802),
}
# Of 21 classes; their parts by hand, a convolution's weights and its bias or BatchNorm.
VGG16, RESNET18, RESNET50, RESNET101 = 14_714_688, 11_176_512, 23_508_032, 42_500_160
FCN = VGG16 + (49 * 512 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 21
LARGE_FOV = (9 * 512 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 21


def aspp(channels):
    """Two branches of 1x1 and three of 3x3, and what joins them."""
    return (2 + 3 * 9) * channels * 256 + 5 * 256 * 256 + 6 * 512


PLUS = 256 * 48 + 2 * 48 + 9 * (256 + 48) * 256 + 512 + 9 * 256 * 256 + 512 + 257 * 21
SEGMENTERS = {
    # The paper's and, for each 3x3 convolution, BatchNorm for its bias; 3 channels for 1.
    "unet": 31_030_658 + 2 * (1984 + 960) + 2 * 9 * 64 + 19 * 65,
    "fcn32s": FCN + 64**2 * 21**2,
    "fcn16s": FCN + 32**2 * 21**2 + (512 + 1) * 21 + 4**2 * 21**2,
    "fcn8s": FCN + 16**2 * 21**2 + (512 + 1 + 256 + 1) * 21 + 2 * 4**2 * 21**2,
    "fcn_resnet50": 35_322_218,
    "fcn_resnet101": 54_314_346,
    "deeplab_largefov": VGG16 + LARGE_FOV,
    "deeplabv2_vgg16": VGG16 + 4 * LARGE_FOV,
    "deeplabv2_resnet101": RESNET101 + 4 * (9 * 2048 + 1) * 21,
    "deeplabv3_resnet18": RESNET18
    + (aspp(512) + 9 * 256 * 256 + 512 + 257 * 21)
    + (9 * 256 * 64 + 128 + 65 * 21),
    "deeplabv3_resnet50": 42_004_074,
    "deeplabv3_resnet101": 60_996_202,
    "deeplabv3plus_resnet50": RESNET50 + aspp(2048) + PLUS,
    "deeplabv3plus_resnet101": RESNET101 + aspp(2048) + PLUS,
}


# A box head on 7x7 places, of two layers, on torchvision's pyramid and the network that proposes.
def dense(inputs, *widths):
    """Layers, one behind the other."""
    pairs = zip((inputs, *widths), widths, strict=False)
    return sum((before + 1) * after for before, after in pairs)


def box_head(channels, width, classes):
    return dense(49 * channels, width, width) + dense(width, 5 * classes)


SMALL_BOX_HEAD = box_head(256, 1024, 21)
LATERAL = sum(dense(channels, 256) for channels in (64, 128, 256, 512))
ON_PYRAMID = 5 * dense(9 * 256, 256) + dense(256, 3 * 5)
PAPERS_RPN = dense(9 * 512, 512, 9 * 5)
# The side of an image, the classes (with the background in the first ones), the parameters.
DETECTORS = {
    "fastrcnn_vgg16": (64, 21, VGG16 + box_head(512, 4096, 21)),
    "fastrcnn_resnet18": (
        64,
        21,
        RESNET18
        + dense(256, 256)
        + dense(512, 256)
        + dense(9 * 256, 256)
        + box_head(256, 1024, 21),
    ),
    "fasterrcnn_vgg16": (64, 21, VGG16 + box_head(512, 4096, 21) + PAPERS_RPN),
    "fasterrcnn_resnet18_fpn": (64, 91, RESNET18 + LATERAL + ON_PYRAMID + box_head(256, 1024, 91)),
    "fasterrcnn_resnet50_fpn": (64, 91, 41_808_406),
    "fasterrcnn_resnet50_fpn_v2": (64, 91, 43_712_278),
    "yolov1": (448, 20, 271_703_550),
    "yolov1_small": (96, 10, 5_747_184),
    "yolov3": (64, 80, 61_949_149),
    "yolov3_tiny": (64, 80, 8_852_366),
    "yolov3_small": (64, 10, 376_285),
    "yolox_darknet53": (64, 80, 63_724_767),
    "yolox_small": (64, 10, 449_663),
    "retinanet_resnet18_fpn": (64, 91, 21_048_471),
    "retinanet_resnet50_fpn": (64, 91, 34_068_119),
    "retinanet_resnet50_fpn_v2": (64, 91, 38_198_935),
    "fcos_resnet18_fpn": (64, 91, 19_303_072),
    "fcos_resnet50_fpn": (64, 91, 32_322_720),
}
# Of 10 classes: the steps of a series of one channel, and the parameters.
SEQUENCE = {
    "linear1d": (40, dense(40, 10)),
    "mlp1d": (40, dense(40, 100, 100, 10)),
    "cnn1d": (40, 5_210),
    "fcn1d": (96, 8 * 128 + 5 * 128 * 256 + 3 * 256 * 128 + 2 * (128 + 256 + 128) + dense(128, 10)),
    "resnet1d": (
        96,
        # Blocks of 64, 128 and 128; their BatchNorms, the shortcuts' too; two projections.
        (8 + 8 * 64) * 64
        + (8 * 64 + 8 * 128) * 128
        + (8 + 8) * 128 * 128
        + 4 * 2 * (64 + 128 + 128)
        + (1 + 128) * 64
        + dense(128, 10),
    ),
    "resnet1d_small": (40, 241_258),
    # A scale beside each weight-normalised convolution's bias; the first shortcut projects.
    "tcn": (784, (7 + 15 * 7 * 25) * 25 + 16 * 50 + 2 * 25 + dense(25, 10)),
    "tcn_small": (40, (3 + 7 * 3 * 32) * 32 + 8 * 64 + 2 * 32 + dense(32, 10)),
    "m5": (
        32_000,
        80 * 128 + 3 * (128 * 128 + 128 * 256 + 256 * 512) + 2 * (256 + 256 + 512) + dense(512, 10),
    ),
}
WITHOUT_AUX = {
    "fcn_resnet50": 32_957_013,
    "fcn_resnet101": 51_949_141,
    "deeplabv3_resnet50": 39_638_869,
    "deeplabv3_resnet101": 58_630_997,
}


def test_every_variant_has_a_row_here():
    known = CIFAR.keys() | IMAGENET.keys() | GREY.keys()
    assert set(models.names("classification")) == known
    assert set(models.names("segmentation")) == SEGMENTERS.keys() | {"unet_2015"}
    assert set(models.names("detection")) == DETECTORS.keys()
    assert set(models.names("sequence")) == SEQUENCE.keys()
    assert models.names() == sum(map(models.names, models.TASKS), ())
    with pytest.raises(KeyError):
        models.names("cooking")


ROWS = [
    *((name, 10, (32, 32, 3), parameters) for name, parameters in CIFAR.items()),
    *((name, 1000, (224, 224, 3), parameters) for name, parameters in IMAGENET.items()),
    *((name, 10, (side, side, 1), parameters) for name, (side, parameters) in GREY.items()),
    *((name, 21, (64, 64, 3), parameters) for name, parameters in SEGMENTERS.items()),
    ("unet_2015", 2, (572, 572, 1), 31_030_658),
    *((name, k, (side, side, 3), parameters) for name, (side, k, parameters) in DETECTORS.items()),
    *((name, 10, (steps, 1), parameters) for name, (steps, parameters) in SEQUENCE.items()),
]


@pytest.mark.parametrize(("name", "num_classes", "image", "parameters"), ROWS)
def test_parameter_counts(name, num_classes, image, parameters):
    regions = models.variant(name).proposals
    network = models.create(name, num_classes=num_classes)
    assert count(network, image, regions=regions) == parameters


@pytest.mark.parametrize(("name", "parameters"), WITHOUT_AUX.items())
def test_parameter_counts_without_the_auxiliary_head(name, parameters):
    assert count(models.create(name, num_classes=21, aux=False), (64, 64, 3)) == parameters


def count(network, image, *, regions=False):
    init = functools.partial(network.init, train=False)
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    others = [jax.ShapeDtypeStruct((1, 5, 4), jnp.float32)] if regions else []
    params = jax.eval_shape(init, jax.random.key(0), x, *others)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet52", "resnet50"), ("ResNet50", "resnet50")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"network '{name}' is unknown; nearest: .*\b{near}\b"):
        models.create(name, num_classes=10)


def test_of_an_unknown_name_like_no_other_not_all_are_listed():
    with pytest.raises(ValueError, match=r"network 'zzz' is unknown; there are \d+, see names"):
        models.create("zzz", num_classes=10)


def test_an_unknown_field_is_named():
    with pytest.raises(TypeError, match="depth"):
        models.create("resnet20", num_classes=10, depth=3)
