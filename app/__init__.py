"""The web page: reads runs, calls ``uncus.pipeline.predict``, computes nothing of its own."""
