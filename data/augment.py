"""The ranges of the training augmentation, see uncus.data.transforms.augmentation."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Augment:
    """Ranges of the random changes to training volumes, each symmetric and drawn uniformly.

    Ranges along or about the axes are one number, or three for x, y and z: a thin slab is best not
    rotated out of its plane.
    """

    flip: float = 0.5
    """Probability of a left-right flip."""
    rotate: tuple[float, ...] = (5.0,)
    """Largest rotation about each axis, in degrees; one number, or three for x, y and z."""
    scale: tuple[float, ...] = (0.05,)
    """Largest relative change of size along each axis; one number or three."""
    translate: tuple[float, ...] = (3.0,)
    """Largest shift along each axis, in mm; one number or three."""
    intensity: float = 0.1
    """Largest change of contrast (relative) and brightness (in standard deviations)."""
    bias: float = 0.1
    """Largest coefficient of a smooth multiplicative bias field (second-order polynomial)."""
    noise: float = 0.05
    """Largest standard deviation of added noise, in standard deviations of the brain."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            if isinstance(value, tuple) and len(value) not in (1, 3):
                raise ValueError(
                    f"augmentation {field.name}: {len(value)} numbers; "
                    "give one for all axes, or three for x, y and z"
                )
            if not all(0 <= v < 90 and (v <= 1 or field.name not in SHARES) for v in values):
                limit = "at most 1" if field.name in SHARES else "below 90"
                raise ValueError(
                    f"augmentation {field.name}={value}: must be 0 (off) or positive, {limit}"
                )


SHARES = frozenset({"flip", "scale", "intensity"})
"""At most 1, so that sizes and contrasts stay positive."""
