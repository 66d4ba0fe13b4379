"""Whether a saliency map says where: a map that is the same everywhere in the brain does not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHADES = 255
"""Steps of a color scale; values that differ by less than one have the same color."""
NO_STRUCTURE = (
    "The map is the same everywhere in the brain and says nothing of where the evidence is: it is "
    "not shown. Grad-CAM gives such maps where the last feature map is one voxel; try another "
    "method."
)


def lacks_structure(saliency: NDArray[Any], brain: NDArray[np.bool_]) -> bool:
    """Whether a map [X, Y, Z] varies in the ``brain`` by less than one shade of its largest value.

    True of a map that is 0 everywhere, and where the brain is empty.
    """
    values = saliency[brain]
    top = float(np.abs(values).max(initial=0))
    return top == 0 or float(np.ptp(values)) < top / SHADES
