"""Clothing1M, the paper's data set with real noise: its lists, and a TFDS builder."""
