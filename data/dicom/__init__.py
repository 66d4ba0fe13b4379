"""DICOM series as volumes, decoded in a separate process."""
