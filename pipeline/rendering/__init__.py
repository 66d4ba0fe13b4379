"""HTML, SVG and slices that every page draws with."""
