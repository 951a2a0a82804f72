"""PyTorch's detectors of `experiments.benchmark --what step`, and what each learns.

`torch_step.py` imports this file in its interpreter; nothing of this project does.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

TINY_ANCHORS = (
    ((10, 14), (23, 27), (37, 58)),
    ((81, 82), (135, 169), (344, 319)),
)
STRIDES = (16, 32)


def detector(spec):
    """(network, () -> loss) on one fixed batch of noise.

    Raises:
        ValueError: it is none that is known here.
    """
    makers = {"fasterrcnn_resnet18_fpn": faster_rcnn, "yolov3_tiny": yolo_v3_tiny}
    if spec["model"] not in makers:
        raise ValueError(f"there is no detector {spec['model']!r} in torch to compare with")
    images = torch.rand(spec["batch_size"], 3, spec["size"], spec["size"])
    return makers[spec["model"]](spec, images)


def faster_rcnn(spec, images):
    """torchvision's own, with its own numbers; images as they are, BatchNorm trained as ours."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    size = {"min_size": spec["size"], "max_size": spec["size"], "_skip_resize": True}
    network = FasterRCNN(backbone, spec["classes"], **size)
    rows = torch.tensor(spec["objects"])
    targets = [{"boxes": one[:, :4], "labels": one[:, 4].long() + 1} for one in rows]
    return network, lambda: sum(network(list(images), targets).values())


def yolo_v3_tiny(spec, images):
    """Darknet's loss, but which prediction is whose is found once, before the first step.

    Ours finds it in every step, and also which predictions overlap an object so far that they are
    no negatives; here all others are.
    """
    network = YOLOv3Tiny(spec["classes"])
    images = ((images - 0.5) / 0.5).to(memory_format=torch.channels_last)
    rows = torch.tensor(spec["objects"])
    count = len(rows)
    shapes = torch.tensor(TINY_ANCHORS, dtype=torch.float32).reshape(-1, 2)
    x, y = (rows[..., :2] + rows[..., 2:4]).movedim(-1, 0) / 2
    sizes = rows[..., 2:4] - rows[..., :2]
    inner = torch.minimum(sizes[:, :, None], shapes).prod(-1)
    best = (inner / (sizes.prod(-1)[..., None] + shapes.prod(-1) - inner)).argmax(-1)
    # A level's predictions are (image, anchor, row, column).
    levels = []
    for level, stride in enumerate(STRIDES):
        image, number = torch.nonzero(best // 3 == level, as_tuple=True)
        at = image, best[image, number] % 3
        at += tuple((v[image, number] / stride).long() for v in (y, x))
        place = torch.stack([x[image, number], y[image, number]], -1) / stride % 1
        own = sizes[image, number]
        grown = torch.log(own / shapes[best[image, number]])
        weight = 2 - own.prod(-1) / spec["size"] ** 2
        classes = F.one_hot(rows[image, number, 4].long(), spec["classes"]).float()
        side = spec["size"] // stride
        there = torch.zeros(count, 3, side, side)
        there[at] = 1
        levels.append((at, place, grown, weight, classes, there))

    def loss():
        total = 0
        for output, (at, place, grown, weight, classes, there) in zip(
            network(images), levels, strict=True
        ):
            own = output.float().unflatten(1, (3, 5 + spec["classes"])).movedim(2, -1)
            total += F.binary_cross_entropy_with_logits(own[..., 4], there, reduction="sum")
            mine = own[at]
            off = (mine[:, :2].sigmoid() - place).square() + (mine[:, 2:4] - grown).square()
            total += (weight[:, None] * off).sum() / 2
            total += F.binary_cross_entropy_with_logits(mine[:, 5:], classes, reduction="sum")
        return total / count

    return network, loss


class Layer(nn.Sequential):
    """A convolution, BatchNorm and leaky ReLU: (B, C, H, W) -> (B, features, H, W)."""

    def __init__(self, channels, features, kernel):
        super().__init__(
            nn.Conv2d(channels, features, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(features, eps=1e-6),
            nn.LeakyReLU(0.1, inplace=True),
        )


class YOLOv3Tiny(nn.Module):
    """(B, 3, H, W) -> (B, 3 * (5 + classes), h, w) at strides 16 and 32."""

    def __init__(self, classes):
        super().__init__()
        features = (16, 32, 64, 128, 256, 512, 1024)
        self.layers = nn.ModuleList(
            Layer(c, f, 3) for c, f in zip((3, *features), features, strict=False)
        )
        outputs = 3 * (5 + classes)
        self.reduce, self.route = Layer(1024, 256, 1), Layer(256, 128, 1)
        self.hidden1, self.output1 = Layer(384, 256, 3), nn.Conv2d(256, outputs, 1)
        self.hidden2, self.output2 = Layer(256, 512, 3), nn.Conv2d(512, outputs, 1)

    def forward(self, x):
        for number, layer in enumerate(self.layers, 1):
            if number == len(self.layers):
                x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, 1)
            elif number > 1:
                x = F.max_pool2d(x, 2)
            x = layer(x)
            if number == 5:
                fine = x
        x = self.reduce(x)
        up = F.interpolate(self.route(x), scale_factor=2)
        return (
            self.output1(self.hidden1(torch.cat([up, fine], 1))),
            self.output2(self.hidden2(x)),
        )
