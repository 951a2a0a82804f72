"""Networks: what is computed, and nothing of how it is fitted. Here, the one table of their names.

network = models.create("resnet50", num_classes=10)
variables = network.init(key, x, train=False)
logits = network.apply(variables, x, train=False)      # (B, 10); (B, H, W, 10) of a segmenter
"""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from models.classification import alexnet, googlenet, inception, lenet, mlp, plain, resnet, vgg
from models.classification.classifier import classifier
from models.segmentation import deeplab, fcn, unet

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": partial(classifier, resnet.ResNet20),
    "resnet32": partial(classifier, resnet.ResNet32),
    "resnet44": partial(classifier, resnet.ResNet44),
    "resnet56": partial(classifier, resnet.ResNet56),
    "resnet110": partial(classifier, resnet.ResNet110),
    "resnet18_cifar": partial(classifier, resnet.ResNet18CIFAR),
    "resnet18": partial(classifier, resnet.ResNet18),
    "resnet34": partial(classifier, resnet.ResNet34),
    "resnet50": partial(classifier, resnet.ResNet50),
    "resnet101": partial(classifier, resnet.ResNet101),
    "resnet152": partial(classifier, resnet.ResNet152),
    "resnext50_32x4d": partial(classifier, resnet.ResNeXt50_32x4d),
    "resnext101_32x8d": partial(classifier, resnet.ResNeXt101_32x8d),
    "wide_resnet50_2": partial(classifier, resnet.WideResNet50_2),
    "wide_resnet101_2": partial(classifier, resnet.WideResNet101_2),
    "mlp": mlp.mlp,
    "lenet5": lenet.lenet5,
    "lenet5_1998": lenet.lenet5_1998,
    "alexnet": alexnet.alexnet,
    "alexnet_2012": alexnet.alexnet_2012,
    "vgg11": vgg.vgg11,
    "vgg13": vgg.vgg13,
    "vgg16": vgg.vgg16,
    "vgg19": vgg.vgg19,
    "vgg11_bn": vgg.vgg11_bn,
    "vgg13_bn": vgg.vgg13_bn,
    "vgg16_bn": vgg.vgg16_bn,
    "vgg19_bn": vgg.vgg19_bn,
    "googlenet": googlenet.googlenet,
    "googlenet_2014": googlenet.googlenet_2014,
    "inception_v3": inception.inception_v3,
    "plain_cnn": partial(classifier, plain.PlainCNN),
}
SEGMENTERS: dict[str, Callable[..., nn.Module]] = {
    "unet": unet.unet,
    "unet_2015": unet.unet_2015,
    "fcn32s": fcn.fcn32s,
    "fcn16s": fcn.fcn16s,
    "fcn8s": fcn.fcn8s,
    "fcn_resnet50": fcn.fcn_resnet50,
    "fcn_resnet101": fcn.fcn_resnet101,
    "deeplab_largefov": deeplab.deeplab_largefov,
    "deeplabv2_vgg16": deeplab.deeplabv2_vgg16,
    "deeplabv2_resnet101": deeplab.deeplabv2_resnet101,
    "deeplabv3_resnet18": deeplab.deeplabv3_resnet18,
    "deeplabv3_resnet50": deeplab.deeplabv3_resnet50,
    "deeplabv3_resnet101": deeplab.deeplabv3_resnet101,
    "deeplabv3plus_resnet50": deeplab.deeplabv3plus_resnet50,
    "deeplabv3plus_resnet101": deeplab.deeplabv3plus_resnet101,
}
TASKS = {"classification": CLASSIFIERS, "segmentation": SEGMENTERS}
NETWORKS = {name: made for table in TASKS.values() for name, made in table.items()}


def names(task: str = "") -> tuple[str, ...]:
    """Of the variants that `create` knows: of all, or of one of `TASKS`.

    Raises:
        KeyError: there is no such task.
    """
    return tuple(TASKS[task] if task else NETWORKS)


def create(name: str, *, num_classes: int, **fields: Any) -> nn.Module:
    """A network by its name.

    Args:
        name: one of `names()`.
        num_classes: of its logits.
        **fields: of the network, in place of the variant's own: `dtype="bfloat16"`, `remat=True`.
            `conv_general_dilated` and `norm`, which a backend brings, are taken by every network,
            and left out by one that has no convolution or no BatchNorm.

    Raises:
        ValueError: the name is unknown (the nearest ones are named), or a field's value is bad.
        TypeError: the network has no such field.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=4, cutoff=0.5) or names()
        raise ValueError(f"network {name!r} is unknown; nearest: {', '.join(near)}")
    return NETWORKS[name](num_classes=num_classes, **fields)
