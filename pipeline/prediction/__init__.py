"""From one scan to an answer and its files."""
