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
"""Sets whose mirror image keeps its label. Digits, letters and signs (mnist, emnist, kmnist,
svhn_cropped, omniglot, ...) are not among them; a set that nobody has judged counts as one."""

ONE_BASED = frozenset(("voc",))
"""Sets that keep corners which are 1-based and inclusive; all others' are continuous."""

MASKS = {"oxford_iiit_pet": {"background": 2, "pet": 1, "border": 3}}
"""Set -> the classes' names, in order, and their values in a mask, where the files do not say."""
