"""Writes transposed.npz, PyTorch's ConvTranspose1d and 2d in float64: `python transposed.py`.

Needs PyTorch, which no test does. Each case holds what goes in (x, the parameters, the output's
cotangent), what comes out (y and the gradients), all in PyTorch's layout, and the layer's arguments
as JSON. Values are drawn by NumPy from their own names, and rounded to float32.
"""

import json
import pathlib

import numpy as np
import torch

# batch, channels, spatial…; arguments of the layer
CASES = {
    "1-D": ((2, 3, 5), {"out_channels": 4, "kernel_size": [3]}),
    "1-D, all": (
        (2, 4, 5),
        {
            "out_channels": 6,
            "kernel_size": [4],
            "stride": [3],
            "padding": [2],
            "output_padding": [2],
            "dilation": [2],
            "groups": 2,
        },
    ),
    "2x2, stride 2": ((1, 4, 3, 4), {"out_channels": 3, "kernel_size": [2, 2], "stride": [2, 2]}),
    "3x3, stride 2, output padded": (
        (1, 3, 3, 4),
        {
            "out_channels": 2,
            "kernel_size": [3, 3],
            "stride": [2, 2],
            "padding": [1, 1],
            "output_padding": [1, 1],
        },
    ),
    "axes differ, groups": (
        (1, 4, 3, 4),
        {
            "out_channels": 6,
            "kernel_size": [4, 3],
            "stride": [3, 1],
            "padding": [0, 1],
            "output_padding": [2, 1],
            "dilation": [1, 2],
            "groups": 2,
        },
    ),
    "padding beyond the kernel": (
        (1, 2, 6, 5),
        {
            "out_channels": 3,
            "kernel_size": [2, 1],
            "stride": [2, 3],
            "padding": [2, 1],
            "output_padding": [1, 2],
        },
    ),
    "depthwise, stride above the kernel": (
        (2, 3, 3, 2),
        {
            "out_channels": 3,
            "kernel_size": [2, 2],
            "stride": [3, 4],
            "output_padding": [0, 3],
            "groups": 3,
        },
    ),
}


def drawn(name, shape):
    """Values that depend on the name and the shape alone."""
    values = np.random.default_rng(list(name.encode())).normal(size=shape)
    return torch.from_numpy(values.astype(np.float32).astype(np.float64))


def main():
    arrays = {}
    for case, (shape, arguments) in CASES.items():
        kind = torch.nn.ConvTranspose1d if len(shape) == 3 else torch.nn.ConvTranspose2d
        layer = kind(shape[1], **arguments, dtype=torch.float64)
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                parameter.copy_(drawn(f"{case}/{name}", parameter.shape))
        x = drawn(f"{case}/x", shape).requires_grad_()
        y = layer(x)
        cotangent = drawn(f"{case}/cotangent", y.shape)
        y.backward(cotangent)
        values = {"x": x, "weight": layer.weight, "bias": layer.bias}
        gradients = {f"{name}_gradient": value.grad for name, value in values.items()}
        for name, value in {**values, "y": y, "cotangent": cotangent, **gradients}.items():
            arrays[f"{case}/{name}"] = value.detach().numpy()
        arrays[f"{case}/arguments"] = np.array(json.dumps(arguments))
    for name in [
        name for name in arrays if name.endswith(("/x", "/weight", "/bias", "/cotangent"))
    ]:
        arrays[name] = arrays[name].astype(np.float32)
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
