"""What torchvision calls the modules of our networks: a function a family, a row a network."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Family(NamedTuple):
    """How torchvision names what several networks have in common."""

    module: Callable[[str, Any], str]
    """Path of a module of ours, "backbone/stem/conv", and the network -> torchvision's name."""
    head: str
    """torchvision's name of the layer that yields the logits."""
    flattened: Mapping[str, tuple[int, int]] = {}
    """torchvision's name of a dense layer on a flattened map -> that map's height and width."""
    auxiliary: tuple[str, ...] = ()
    """How the names of auxiliary heads begin at torchvision's; empty where there are none."""
    transforms: bool = False
    """Whether the network begins with an input transform (`models.layers.input_transform`)."""
    pixels: bool = False
    """Whether each pixel has logits."""
    boxes: bool = False
    """Whether it finds boxes: a detector."""
    earlier: Callable[[str], str] = str
    """torchvision's name of a tensor in files of an earlier form -> its name of today."""
    each: int = 1
    """How often each class is among the outputs of the last layer: once an anchor."""


def resnet(module: str, network: Any) -> str:
    """`torchvision.models.resnet`."""
    del network
    if module == "head":
        return "fc"
    _, block, *layers = module.split("/")
    layer = "/".join(layers)
    if block == "stem":
        return {"conv": "conv1", "norm": "bn1"}[layer]
    stage, number = numbers(r"stage(\d+)_block(\d+)", block)
    inner = {"shortcut/conv": "downsample.0", "shortcut/norm": "downsample.1"}
    return f"layer{stage}.{number - 1}.{inner.get(layer, layer.replace('norm', 'bn'))}"


def alexnet(module: str, network: Any) -> str:
    """`torchvision.models.alexnet`: sequences, counted with the layers without parameters."""
    del network
    sequence = {
        "backbone/conv1": "features.0",
        "backbone/conv2": "features.3",
        "backbone/conv3": "features.6",
        "backbone/conv4": "features.8",
        "backbone/conv5": "features.10",
        "hidden1": "classifier.1",
        "hidden2": "classifier.4",
        "head": "classifier.6",
    }
    return sequence[module]


def vgg(module: str, network: Any) -> str:
    """`torchvision.models.vgg`: a convolution, its BatchNorm if any, ReLU; a pooling a stage."""
    dense = {"hidden1": "classifier.0", "hidden2": "classifier.3", "head": "classifier.6"}
    if module in dense:
        return dense[module]
    stage, number = numbers(r"backbone/stage(\d+)_(?:conv|norm)(\d+)", module)
    each = 3 if network.backbone.batch_norm else 2
    before = sum(each * depth + 1 for depth in network.backbone.stages[: stage - 1])
    return f"features.{before + each * (number - 1) + ('norm' in module)}"


def googlenet(module: str, network: Any) -> str:
    """`torchvision.models.googlenet`: a branch is a sequence, the fourth begins with a pooling."""
    del network
    if module == "head":
        return "fc"
    *blocks, layer = module.removeprefix("backbone/").split("/")
    names = []
    for block in blocks:
        branch, _, number = block.partition("_")
        names.append(f"{branch}.{int(number) - 1}" if number else branch)
        if block == "branch4":
            names.append("1")
    return ".".join([*names, layer.replace("norm", "bn")])


def inception(module: str, network: Any) -> str:
    """`torchvision.models.inception`, whose names ours are."""
    del network
    if module == "head":
        return "fc"
    first, *others = module.removeprefix("backbone/").split("/")
    names = ["AuxLogits" if first == "aux1" else first, *others]
    return ".".join("bn" if name == "norm" else name for name in names)


def fcn(module: str, network: Any) -> str:
    """`torchvision.models.segmentation.fcn`: a ResNet, and a sequence for each head."""
    part, _, layer = module.partition("/")
    if part == "backbone":
        return f"backbone.{resnet(module, network)}"
    number = {"conv": 0, "norm": 1, "logits": 4}[layer]
    return f"{'aux_classifier' if part == 'aux' else 'classifier'}.{number}"


