"""What the files of a run must be before anything in them is used."""
