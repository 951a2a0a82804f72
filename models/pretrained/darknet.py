"""Darknet's `.weights` and `.cfg` as variables and fields of the networks that have its names.

    variables = from_darknet("yolov3", "yolov3.weights")
    network = models.create("yolov3", num_classes=80)
    outputs = network.apply(variables, image, train=False)

The pictures that such weights expect are red, green, blue, each pixel divided by 255 and nothing
subtracted (a mean of 0, a standard deviation of 1), scaled to fit the network's input with their
proportions kept, and centred on grey, 0.5. Boxes are then in pixels of that input.

A file is a header and float32 numbers, all little-endian, the layers in the order of the cfg: of a
convolution with BatchNorm biases, scales, means, variances and kernel, of another its biases and
kernel, (O, I, h, w). There are no names and no sizes in it.
"""

import os
import pathlib
import struct
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import models
from models.detection.darknet import Darknet
from models.pretrained.darknet_cfg import Section, read_sections, same

NAMES = ("yolov3", "yolov3_tiny")


class Layer(NamedTuple):
    """A convolution of ours, in a file's order."""

    module: str
    """"backbone/stem"; of the last ones of a head the convolution itself, with biases."""
    section: int
    """Its number in Darknet's count, from 0."""


def from_darknet(
    name: str,
    path: str | pathlib.Path,
    *,
    cfg: str | pathlib.Path | None = None,
    whole: bool = True,
    **fields: Any,
) -> dict[str, dict[str, Any]]:
    """Variables for `models.create(name, num_classes=…, **fields)`.

    The published yolov3-tiny.weights were trained with other anchors than the cfg beside them says:
    make that network with `anchors=TINY_ANCHORS_OF_WEIGHTS` (`models.detection.yolo_v3`).

    Args:
        name: "yolov3" or "yolov3_tiny".
        path: a `.weights` file.
        cfg: the network's cfg; it is held against ours, layer by layer, and says `num_classes` and
            `anchors`. `fields_of` says them too, for `models.create`.
        whole: whether the layers behind the backbone must be there. False: a file may end between
            any two of them, as darknet53.conv.74 does at the first, which has the backbone alone;
            those that are missing are absent from the variables too.
        **fields: of the network where they are others than its own: `num_classes` (80 by default),
            `anchors`, ….

    Returns:
        {"params", "batch_stats"}, float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name is another one; the header is cut; numbers are missing, which is said
            of the layer where they end, or left behind the last one; what `fields_of` refuses.
    """
    if cfg is not None:
        fields = fields_of(name, cfg, **fields)
    network = made(name, {"num_classes": 80} | fields)
    path = pathlib.Path(os.path.expanduser(path))
    numbers = read_weights(path)
    shapes = variables_of(network)
    variables: dict[tuple[str, ...], Any] = {}
    layers = layout(network)[1]
    start = 0
    for layer in layers:
        wanted = parts(layer, shapes)
        count = sum(shapes[part].size for part in wanted)
        if start == len(numbers) and not whole and not layer.module.startswith("backbone/"):
            break
        if start + count > len(numbers):
            raise ValueError(
                f"{path}: layer {layer.section} ({layer.module}): {start + count - len(numbers):,} "
                f"of its {count:,} numbers are missing{hint(network, shapes, len(numbers))}"
            )
        for part in wanted:
            shape, size = shapes[part].shape, shapes[part].size
            values = numbers[start : start + size]
            if len(shape) == 4:
                height, width, inputs, outputs = shape
                values = values.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)
            variables[part] = jnp.asarray(values, jnp.float32)
            start += size
    if start < len(numbers):
        raise ValueError(
            f"{path}: {len(numbers) - start:,} numbers are left behind layer {layers[-1].section} "
            f"({layers[-1].module}), the last one{hint(network, shapes, len(numbers))}"
        )
    return unflatten_dict(variables)


def classes_in(name: str, path: str | pathlib.Path) -> int:
    """For how many classes a `.weights` file is, by how long it is; 80 where it fits none.

    Raises:
        FileNotFoundError, ValueError: as `from_darknet`, of the name and the header.
    """
    network = made(name, {"num_classes": 80})
    numbers = read_weights(pathlib.Path(os.path.expanduser(path)))
    return fitting(network, variables_of(network), len(numbers)) or 80


def fields_of(name: str, cfg: str | pathlib.Path, **fields: Any) -> dict[str, Any]:
    """Fields for `models.create(name, …)`: `num_classes` and `anchors` as a cfg has them.

    Args:
        name: "yolov3" or "yolov3_tiny".
        cfg: its layers must be ours.
        **fields: of the network, beside these two.

    Returns:
        `fields` and the two.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no cfg, or a layer is another one than ours, or has an option that this
            network cannot follow, such as `scale_x_y` or `new_coords`: the section and the option
            are named.
    """
    path = pathlib.Path(os.path.expanduser(cfg))
    found = read_sections(path)
    heads = [section for section in found if section.kind == "yolo"]
    classes = {section.options["classes"] for section in heads}
    if len(classes) > 1:
        raise ValueError(f"{path}: classes={sorted(classes)} differ between [yolo] sections")
    read = {
        "num_classes": classes.pop() if classes else 80,
        "anchors": tuple(section.options["anchors"] for section in reversed(heads)),
    }
    for field, value in read.items():
        if field in fields and fields[field] != value:
            raise ValueError(f"{field}={fields[field]!r}, but {path} says {value!r}")
    fields = fields | read
    # A cfg without heads, or with others than ours, is refused by its sections, not by its anchors.
    levels = len(made(name, {"num_classes": 1} | without(fields, "num_classes", "anchors")).widths)
    ours = fields if len(heads) == levels else without(fields, "anchors")
    same(path, found, layout(made(name, ours))[0])
    return fields


