"""The pages of the web page, and their parts."""
