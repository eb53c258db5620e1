"""Weights files of frozen networks: where to get them, where they are looked up, how they are read and written."""
