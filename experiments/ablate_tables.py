"""Ablations that are built in: questions of the lecture and of the papers, on Fashion-MNIST.

python experiments/ablate.py --table depth --workdir DIR    likewise shortcut, augmentation, …

Networks and recipe are those of `ablation_nets.py`: five seeds a row, on a fixed part of the images
that train; the weights of the last step are judged once, on all 10,000 test images. Nothing was
tuned on these.

Each table is made to end within 100 minutes on two CPU cores; docs/ablations.md has their times.
"""

from train.ablation import Ablation

NETS = "experiments.ablation_nets"
FASHION_MNIST = {"data": "fashion_mnist", "steps": 1000}

DEPTH = Ablation(
    experiment=NETS,
    base=FASHION_MNIST | {"size": 14},
    within=[{"model": model} for model in ("resnet20", "resnet32", "resnet44")],
    changes=[{"shortcut": "none"}],
    baseline="residual",
    title="Plain against residual networks, by depth",
)
"""He et al. 2015, section 4: plain networks get worse as they get deeper, residual ones do not.
Shortcuts A, without parameters; images of 14x14."""

SHORTCUT = Ablation(
    experiment=NETS,
    base=FASHION_MNIST | {"model": "resnet20", "size": 14},
    changes=[{"shortcut": "B"}, {"shortcut": "C"}],
    baseline="shortcut=A",
    title="Shortcuts of zeros (A), projections where the shape changes (B), and everywhere (C)",
)
"""He et al. 2015, table 3; images of 14x14."""

AUGMENTATION = Ablation(
    experiment=NETS,
    base=FASHION_MNIST | {"examples": 2000, "augment": "none"},
    changes=[
        {"augment": "basic", "mirror": "no"},
        {"augment": "basic", "pad": 0},
        {"augment": "trivialaugment", "pad": 0, "mirror": "no"},
        {"erasing": 0.5},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"augment": "trivialaugment", "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0},
    ],
    baseline="none",
    title="No augmentation against each alone and all together",
)
"""Crops, mirror images, TrivialAugment, erasing, mixup, CutMix, all. 2,000 images, 64 times each:
where data are few is where it should help."""

KERNEL = Ablation(
    experiment=NETS,
    base=FASHION_MNIST | {"stages": (3, 3, 3)},
    changes=[
        {"stages": (2, 2, 2), "dilations": (1, 2)},
        {"stages": (1, 1, 1), "kernel_size": 7},
        {"stages": (1, 1, 1), "dilations": (3,)},
    ],
    baseline="three 3x3",
    title="Kernel size and dilation at one receptive field, 7x7 a stage",
)
"""Simonyan & Zisserman 2014, section 2.3: three 3x3 see what one 7x7 does, with 27 weights for 49
and two more nonlinearities. So do two, the second dilated 2, and one dilated 3, which reads 9 of
the 49. Every output sees 46x46 pixels, of 28x28 and the zeros around them. Parameters are not
equal; the table shows them."""

DOWNSAMPLE = Ablation(
    experiment=NETS,
    base=FASHION_MNIST,
    changes=[{"downsample": "average"}, {"downsample": "subsample"}, {"downsample": "stride"}],
    baseline="downsample=max",
    title="Pooling by maximum or average, every second value, or a strided convolution",
)
"""All with the same parameters; a strided convolution costs a quarter of what it does elsewhere."""

TABLES: dict[str, Ablation] = {
    "depth": DEPTH,
    "shortcut": SHORTCUT,
    "augmentation": AUGMENTATION,
    "kernel": KERNEL,
    "downsample": DOWNSAMPLE,
}
"""Name of a table, as `ablate.py --table` takes it."""
