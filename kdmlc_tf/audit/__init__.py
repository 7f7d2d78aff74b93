"""The audit of a run: which labels of its noisy set are wrong, and what they should be."""
