"""What the networks learn from: sources, splits, label noise, augmentation, batches."""
