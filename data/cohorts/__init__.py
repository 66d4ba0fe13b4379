"""Sources of scans (BIDS, CAPS, tables, folders, DICOM trees) as one table."""
