"""Networks and normalization layers. Knows no files but weights."""
