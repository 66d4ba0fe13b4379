"""DICOM series as volumes, decoded in a process of its own."""
