"""NIfTI, Analyze and MGZ files as volumes in RAS+."""
