"""What the fields of a backbone in stages must be."""

import numpy as np


def check_stages(stages: tuple[int, ...], **channels: tuple[int, ...]) -> None:
    """Refuses stages and their channels that are not one for one.

    Args:
        stages: layers or blocks of each.
        **channels: of each stage, under the name of the backbone's field.

    Raises:
        ValueError: they are empty, not as many, or not above 0.
    """
    ((name, each),) = channels.items()
    as_many = len(stages) == len(each) > 0
    if not as_many or min(*stages, *each) < 1:
        raise ValueError(
            f"stages={stages} and {name}={each} must be as many, at least one, each above 0"
        )


def check_output_stride(output_stride: int | None, strides: tuple[int, ...]) -> None:
    """Refuses an output stride that a backbone cannot dilate to.

    Args:
        output_stride: of the last map; None for the stages' own.
        strides: of the maps, were none dilated.

    Raises:
        ValueError: it is none of them.
    """
    if output_stride is not None and (
        output_stride not in strides or not isinstance(output_stride, int | np.integer)
    ):
        raise ValueError(f"output_stride={output_stride!r} is none of the strides {strides}")
