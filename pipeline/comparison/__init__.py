"""Cells, tables, plots and the page of ``uncus compare``."""
