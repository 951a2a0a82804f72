"""What the fields of a backbone in stages must be."""


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