def deeplab(module: str, network: Any) -> str:
    """`torchvision.models.segmentation.deeplabv3`: FCN's but for the main head."""
    if not module.startswith("head/"):
        return fcn(module, network)
    name = module.removeprefix("head/").removeprefix("aspp/")
    head = {"conv": "1", "norm": "2", "logits": "4"}
    if name in head:
        return f"classifier.{head[name]}"
    part, _, layer = name.partition("_")
    number = int(layer == "norm")
    if part == "project":
        return f"classifier.0.project.{number}"
    if part == "pooled":  # the fifth branch: a sequence that begins with the pooling
        return f"classifier.0.convs.4.{number + 1}"
    return f"classifier.0.convs.{int(part.removeprefix('branch')) - 1}.{number}"


def pyramid(module: str, network: Any) -> str:
    """What torchvision's detectors on a ResNet with a pyramid begin with: `BackboneWithFPN`.

    A convolution of the pyramid is the first of a sequence, its BatchNorm, if any, the second.
    """
    part, _, layer = module.partition("/")
    if part == "backbone":
        return f"backbone.body.{resnet(module, network)}"
    assert part == "fpn", module
    if layer.startswith("extra/"):
        return f"backbone.fpn.extra_blocks.p{layer.removeprefix('extra/conv')}"
    kind, number, sort = groups(r"(lateral|output)(\d+)_(conv|norm)", layer)
    blocks = {"lateral": "inner_blocks", "output": "layer_blocks"}[kind]
    return f"backbone.fpn.{blocks}.{int(number) - 1}.{int(sort == 'norm')}"


def earlier_pyramid(name: str) -> str:
    """A pyramid's convolution in a sequence of its own, which it was not before version 0.14."""
    return re.sub(r"((?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", name)


def fasterrcnn(module: str, network: Any) -> str:
    """`torchvision.models.detection.faster_rcnn`."""
    part, _, layer = module.partition("/")
    if part not in ("rpn_head", "roi_head"):
        return pyramid(module, network)
    last = {"objectness": "cls_logits", "logits": "cls_score", "deltas": "bbox_pred"}
    if part == "rpn_head":
        if layer in last:
            return f"rpn.head.{last[layer]}"
        return f"rpn.head.conv.{int(layer.removeprefix('conv')) - 1}.0"
    if layer in last:
        return f"roi_heads.box_predictor.{last[layer]}"
    sort, number = groups(r"(conv|norm|hidden)(\d+)", layer)
    place = int(number)
    if not network.convs:
        return f"roi_heads.box_head.fc{place + 5}"
    if sort != "hidden":  # a sequence of a convolution and its BatchNorm each
        return f"roi_heads.box_head.{place - 1}.{int(sort == 'norm')}"
    # Behind them the flattening, and ReLU behind each dense layer.
    return f"roi_heads.box_head.{len(network.convs) + 2 * place - 1}"


