"""What a run knows of its own outputs, from scans that its networks were not trained on."""
