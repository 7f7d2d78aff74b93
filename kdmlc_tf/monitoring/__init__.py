"""What is recorded while a method trains: metrics.csv, TensorBoard, the corrector's health."""
