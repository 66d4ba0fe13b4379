"""Synthetic T1-weighted heads from label maps, to train the segmentation network on.

As SynthSeg does (Billot et al. 2023, doi:10.1016/j.media.2023.102789): a label map is deformed,
each label gets a random intensity, and blur, noise, a bias field and the faults of real scans are
added. Other than there, most images have intensities like a T1-weighted scan's, and atrophy is
drawn too.
"""
