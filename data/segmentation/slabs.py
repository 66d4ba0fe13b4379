"""Structures at 1 mm in a coronal slab through hippocampi and ventricles, ten slices thick.

The slab lies where that of OASIS-1 lies, in an atlas smaller than ICBM152.
"""

import numpy as np

SPACING, SHAPE = 1.0, (144, 10, 144)  # of the slab in its atlas: mm, voxels
CLASSES = {
    "outside": (),
    "cerebrospinal fluid": (24, 72, 85),
    "cortex": (3, 42),
    "white matter": (2, 41, 77, 25, 57, 30, 62),
    "cerebellum": (7, 8, 46, 47),
    "brain stem": (16, 28, 60),
    "lateral ventricle": (4, 43),
    "inferior horn": (5, 44),
    "third ventricle": (14, 15),
    "choroid plexus": (31, 63),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "thalamus": (10, 49),
    "basal ganglia": (11, 12, 13, 26, 50, 51, 52, 58, 136, 137, 163, 164),
}
"""The network's classes, each with FreeSurfer's numbers for it; both sides have the same."""
# Index -> mm of ICBM152, of OASIS-1's whole field of view (176 x 10 x 176): of the mean slab of
# people over 60, registered by mutual information. The brain lies in the part from ``START``.
START = (14, 0, 12)
SLAB_TO_MNI = np.diag([1.10, 1.05, 1.03, 1.0])
SLAB_TO_MNI[:3, 3] = np.array([0.6, -25.9, 13.5]) - SLAB_TO_MNI[:3, :3] @ [87.5, 4.5, 87.5]
TO_MNI = SLAB_TO_MNI.copy()
TO_MNI[:3, 3] += SLAB_TO_MNI[:3, :3] @ START
