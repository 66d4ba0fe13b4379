"""A trained run meets a new site: methods with and without labels of it."""
