"""Networks: what is computed, and nothing of how it is fitted. Here, the one table of their names.

network = models.create("resnet50", num_classes=10)
variables = network.init(key, x, train=False)
logits = network.apply(variables, x, train=False)      # (B, 10); (B, H, W, 10) of a segmenter

Images are (B, H, W, C), series (B, L, C); networks of series take `length=` too.

A detector's classes are counted as its logits; what it finds, `network.apply(…, method="detect")`.
"""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from models.classification import alexnet, googlenet, inception, lenet, mlp, plain, resnet, vgg
from models.classification.classifier import classifier
from models.detection import (
    fast_rcnn,
    faster_rcnn,
    fcos,
    region_network,
    retinanet,
    yolo_v1,
    yolo_v3,
    yolox,
)
from models.segmentation import deeplab, fcn, unet
from models.sequence import fcn as fcn_1d
from models.sequence import m5, mnist1d, tcn
from models.sequence import resnet as resnet_1d
from models.variant import Variant


def plainly(backbone: Callable[..., nn.Module]) -> Variant:
    """A linear classifier on the mean of a backbone's last map."""
    return Variant(partial(classifier, backbone))


CLASSIFIERS = {
    "resnet20": plainly(resnet.ResNet20),
    "resnet32": plainly(resnet.ResNet32),
    "resnet44": plainly(resnet.ResNet44),
    "resnet56": plainly(resnet.ResNet56),
    "resnet110": plainly(resnet.ResNet110),
    "resnet18_cifar": plainly(resnet.ResNet18CIFAR),
    "resnet18": plainly(resnet.ResNet18),
    "resnet34": plainly(resnet.ResNet34),
    "resnet50": plainly(resnet.ResNet50),
    "resnet101": plainly(resnet.ResNet101),
    "resnet152": plainly(resnet.ResNet152),
    "resnext50_32x4d": plainly(resnet.ResNeXt50_32x4d),
    "resnext101_32x8d": plainly(resnet.ResNeXt101_32x8d),
    "wide_resnet50_2": plainly(resnet.WideResNet50_2),
    "wide_resnet101_2": plainly(resnet.WideResNet101_2),
    "mlp": Variant(mlp.mlp),
    "lenet5": Variant(lenet.lenet5),
    "lenet5_1998": Variant(lenet.lenet5_1998),
    "alexnet": Variant(alexnet.alexnet),
    "alexnet_2012": Variant(alexnet.alexnet_2012),
    "vgg11": Variant(vgg.vgg11),
    "vgg13": Variant(vgg.vgg13),
    "vgg16": Variant(vgg.vgg16),
    "vgg19": Variant(vgg.vgg19),
    "vgg11_bn": Variant(vgg.vgg11_bn),
    "vgg13_bn": Variant(vgg.vgg13_bn),
    "vgg16_bn": Variant(vgg.vgg16_bn),
    "vgg19_bn": Variant(vgg.vgg19_bn),
    "googlenet": Variant(googlenet.googlenet, auxiliary=True),
    "googlenet_2014": Variant(googlenet.googlenet_2014, auxiliary=True),
    "inception_v3": Variant(inception.inception_v3, auxiliary=True),
    "plain_cnn": plainly(plain.PlainCNN),
}
papers_fcn = partial(
    Variant, classifier="vgg16", converted=fcn.as_convolutions, narrowed=fcn.narrowed
)
v3 = partial(Variant, auxiliary=True, least_batch=2)
v3plus = partial(Variant, least_batch=2)
SEGMENTERS = {
    "unet": Variant(unet.unet, auxiliary=True, narrowed=unet.narrowed),
    "unet_2015": Variant(unet.unet_2015, narrowed=unet.narrowed),
    "fcn32s": papers_fcn(fcn.fcn32s),
    "fcn16s": papers_fcn(fcn.fcn16s),
    "fcn8s": papers_fcn(fcn.fcn8s),
    "fcn_resnet50": Variant(fcn.fcn_resnet50, auxiliary=True, classifier="resnet50"),
    "fcn_resnet101": Variant(fcn.fcn_resnet101, auxiliary=True, classifier="resnet101"),
    "deeplab_largefov": Variant(deeplab.deeplab_largefov, classifier="vgg16"),
    "deeplabv2_vgg16": Variant(deeplab.deeplabv2_vgg16, classifier="vgg16"),
    "deeplabv2_resnet101": Variant(deeplab.deeplabv2_resnet101, classifier="resnet101"),
    "deeplabv3_resnet18": v3(
        deeplab.deeplabv3_resnet18, classifier="resnet18", narrowed=deeplab.narrowed
    ),
    "deeplabv3_resnet50": v3(deeplab.deeplabv3_resnet50, classifier="resnet50"),
    "deeplabv3_resnet101": v3(deeplab.deeplabv3_resnet101, classifier="resnet101"),
    "deeplabv3plus_resnet50": v3plus(deeplab.deeplabv3plus_resnet50, classifier="resnet50"),
    "deeplabv3plus_resnet101": v3plus(deeplab.deeplabv3plus_resnet101, classifier="resnet101"),
}
with_background = partial(Variant, background=True)
DETECTORS = {
    "fastrcnn_vgg16": with_background(
        fast_rcnn.fastrcnn_vgg16,
        classifier="vgg16",
        converted=region_network.head_of_vgg,
        proposals=True,
    ),
    "fastrcnn_resnet18": with_background(
        fast_rcnn.fastrcnn_resnet18,
        classifier="resnet18",
        narrowed=region_network.on_one_level,
        proposals=True,
    ),
    "fasterrcnn_vgg16": with_background(
        faster_rcnn.fasterrcnn_vgg16, classifier="vgg16", converted=region_network.head_of_vgg
    ),
    "fasterrcnn_resnet18_fpn": with_background(
        faster_rcnn.fasterrcnn_resnet18_fpn, classifier="resnet18", narrowed=faster_rcnn.narrowed
    ),
    "fasterrcnn_resnet50_fpn": with_background(
        faster_rcnn.fasterrcnn_resnet50_fpn, classifier="resnet50"
    ),
    "fasterrcnn_resnet50_fpn_v2": with_background(
        faster_rcnn.fasterrcnn_resnet50_fpn_v2, classifier="resnet50"
    ),
    "retinanet_resnet18_fpn": Variant(retinanet.retinanet_resnet18_fpn, classifier="resnet18"),
    "retinanet_resnet50_fpn": Variant(retinanet.retinanet_resnet50_fpn, classifier="resnet50"),
    "retinanet_resnet50_fpn_v2": Variant(
        retinanet.retinanet_resnet50_fpn_v2, classifier="resnet50"
    ),
    "fcos_resnet18_fpn": Variant(fcos.fcos_resnet18_fpn, classifier="resnet18"),
    "fcos_resnet50_fpn": Variant(fcos.fcos_resnet50_fpn, classifier="resnet50"),
    "yolov1": Variant(yolo_v1.yolov1),
    "yolov1_small": Variant(yolo_v1.yolov1_small),
    "yolov3": Variant(yolo_v3.yolov3),
    "yolov3_tiny": Variant(yolo_v3.yolov3_tiny),
    "yolov3_small": Variant(yolo_v3.yolov3_small),
    "yolox_darknet53": Variant(yolox.yolox_darknet53),
    "yolox_small": Variant(yolox.yolox_small),
}
SEQUENCE = {
    "linear1d": Variant(mnist1d.linear1d),
    "mlp1d": Variant(mnist1d.mlp1d),
    "cnn1d": Variant(mnist1d.cnn1d),
    "fcn1d": Variant(fcn_1d.fcn1d),
    "resnet1d": Variant(resnet_1d.resnet1d),
    "resnet1d_small": Variant(resnet_1d.resnet1d_small),
    "tcn": Variant(tcn.tcn),
    "tcn_small": Variant(tcn.tcn_small),
    "m5": Variant(m5.m5),
}
TASKS = {
    "classification": CLASSIFIERS,
    "segmentation": SEGMENTERS,
    "detection": DETECTORS,
    "sequence": SEQUENCE,
}
NETWORKS = {name: row for table in TASKS.values() for name, row in table.items()}


def names(task: str = "") -> tuple[str, ...]:
    """Of the variants that `create` knows: of all, or of one of `TASKS`.

    Raises:
        KeyError: there is no such task.
    """
    return tuple(TASKS[task] if task else NETWORKS)


def variant(name: str) -> Variant:
    """What is known of a network by its name.

    Raises:
        ValueError: the name is unknown; the nearest ones are named.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=4, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else f"there are {len(NETWORKS)}, see names()"
        raise ValueError(f"network {name!r} is unknown; {hint}")
    return NETWORKS[name]


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
    return variant(name).make(num_classes=num_classes, **fields)
