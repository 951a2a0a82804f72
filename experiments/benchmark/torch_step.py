"""PyTorch's side of `experiments.benchmark --what step`: one network, one training step, timed.

Another interpreter runs this file, the one that `--torch-python` names. It needs torch and
torchvision and, of this project, `rounds.py` and the `torch_….py` beside it alone; nothing of this
project imports it:

    python torch_step.py '{"model": "resnet20", "task": "classification", "fields": {}, "size": 32,
                           "classes": 10, "batch_size": 128, "dtype": "float32", "seconds": 4,
                           "objects": [], "compile": false}'
"""

import torch
import torch.nn.functional as F
import torchvision
from rounds import answer
from torch import nn
from torch_detectors import detector
from torch_signals import network_of

CIFAR = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
"""Blocks of each of the three stages (He et al. 2015, section 4.2)."""


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A).

    (B, C, H, W) -> (B, features, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, channels, features, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(features)
        self.stride, self.more = stride, features - channels

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x, inplace=True)


class OnCIFAR(nn.Module):
    """ResNet of 6 * blocks + 2 layers for images of 32x32: (B, 3, 32, 32) -> (B, classes)."""

    def __init__(self, blocks, classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        stages = []
        for channels, features in ((16, 16), (16, 32), (32, 64)):
            stages.append(Block(channels, features, 1 if channels == features else 2))
            stages += [Block(features, features, 1) for _ in range(blocks - 1)]
        self.stages, self.head = nn.Sequential(*stages), nn.Linear(64, classes)

    def forward(self, x):
        x = self.stages(F.relu(self.norm(self.conv(x)), inplace=True))
        return self.head(x.mean((2, 3)))


class Level(nn.Sequential):
    """Two 3x3 convolutions with BatchNorm and ReLU: (B, C, H, W) -> (B, features, H, W)."""

    def __init__(self, channels, features):
        layers = []
        for inputs in (channels, features):
            layers += [
                nn.Conv2d(inputs, features, 3, padding=1, bias=False),
                nn.BatchNorm2d(features),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net that keeps the size: (B, 3, H, W) -> (B, classes, H, W)."""

    def __init__(self, classes, features):
        super().__init__()
        self.down = nn.ModuleList(map(Level, (3, *features), features))
        self.pool = nn.MaxPool2d(2)
        below = features[:0:-1]
        self.above = nn.ModuleList(nn.ConvTranspose2d(f, f // 2, 2, 2) for f in below)
        self.up = nn.ModuleList(
            Level(features[-number - 1] + f // 2, features[-number - 1])
            for number, f in enumerate(below, 1)
        )
        self.head = nn.Conv2d(features[0], classes, 1)

    def forward(self, x):
        maps = []
        for number, level in enumerate(self.down):
            x = level(self.pool(x) if number else x)
            maps.append(x)
        for number, (above, level) in enumerate(zip(self.above, self.up, strict=True), 2):
            x = level(torch.cat([maps[-number], above(x)], 1))
        return self.head(x)


def create(name, classes, fields):
    """The network that this project knows by the name.

    Raises:
        ValueError: torchvision has none of that name.
    """
    if name == "unet":
        return UNet(classes, **fields)
    if name in CIFAR:
        return OnCIFAR(CIFAR[name], classes)
    if name == "resnet18_cifar":
        network = torchvision.models.resnet18(num_classes=classes)
        network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
        return network
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"torchvision has no network {name!r}")
    return torchvision.models.get_model(name, num_classes=classes)


def classifier(spec):
    """(network, () -> cross-entropy of images, pixels or signals) on one fixed batch of noise."""
    if spec["task"] == "sequence":
        network = network_of(spec["model"], spec["classes"])
        images = torch.randn(spec["batch_size"], 1, spec["size"])
    else:
        network = create(spec["model"], spec["classes"], spec["fields"])
        images = torch.randn(spec["batch_size"], 3, spec["size"], spec["size"])
        images = images.to(memory_format=torch.channels_last)
    pixels = images.shape[2:] if spec["task"] == "segmentation" else ()
    labels = torch.randint(0, spec["classes"], (spec["batch_size"], *pixels))
    forward = torch.compile(network) if spec["compile"] else network
    return network, lambda: F.cross_entropy(forward(images).float(), labels)


def training_step(spec):
    """() -> None: forward, loss, backward, and SGD with momentum, on one fixed batch.

    Raises:
        ValueError: it can't be had compiled.
    """
    torch.manual_seed(0)
    detects = spec["task"] == "detection"
    if detects and spec["compile"]:
        raise ValueError("detectors run eagerly alone")
    network, loss = detector(spec) if detects else classifier(spec)
    network.to(memory_format=torch.channels_last).train()
    rate = 1e-3 if detects else 0.1
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    narrow = spec["dtype"] == "bfloat16"

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def start(spec):
    """See `rounds.answer`."""
    facts = {"version": f"torch {torch.__version__}", "threads": torch.get_num_threads()}
    return facts, training_step(spec), lambda: None


if __name__ == "__main__":
    answer(start)
