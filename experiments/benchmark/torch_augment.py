"""PyTorch's side of `experiments.benchmark --what augment`: the same chain in torchvision v2.

Another interpreter runs this file, the one that `--torch-python` names. It needs torch and
torchvision and, of this project, `rounds.py` beside it alone; nothing of this project imports it:

    python torch_augment.py '{"batch_size": 256, "seconds": 4}'

Each image by itself, as a data set does it: a transform of v2 draws once for a whole batch.
"""

import torch
import torchvision
from rounds import answer
from torchvision.transforms import v2

SIZE = 32
MEAN = (120, 120, 120)


class Cutout(torch.nn.Module):
    """A square of 8 about any pixel, black; torchvision has none that may reach over the edge."""

    def forward(self, image):
        """(C, H, W) -> the same."""
        row, column = (int(torch.randint(0, SIZE, ())) for _ in range(2))
        image[:, max(row - 4, 0) : row + 4, max(column - 4, 0) : column + 4] = 0
        return image


def start(spec):
    """See `rounds.answer`."""
    images = torch.randint(0, 256, (spec["batch_size"], 3, SIZE, SIZE), dtype=torch.uint8)
    change = v2.Compose(
        [
            v2.RandomCrop(SIZE, padding=4, fill=MEAN),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(15, interpolation=v2.InterpolationMode.BILINEAR, fill=MEAN),
            v2.ColorJitter(0.2, 0.2, 0.2, 0.05),
            Cutout(),
        ]
    )

    def step():
        torch.stack([change(image) for image in images])

    return {"version": f"torchvision {torchvision.__version__}"}, step, lambda: None


if __name__ == "__main__":
    answer(start)
