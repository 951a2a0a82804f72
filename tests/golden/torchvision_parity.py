"""Writes torchvision_NAME.npz, what networks of torchvision compute: `python torchvision_parity.py`

Needs torchvision, which no test does. Weights and images are those of torchvision_inputs.py, the
arithmetic is float64. A file holds, all in torchvision's names and its order of axes:

- shapes: JSON, name -> shape of each tensor of the state_dict
- x: JSON, shape of the images
- eval/logits, train/logits, train/AUXILIARY: (B, classes); of pixels SAMPLES values, and /scale
- eval/MODULE, train/MODULE: SAMPLES values of what a module yields, at positions that depend on the
  name and the size; and MODULE/scale, the largest magnitude of all values
- train/NAME of running statistics: after one step in training, sampled as well; of segmenters the
  heads' alone. Nothing is dropped
"""

import json
import pathlib
import sys
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torchvision_inputs import images, sampled, weights

CLASSES = 10


class Case(NamedTuple):
    """What goes into a network, and what is kept of what it computes."""

    x: tuple[int, int, int, int]
    """Shape of the images."""
    modules: list[str]
    """Whose outputs our backbones yield."""
    train: bool = True
    """Whether in training too."""


SEGMENTERS = ("fcn_resnet50", "deeplabv3_resnet50")
STAGES = ["layer1", "layer2", "layer3", "layer4"]
CASES = {
    "resnet18": Case((3, 3, 65, 50), STAGES),
    "resnext50_32x4d": Case((3, 3, 65, 50), STAGES, train=False),
    "alexnet": Case((2, 3, 127, 95), [f"features.{n}" for n in (1, 4, 11, 12)], train=False),
    "vgg11_bn": Case(
        (2, 3, 96, 64), [f"features.{n}" for n in (2, 6, 13, 20, 27, 28)], train=False
    ),
    "googlenet": Case((4, 3, 97, 84), ["inception4a", "inception4d", "inception5b"]),
    # Its auxiliary head needs 299x299 in training.
    "inception_v3": Case((2, 3, 139, 107), ["Mixed_6e", "Mixed_7c"], train=False),
    # Their logits before they are brought to the image's size.
    **dict.fromkeys(SEGMENTERS, Case((3, 3, 65, 50), ["classifier", "aux_classifier"])),
}


def build(name, **fields):
    """A network of torchvision in float64 with the drawn weights, without dropout."""
    if name in ("googlenet", "inception_v3"):
        fields = {"init_weights": False, "transform_input": True, "aux_logits": True} | fields
    if name in SEGMENTERS:
        fields = {"weights_backbone": None, "aux_loss": True} | fields
    network = torchvision.models.get_model(name, num_classes=CLASSES, **fields).double()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({k: torch.from_numpy(v) for k, v in weights(shapes).items()})
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network, shapes


def run(network, x, modules):
    """Output, and what the modules yield, by their names."""
    maps, hooks = {}, []
    for name in modules:

        def keep(module, inputs, output, name=name):
            maps[name] = output.detach().clone()

        hooks.append(network.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        output = network(x)
    for hook in hooks:
        hook.remove()
    return output, maps


def main(names):
    for name in names or CASES:
        case = CASES[name]
        network, shapes = build(name)
        x = torch.from_numpy(images(case.x)).double()
        arrays = {"shapes": json.dumps(shapes), "x": json.dumps(case.x)}
        for mode in ("eval", "train")[: 1 + case.train]:
            output, maps = run(network.train(mode == "train"), x, case.modules)
            if name in SEGMENTERS:
                maps |= {"logits": output["out"], "aux_logits1": output["aux"]}
                output = {}
            elif isinstance(output, tuple):
                output = output._asdict()
            else:
                output = {"logits": output}
            for key, value in output.items():
                arrays[f"{mode}/{key}"] = value.numpy()
            for key, value in maps.items():
                arrays[f"{mode}/{key}"] = sampled(key, value.numpy())
                arrays[f"{mode}/{key}/scale"] = value.abs().max().numpy()
        for key, value in network.state_dict().items():
            known = name in SEGMENTERS and key.startswith("backbone.")
            if case.train and not known and key.endswith(("running_mean", "running_var")):
                arrays[f"train/{key}"] = sampled(key, value.numpy(), 8)
        arrays = {
            key: value.astype(np.float32) if isinstance(value, np.ndarray) else np.array(value)
            for key, value in arrays.items()
        }
        file = pathlib.Path(__file__).with_name(f"torchvision_{name}.npz")
        np.savez_compressed(file, **arrays)
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
