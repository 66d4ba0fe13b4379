"""How a run's predictions change when its scans are disturbed."""
