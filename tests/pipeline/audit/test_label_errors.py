"""What shuffled labels are tested on: it differs between scans, of slabs too."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import ndimage

from uncus.pipeline.audit.label_errors import anatomy
from uncus.pipeline.audit.perceptual_hash import signature


def test_slabs_have_an_anatomy() -> None:
    rng = np.random.default_rng(0)
    slabs = [ndimage.gaussian_filter(rng.normal(size=(69, 10, 69)), 2) + 1 for _ in range(4)]
    facts = [SimpleNamespace(signature=signature(slab, (2, 1, 2))) for slab in slabs]
    evidence: Any = SimpleNamespace(images=SimpleNamespace(facts=facts), firsts=np.arange(3))
    found = anatomy(evidence)
    assert len(found) == 3 and found.shape[1] > 50
    assert np.ptp(found, axis=0).min() > 0
