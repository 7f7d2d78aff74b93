"""Meta label correction: a classifier and the corrector that learns to correct its labels."""

import tensorflow as tf

from kdmlc_tf.methods import losses, meta
from kdmlc_tf.methods.base import Method, accuracy
from kdmlc_tf.methods.sgd import check_looks_ahead
from kdmlc_tf.networks import parts


class MLC(Method):
    """Meta label correction on one classifier (Zheng et al., AAAI 2021), look-ahead of one step.

    Args:
      student: keras.Model giving logits; it is corrected and served.
      corrector: a built `Corrector` for the classifier's features.
      recompute_pseudo_labels: update the classifier with the pseudo-labels of the corrector's
        new weights, one more pass, instead of the weights looked ahead to.
      lookahead: part of the classifier that the meta-gradient goes through: "all", "last_stage"
        or "head" (see `parts.positions`). The classifier's own update is always complete.

    Raises:
      ValueError: the classifier has no such part, or not as many classes as the corrector.
    """

    corrected = "student"

    def __init__(
        self, student, corrector, *, recompute_pseudo_labels=False, lookahead="all", name=None
    ):
        super().__init__({"student": student}, corrector, name=name)
        self.set_correction(recompute_pseudo_labels, lookahead)

    def set_correction(self, recompute_pseudo_labels, lookahead):
        """Takes the settings of phases 1 to 3."""
        self.recompute_pseudo_labels = recompute_pseudo_labels
        self.lookahead = lookahead
        self.looked_through = parts.positions(self.networks[self.corrected], lookahead)

    def compile(self, student_optimizer, corrector_optimizer, **kwargs):
        """Compiles; `student_optimizer` must be an SGD (see `check_looks_ahead`)."""
        optimizers = {"student": student_optimizer, "corrector": corrector_optimizer}
        self.compile_correction(optimizers, **kwargs)

    def compile_correction(self, optimizers, **kwargs):
        """Compiles after checking that the corrected network's step can be looked ahead to."""
        check_looks_ahead(optimizers[self.corrected])
        self.compile_networks(optimizers, **kwargs)

    def metric_names(self):
        """The classifiers' and the corrector's."""
        health = ["meta_loss", "pseudo_label_entropy", "pseudo_label_change"]
        gate = ["gate"] if self.corrector.gate else []
        return super().metric_names() + health + gate

    def train_step(self, batch):
        """One step of MLC: look ahead, meta-update, classifier (METHOD.md, phases 1 to 3)."""
        noisy, clean, meta_batch = batch
        ahead, meta_loss = self.correct(noisy, clean, meta_batch)
        return self.track(self.correction_logs(noisy, ahead, meta_loss))

    def correct(self, noisy, clean, meta_batch):
        """Phases 1 to 3: corrector and corrected network learn; what phase 4 needs is returned.

        Returns:
          (LookAhead, L_M): `outputs` of the former is a dict with the "logits" [b + c, classes]
          and "features" of the noisy and the clean images before the update, and the
          "pseudo_labels" [b, classes] looked ahead with.
        """
        network = self.networks[self.corrected]
        optimizer = self.optimizers_by_name[self.corrected]

        # 1. Look ahead: w'(α) = w - η u(G). Nothing is assigned.
        weights = [tf.convert_to_tensor(variable) for variable in network.trainable_variables]
        ahead = meta.look_ahead(lambda w: self.noisy_loss(w, noisy, clean), weights, optimizer)

        # 2. Meta-update: α moves down the clean loss at w'(α).
        meta_loss, gradient = meta.meta_gradient(
            ahead,
            lambda w: self.clean_loss(w, meta_batch),
            [variable.value for variable in self.corrector.trainable_variables],
            scale=self.optimizers_by_name["corrector"].scale_loss(1.0),
            through=self.looked_through,
        )
        self.apply_mean("corrector", gradient)

        # 3. The weights looked ahead to become the weights; batch norm moves once.
        taken = ahead.gradient
        if self.recompute_pseudo_labels:
            taken = meta.look_ahead(
                lambda w: self.noisy_loss(w, noisy, clean), weights, optimizer
            ).gradient
        self.apply_mean(self.corrected, taken)
        for variable, value in zip(
            network.non_trainable_variables, ahead.outputs["statistics"], strict=True
        ):
            variable.assign(value)
        return ahead, meta_loss

    def noisy_loss(self, weights, noisy, clean):
        """L_T(w, α) of this replica, with what its forward pass yields beside it."""
        network = self.networks[self.corrected]
        seen, statistics = network.stateless_call(
            weights,
            network.non_trainable_variables,
            tf.concat([noisy["images"], clean["images"]], axis=0),
            training=True,
        )
        num_noisy = noisy["labels"].shape[0] or tf.shape(noisy["labels"])[0]
        features = tf.stop_gradient(seen["features"])
        pseudo_labels = self.corrected_labels(features[:num_noisy], noisy["labels"])
        targets = self.targets(pseudo_labels, clean)
        outputs = {
            "logits": seen["logits"],
            "features": features,
            "pseudo_labels": pseudo_labels,
            "statistics": statistics,
        }
        return tf.reduce_mean(losses.cross_entropy(targets, seen["logits"])), outputs

    def clean_loss(self, weights, meta_batch):
        """L_M of this replica at the given weights; batch norm's moving statistics stay."""
        network = self.networks[self.corrected]
        seen, _ = network.stateless_call(
            weights, network.non_trainable_variables, meta_batch["images"], training=True
        )
        logits = seen["logits"]
        targets = self.one_hot(meta_batch["labels"], logits.dtype)
        return tf.reduce_mean(losses.cross_entropy(targets, logits))

    def corrected_labels(self, features, labels):
        """Pseudo-labels [b, classes] of labels [b] given features [b, f], with α as it is now."""
        return self.corrector({"features": features, "labels": labels})

    def targets(self, pseudo_labels, clean):
        """Rows [b + c, classes] to learn from on N ∪ C: pseudo-labels, then trusted labels."""
        trusted = self.one_hot(clean["labels"], pseudo_labels.dtype)
        return tf.concat([pseudo_labels, trusted], axis=0)

    def one_hot(self, labels, dtype):
        """Rows [b, classes] of given labels [b]."""
        return tf.one_hot(labels, self.num_classes, dtype=dtype)

    def correction_logs(self, noisy, ahead, meta_loss):
        """What the trackers take of phases 1 to 3: batch means and values per noisy example."""
        pseudo_labels, labels = ahead.outputs["pseudo_labels"], noisy["labels"]
        num_noisy = tf.shape(labels)[0]
        features = ahead.outputs["features"][:num_noisy]
        values = {
            f"{self.corrected}_loss": ahead.loss,
            f"{self.corrected}_accuracy": accuracy(ahead.outputs["logits"][:num_noisy], labels),
            "meta_loss": meta_loss,
            "pseudo_label_entropy": losses.entropy(pseudo_labels),
            "pseudo_label_change": 1 - accuracy(pseudo_labels, labels),
        }
        if self.corrector.gate:
            gate, _ = self.corrector.gate_and_proposal({"features": features, "labels": labels})
            values["gate"] = gate
        return values
