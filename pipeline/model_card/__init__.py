"""``MODEL_CARD.md``: what a run is, and what is known for and against it."""