def without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The fields but for these."""
    return {name: value for name, value in fields.items() if name not in names}


def made(name: str, fields: Mapping[str, Any]) -> Any:
    """A network that Darknet has too."""
    if name not in NAMES:
        raise ValueError(f"name={name!r}: Darknet's weights are read for {', '.join(NAMES)}")
    return models.create(name, **fields)


def read_weights(path: pathlib.Path) -> np.ndarray:
    """The numbers of a `.weights` file, float32, without its header.

    That is three int32, major, minor and revision, and how many images were seen: an int64 from
    version 0.2 on, else an int32.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of weights")
    content = path.read_bytes()
    major, minor, _ = struct.unpack("<iii", content[:12]) if len(content) >= 12 else (0, 0, 0)
    header = 20 if major * 10 + minor >= 2 and max(major, minor) < 1000 else 16
    if len(content) < header:
        raise ValueError(f"{path}: {len(content)} bytes are no header of Darknet's, {header} bytes")
    body = len(content) - header
    if body % 4:
        raise ValueError(f"{path}: it ends within a number: {body} bytes behind the header")
    return np.frombuffer(content, "<f4", offset=header)


def hint(network: Any, shapes: Mapping[tuple[str, ...], Any], found: int) -> str:
    """How many numbers there are and should be; and for how many classes, if that is all."""
    wanted = sum(shape.size for shape in shapes.values())
    said = f": {found:,} numbers, expected {wanted:,} with num_classes={network.num_classes}"
    classes = fitting(network, shapes, found)
    return f"{said}; they would fit num_classes={classes}" if classes else said


def fitting(network: Any, shapes: Mapping[tuple[str, ...], Any], found: int) -> int:
    """For how many classes a network would have so many numbers; 0 where for none."""
    each = sum(
        len(anchors) * (2 * width + 1)
        for anchors, width in zip(network.anchors, network.widths, strict=True)
    )
    classes, rest = divmod(found - sum(shape.size for shape in shapes.values()), each)
    return 0 if rest else max(network.num_classes + classes, 0)


def variables_of(network: Any) -> dict[tuple[str, ...], Any]:
    """Shapes of a network's variables by their path; nothing is allocated."""
    side = network.input_size(1)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return flatten_dict(
        jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)
    )


def parts(layer: Layer, shapes: Mapping[tuple[str, ...], Any]) -> list[tuple[str, ...]]:
    """Paths of a convolution's variables, in a file's order."""
    module = tuple(layer.module.split("/"))
    if ("params", *module, "bias") in shapes:
        return [("params", *module, "bias"), ("params", *module, "kernel")]
    return [
        ("params", *module, "norm", "bias"),
        ("params", *module, "norm", "scale"),
        ("batch_stats", *module, "norm", "mean"),
        ("batch_stats", *module, "norm", "var"),
        ("params", *module, "conv", "kernel"),
    ]


def layout(network: Any) -> tuple[list[Section], list[Layer]]:
    """A YOLOv3 as Darknet counts it: its sections, and those of them that have weights."""
    sections: list[Section] = []
    layers: list[Layer] = []

    def add(kind: str, **options: Any) -> int:
        sections.append(Section(kind, options))
        return len(sections) - 1

    def conv(module: str, filters: int, size: int, stride: int = 1, *, last: bool = False) -> int:
        options = {"filters": filters, "size": size, "stride": stride, "padding": size // 2}
        plain = {"batch_normalize": int(not last), "activation": "linear" if last else "leaky"}
        at = add("convolutional", **options, **plain)
        layers.append(Layer(module, at))
        return at

    ends = add_darknet(network.backbone, add, conv)[-len(network.widths) :]
    end = ends[-1]
    for level in range(len(network.widths), 0, -1):
        width, anchors = network.widths[level - 1], network.anchors[level - 1]
        if level < len(network.widths):
            add("route", layers=(end,))
            conv(f"neck/level{level}_route", width, 1)
            above = add("upsample", stride=2)
            end = add("route", layers=(above, ends[level - 1]))
        for number in range(1, network.depths[level - 1] + 1):
            features, size = (width, 1) if number % 2 else (2 * width, 3)
            end = conv(f"neck/level{level}_layer{number}", features, size)
        conv(f"head{level}_hidden", 2 * width, 3)
        filters = len(anchors) * (5 + network.num_classes)
        conv(f"head{level}_output", filters, 1, last=True)
        add("yolo", anchors=tuple(map(tuple, anchors)), classes=network.num_classes)
    return sections, layers


def add_darknet(backbone: Any, add: Any, conv: Any) -> list[int]:
    """Adds the sections of a backbone; where each of its maps comes from."""
    ends = []
    if isinstance(backbone, Darknet):
        conv("backbone/stem", backbone.stem_features, 3)
        for stage, (blocks, channels) in enumerate(
            zip(backbone.stages, backbone.channels, strict=True), 1
        ):
            end = conv(f"backbone/stage{stage}_down", channels, 3, 2)
            for number in range(1, blocks + 1):
                block = f"backbone/stage{stage}_block{number}"
                conv(f"{block}/reduce", channels // 2, 1)
                conv(f"{block}/expand", channels, 3)
                end = add("shortcut", layers=(end,), activation="linear")
            ends.append(end)
        return ends
    for number, features in enumerate(backbone.features, 1):
        if number > 1:
            add("maxpool", size=2, stride=1 if number == len(backbone.features) else 2)
        ends.append(conv(f"backbone/conv{number}", features, 3))
    return [*ends[:-2], ends[-1]]
