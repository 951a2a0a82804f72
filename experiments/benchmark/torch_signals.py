"""PyTorch's 1-D networks of `experiments.benchmark --what step`.

`torch_step.py` imports this file in its interpreter; nothing of this project does.
"""

import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def network_of(name, classes):
    """(B, 1, L) -> (B, classes): the network that this project knows by the name.

    Raises:
        ValueError: there is none here.
    """
    makers = {
        "tcn": lambda: TCN((25,) * 8, 7, classes),
        "resnet1d": lambda: ResNet((1, 1, 1), (64, 128, 128), (8, 5, 3), classes),
        "resnet1d_small": lambda: ResNet(
            (2, 2, 2), (32, 64, 128), (3, 3), classes, stride=2, stem=5, circular=True
        ),
    }
    if name not in makers:
        raise ValueError(f"there is no 1-D network {name!r} in torch to compare with")
    return makers[name]()


class Causal(nn.Module):
    """A convolution that sees no later step; it is padded on one side, so nothing is cut off."""

    def __init__(self, channels, features, kernel, dilation):
        super().__init__()
        self.before = dilation * (kernel - 1)
        self.conv = weight_norm(nn.Conv1d(channels, features, kernel, dilation=dilation))

    def forward(self, x):
        return self.conv(F.pad(x, (self.before, 0)))


class TemporalBlock(nn.Module):
    """Two causal convolutions and a shortcut (Bai et al. 2018), without dropout."""

    def __init__(self, channels, features, kernel, dilation):
        super().__init__()
        self.conv1 = Causal(channels, features, kernel, dilation)
        self.conv2 = Causal(features, features, kernel, dilation)
        same = channels == features
        self.shortcut = nn.Identity() if same else nn.Conv1d(channels, features, 1)

    def forward(self, x):
        return F.relu(F.relu(self.conv2(F.relu(self.conv1(x)))) + self.shortcut(x))


class TCN(nn.Module):
    """Level i has dilation 2^i; the head reads the last step."""

    def __init__(self, features, kernel, classes):
        super().__init__()
        self.levels = nn.Sequential(
            *(
                TemporalBlock(before, after, kernel, 2**level)
                for level, (before, after) in enumerate(zip((1, *features), features, strict=False))
            )
        )
        self.head = nn.Linear(features[-1], classes)

    def forward(self, x):
        return self.head(self.levels(x)[:, :, -1])


class Slide(nn.Module):
    """A convolution and BatchNorm that keep the length, but for the stride."""

    def __init__(self, channels, features, kernel, stride=1, circular=False):
        super().__init__()
        self.pads, self.how = (
            ((kernel - 1) // 2, kernel // 2),
            "circular" if circular else "constant",
        )
        self.conv = nn.Conv1d(channels, features, kernel, stride, bias=False)
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x):
        return self.norm(self.conv(F.pad(x, self.pads, self.how) if any(self.pads) else x))


class Residual(nn.Module):
    """Convolutions with ReLU between them, and a shortcut."""

    def __init__(self, channels, features, kernels, stride, circular):
        super().__init__()
        self.layers = nn.ModuleList(
            Slide(features if number else channels, features, k, 1 if number else stride, circular)
            for number, k in enumerate(kernels)
        )
        if channels != features or stride != 1:
            self.shortcut = Slide(channels, features, 1, stride)
        else:  # Wang et al. normalise it
            self.shortcut = nn.Identity() if circular else nn.BatchNorm1d(features)

    def forward(self, x):
        y = x
        for layer in self.layers[:-1]:
            y = F.relu(layer(y), inplace=True)
        return F.relu(self.layers[-1](y) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Stages of residual blocks, the mean of all steps, and a head (Wang et al. 2017)."""

    def __init__(self, stages, features, kernels, classes, stride=1, stem=0, circular=False):
        super().__init__()
        layers = [Slide(1, features[0], stem, 1, circular), nn.ReLU(inplace=True)] if stem else []
        channels = features[0] if stem else 1
        for stage, (blocks, after) in enumerate(zip(stages, features, strict=True)):
            for block in range(blocks):
                by = stride if stage and not block else 1
                layers.append(Residual(channels, after, kernels, by, circular))
                channels = after
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.layers(x).mean(2))