def earlier_fasterrcnn(name: str) -> str:
    """As `earlier_pyramid`; so was the region proposal network's convolution."""
    return re.sub(r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2", earlier_pyramid(name))


def retinanet(module: str, network: Any) -> str:
    """`torchvision.models.detection.retinanet`: a convolution and its norm are a sequence each."""
    if not module.startswith("head/"):
        return pyramid(module, network)
    return dense_head(module, lambda number, norm: f"{number}.{norm}")


def earlier_retinanet(name: str) -> str:
    """As `earlier_pyramid`; a tower was one sequence, counted with its ReLUs."""
    tower = re.fullmatch(r"(.*head\.conv)\.(\d+)\.(weight|bias)", name)
    if tower is None:
        return earlier_pyramid(name)
    return f"{tower[1]}.{int(tower[2]) // 2}.0.{tower[3]}"


def fcos(module: str, network: Any) -> str:
    """`torchvision.models.detection.fcos`: towers counted with their ReLUs."""
    if not module.startswith("head/"):
        return pyramid(module, network)
    return dense_head(module, lambda number, norm: str(3 * number + norm))


def dense_head(module: str, layer: Callable[[int, int], str]) -> str:
    """The head of a dense detector.

    Args:
        module: of ours: "head/class_tower/conv1".
        layer: number of a convolution in its tower, from 0, and 1 for the norm behind it, 0 for
            itself -> what torchvision calls it there.
    """
    names = {
        "class_logits": "classification_head.cls_logits",
        "box_deltas": "regression_head.bbox_reg",
        "box_distances": "regression_head.bbox_reg",
        "centreness": "regression_head.bbox_ctrness",
        "class_tower": "classification_head.conv",
        "box_tower": "regression_head.conv",
    }
    _, part, *inner = module.split("/")
    if not inner:
        return f"head.{names[part]}"
    (number,) = numbers(r"(?:conv|norm)(\d+)", inner[0])
    return f"head.{names[part]}.{layer(number - 1, int(inner[0].startswith('norm')))}"


RESNET = Family(resnet, head="fc")
ALEXNET = Family(alexnet, head="classifier.6", flattened={"classifier.1": (6, 6)})
VGG = Family(vgg, head="classifier.6", flattened={"classifier.0": (7, 7)})
GOOGLENET = Family(
    googlenet,
    head="fc",
    flattened={"aux1.fc1": (4, 4), "aux2.fc1": (4, 4)},
    auxiliary=("aux1.", "aux2."),
    transforms=True,
)
INCEPTION = Family(inception, head="fc", auxiliary=("AuxLogits.",), transforms=True)
FCN = Family(fcn, head="classifier.4", auxiliary=("aux_classifier.",), pixels=True)
DEEPLAB = Family(deeplab, head="classifier.4", auxiliary=("aux_classifier.",), pixels=True)
FASTERRCNN = Family(
    fasterrcnn,
    head="roi_heads.box_predictor.cls_score",
    flattened={"roi_heads.box_head.fc6": (7, 7), "roi_heads.box_head.5": (7, 7)},
    boxes=True,
    earlier=earlier_fasterrcnn,
)
LOGITS = "head.classification_head.cls_logits"
RETINANET = Family(retinanet, head=LOGITS, boxes=True, each=9, earlier=earlier_retinanet)
FCOS = Family(fcos, head=LOGITS, boxes=True, earlier=earlier_pyramid)
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), RESNET),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d"), RESNET),
    **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), RESNET),
    "alexnet": ALEXNET,
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), VGG),
    **dict.fromkeys(("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"), VGG),
    "googlenet": GOOGLENET,
    "inception_v3": INCEPTION,
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet101"), FCN),
    **dict.fromkeys(("deeplabv3_resnet50", "deeplabv3_resnet101"), DEEPLAB),
    **dict.fromkeys(("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"), FASTERRCNN),
    **dict.fromkeys(("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"), RETINANET),
    "fcos_resnet50_fpn": FCOS,
}


def names() -> tuple[str, ...]:
    """Of the networks that torchvision has too; they are the same in `models.names()`."""
    return tuple(FAMILIES)


def for_pixels(tensors: Iterable[str]) -> bool:
    """Whether torchvision's tensors of these names, wrapped or not, are of `fcn` or `deeplab`."""
    return any(re.search(r"(^|\.)(aux_)?classifier\.\d+\.", tensor) for tensor in tensors)


def for_boxes(tensors: Iterable[str]) -> bool:
    """Whether torchvision's tensors of these names, wrapped or not, are of a detector."""
    return any(re.search(r"(^|\.)backbone\.(body|fpn)\.", tensor) for tensor in tensors)


SIGNS = {
    "maskrcnn": r"roi_heads\.mask_",
    "keypointrcnn": r"roi_heads\.keypoint_",
    "fasterrcnn_resnet50_fpn": r"roi_heads\.box_head\.fc6\.",
    "fasterrcnn_resnet50_fpn_v2": r"roi_heads\.box_head\.0\.",
    "fcos_resnet50_fpn": r"\.bbox_ctrness\.",
    "retinanet_resnet50_fpn_v2": r"classification_head\.conv\.0\.1\.",
    "retinanet_resnet50_fpn": r"classification_head\.conv\.",
}
"""A detector of torchvision's -> what in its tensors' names none of those before it has."""


def detector_of(tensors: Iterable[str]) -> str:
    """Which detector of torchvision's has tensors of these names; "" for none that is known."""
    found = list(tensors)
    signs = ((name, re.compile(sign)) for name, sign in SIGNS.items())
    return next((name for name, sign in signs if any(map(sign.search, found))), "")


def family_of(name: str) -> Family:
    """Of a network that torchvision has.

    Raises:
        ValueError: it has none of this name.
    """
    if name not in FAMILIES:
        raise ValueError(f"name={name!r} is none of torchvision's: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def numbers(form: str, text: str) -> tuple[int, ...]:
    """What the groups of a pattern match, all of the text matching it."""
    return tuple(map(int, groups(form, text)))


def groups(form: str, text: str) -> tuple[str, ...]:
    """As `numbers`, in words."""
    match = re.fullmatch(form, text)
    assert match, text
    return match.groups()
