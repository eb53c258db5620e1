"""Weights files of frozen networks: who publishes them, where they are found, what is in them."""
