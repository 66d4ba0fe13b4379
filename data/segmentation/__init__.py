"""Classes of a head's segmentation, volumes of regions, and their centiles."""
