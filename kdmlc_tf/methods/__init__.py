"""Training methods: keras.Model subclasses whose `train_step` is the algorithm."""
