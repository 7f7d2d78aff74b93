"""The corrector: from a noisy example's features and its given label to a pseudo-label."""

import keras
import tensorflow as tf

from kdmlc_tf.networks.classifier import precise_dtype
from kdmlc_tf.networks.seeding import seeded_initialisers


@keras.saving.register_keras_serializable(package="kdmlc_tf")
class Corrector(keras.Model):
    """g_α: an MLP over the teacher's features h and an embedding of the given label y'.

    With e = E[y'], x1 = tanh([h, e] M1 + c1) and x2 = tanh(x1 M2 + c2):

        p = softmax(x2 M3 + c3)

    and with the gate, where a = sigmoid(x2 m + c) is one number per example:

        p = (1 - a) softmax(x2 M3 + c3) + a onehot(y')

    As a residual it is given logits u to start from, constants, and adds to them:

        p = softmax(u + x2 M3 + c3)     with M3 = 0 and c3 = 0 at first, so that p = softmax(u)

    The embedding is a product with the one-hot label, not a gather: its gradient is then a dense
    tensor of fixed shape, which averages over replicas and compiles under XLA like the others.

    Args:
      num_classes: K.
      embedding_size: width of E.
      hidden_size: width of x1 and of x2.
      gate: whether p mixes in the given label.
      residual: whether it starts from logits that it is given.
      seed: of the initial weights; None draws one from Python's `random`.
      **kwargs: for keras.Model: name, dtype. Without a dtype: float64 under a float64 policy,
        float32 under every other, mixed precision included.

    Trainable weights in order: E, M1, c1, M2, c2, M3, c3 and, with the gate, m, c.

    Source: Zheng et al. 2021 (MLC), section 3; initial weights as in the authors' code.
    """

    def __init__(
        self,
        num_classes,
        *,
        embedding_size=128,
        hidden_size=128,
        gate=False,
        residual=False,
        seed=None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", precise_dtype())
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.gate = gate
        self.residual = residual
        self.seed = seed

        def dense(units, activation, name, kernel_initializer="glorot_normal"):
            return keras.layers.Dense(
                units,
                activation,
                kernel_initializer=kernel_initializer,
                dtype=self.dtype_policy,
                name=name,
            )

        with seeded_initialisers(seed):
            self._embedding_initialiser = keras.initializers.GlorotUniform()
            self.hidden_1 = dense(hidden_size, "tanh", "hidden_1")
            self.hidden_2 = dense(hidden_size, "tanh", "hidden_2")
            start = "zeros" if residual else "glorot_normal"
            self.proposal = dense(num_classes, None, "proposal", start)
            self.gate_unit = dense(1, "sigmoid", "gate") if gate else None

    def build(self, input_shape):
        """Makes the weights.

        Args:
          input_shape: size of the features, an int; or the inputs' shapes as a dict.
        """
        if isinstance(input_shape, dict):
            input_shape = input_shape["features"][-1]
        self.embedding = self.add_weight(
            shape=(self.num_classes, self.embedding_size),
            initializer=self._embedding_initialiser,
            name="embedding",
        )
        self.hidden_1.build((None, input_shape + self.embedding_size))
        self.hidden_2.build((None, self.hidden_size))
        self.proposal.build((None, self.hidden_size))
        if self.gate_unit is not None:
            self.gate_unit.build((None, self.hidden_size))
        self.built = True

    def call(self, inputs):
        """Pseudo-labels.

        Args:
          inputs: {"features": float tensor [batch, f], "labels": int tensor [batch], the given
            labels, each in 0 .. K-1}; a residual also takes "start", float tensor [batch, K], u.

        Returns:
          Float tensor [batch, K]; rows sum to 1.
        """
        given = self._one_hot(inputs["labels"])
        gate, proposal = self._gate_and_proposal(inputs, given)
        return proposal if gate is None else (1 - gate) * proposal + gate * given

    def gate_and_proposal(self, inputs):
        """The two parts of the mixture, for monitoring.

        Args:
          inputs: as for `call`.

        Returns:
          (a, softmax): float tensors [batch] and [batch, K]; a is None without the gate.
        """
        inputs = {**inputs, "features": tf.cast(inputs["features"], self.compute_dtype)}
        if not self.built:
            self.build(inputs["features"].shape[-1])
        gate, proposal = self._gate_and_proposal(inputs, self._one_hot(inputs["labels"]))
        return None if gate is None else gate[:, 0], proposal

    def _one_hot(self, labels):
        return tf.one_hot(labels, self.num_classes, dtype=self.compute_dtype)

    def _gate_and_proposal(self, inputs, given):
        features = inputs["features"]
        embedded = tf.matmul(given, tf.convert_to_tensor(self.embedding))
        hidden = self.hidden_2(self.hidden_1(tf.concat([features, embedded], axis=-1)))
        gate = None if self.gate_unit is None else self.gate_unit(hidden)
        logits = self.proposal(hidden)
        if self.residual:
            logits += tf.cast(inputs["start"], logits.dtype)
        return gate, tf.nn.softmax(logits)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "embedding_size": self.embedding_size,
            "hidden_size": self.hidden_size,
            "gate": self.gate,
            "residual": self.residual,
            "seed": self.seed,
        }
