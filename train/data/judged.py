"""What somebody has judged of sets of TFDS by name, since their files do not say it."""

# fmt: off
MIRRORED = frozenset((
    "beans", "caltech101", "caltech_birds2011", "cars196", "cassava", "cats_vs_dogs", "cifar10",
    "cifar100", "cifar10_1", "coco", "colorectal_histology", "deep_weeds", "dtd", "eurosat",
    "fashion_mnist", "food101", "horses_or_humans", "imagenet2012", "imagenet2012_subset",
    "imagenet_a", "imagenet_r", "imagenet_resized", "imagenet_v2", "imagenette", "imagewang",
    "malaria", "oxford_flowers102", "oxford_iiit_pet", "patch_camelyon", "places365_small",
    "plant_village", "resisc45", "rock_paper_scissors", "stanford_dogs", "stl10", "tf_flowers",
    "uc_merced", "voc", "wider_face",
))
# fmt: on
"""Sets whose mirror image keeps its label."""

# fmt: off
NOT_MIRRORED = frozenset((
    "binarized_mnist", "binary_alpha_digits", "cmaterdb", "dsprites", "emnist", "kmnist", "mnist",
    "mnist_corrupted", "omniglot", "svhn_cropped",
))
# fmt: on
"""Digits and letters, and what is labelled by where it is: a mirror image is of another class, or
of none."""

ONE_BASED = frozenset(("voc",))
"""Sets that keep corners which are 1-based and inclusive; all others' are continuous."""

MASKS = {"oxford_iiit_pet": {"background": 2, "pet": 1, "border": 3}}
"""Set -> the classes' names, in order, and their values in a mask, where the files do not say."""

LONGEST = {"speech_commands": 16000}
"""Set of sounds -> steps of the longest: a second at most (Warden 2018). Others are read for it."""


def mirror(name: str) -> bool | None:
    """Whether a mirror image keeps its label; None where nobody has judged it."""
    if name in NOT_MIRRORED:
        return False
    return True if name in MIRRORED else None
