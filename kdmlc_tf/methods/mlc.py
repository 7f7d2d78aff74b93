"""Meta label correction: a classifier and the corrector that learns to correct its labels."""

import tensorflow as tf

from kdmlc_tf.methods import losses, meta
from kdmlc_tf.methods.base import Method, accuracy, student_images
from kdmlc_tf.methods.belief import Belief
from kdmlc_tf.methods.sgd import check_looks_ahead
from kdmlc_tf.networks import parts


class MLC(Method):
    """Meta label correction on one classifier (Zheng et al., AAAI 2021), look-ahead of one step.

    Args:
      student: keras.Model giving logits; it is corrected and served.
      corrector: a built `Corrector` for the classifier's features. A residual one starts from
        what the given label makes of the averaged classifier's belief (`Belief.start`).
      recompute_pseudo_labels: update the classifier with the pseudo-labels of the corrector's
        new weights, one more pass, instead of the weights looked ahead to.
      lookahead: part of the classifier that the meta-gradient goes through: "all", "last_stage"
        or "head" (see `parts.positions`). The classifier's own update is always complete.
      warmup_steps: steps before the corrector learns. Until then the pseudo-labels are a residual
        corrector's start, or the given labels.
      train_on_meta: whether the clean half that is trained on has the meta half in it as well.
      average_decay: of the classifier's average (`WeightAverage`); 0: none, unless the corrector
        is residual.
      matrix_decay, matrix_start, matrix_ramp: of the estimated noise matrix (`NoiseMatrix`), for a
        residual corrector.

    Raises:
      ValueError: a number is outside its range, or the classifier has no such part.
    """

    corrected = "student"
    distil_clean = False  # whether anything needs the belief in the clean images

    def __init__(self, student, corrector, *, name=None, **correction):
        super().__init__({"student": student}, corrector, name=name)
        self.set_correction(**correction)

    def set_correction(
        self,
        *,
        recompute_pseudo_labels=False,
        lookahead="all",
        warmup_steps=0,
        train_on_meta=False,
        average_decay=0.0,
        matrix_decay=0.99,
        matrix_start=0.2,
        matrix_ramp=False,
    ):
        """Takes the settings of phases 1 to 3, and makes the belief where they need one."""
        if warmup_steps < 0:
            raise ValueError(f"`warmup_steps` must be at least 0. Received: {warmup_steps}.")
        self.recompute_pseudo_labels = recompute_pseudo_labels
        self.lookahead = lookahead
        self.looked_through = self.positions_looked_through()
        self.warmup_steps = warmup_steps
        self.train_on_meta = train_on_meta
        self.belief = None
        if average_decay or self.corrector.residual:
            network = self.networks[self.corrected]
            matrix = (matrix_decay, matrix_start, matrix_ramp)
            self.belief = Belief(network, self.num_classes, average_decay, *matrix)
            self.buffers.update(self.belief.buffers())

    def compile(self, student_optimizer, corrector_optimizer, **kwargs):
        """Compiles; `student_optimizer` must be an SGD (see `check_looks_ahead`)."""
        optimizers = {"student": student_optimizer, "corrector": corrector_optimizer}
        self.compile_correction(optimizers, **kwargs)

    def compile_correction(self, optimizers, **kwargs):
        """Compiles after checking that the corrected network's step can be looked ahead to."""
        check_looks_ahead(optimizers[self.corrected])
        self.looked_through = self.positions_looked_through()  # layers may be frozen, or freed
        self.compile_networks(optimizers, **kwargs)

    def positions_looked_through(self):
        """Positions of the weights that the meta-gradient goes through (`parts.positions`)."""
        return parts.positions(self.networks[self.corrected], self.lookahead)

    def metric_names(self):
        """The classifiers' and the corrector's."""
        health = ["meta_loss", "pseudo_label_entropy", "pseudo_label_change"]
        gate = ["gate"] if self.corrector.gate else []
        return super().metric_names() + health + gate

    def train_step(self, batch):
        """One step of MLC: look ahead, meta-update, classifier (METHOD.md, phases 1 to 3)."""
        noisy, clean, meta_batch = self.prepared(batch)
        ahead, meta_loss = self.correct(noisy, clean, meta_batch)
        self.update_belief(noisy)
        return self.track(self.correction_logs(noisy, ahead, meta_loss))

    def stages(self):
        """The warm-up, if there is one, then the method itself."""
        return self.after_warmup(self.train_step)

    def after_warmup(self, step):
        """`step` as stages: first those in which the corrector does not learn yet."""
        if not self.warmup_steps:
            return [(0, step)]
        return [(0, lambda batch: step(self.without_meta(batch))), (self.warmup_steps, step)]

    def without_meta(self, batch):
        """A batch of the warm-up: nothing to judge the corrector by, hence no meta-update."""
        noisy, clean, _ = self.shared(batch)
        if not self.corrector.residual:
            given = self.one_hot(noisy["labels"], self.corrector.compute_dtype)
            noisy = {**noisy, "pseudo_labels": given}
        return noisy, clean, None

    def shared(self, batch):
        """The batch, its clean half with the meta half in it where that is trained on, too."""
        noisy, clean, meta_batch = batch
        if self.train_on_meta and meta_batch is not None:
            halves = (clean, meta_batch)
            joined = {name: [half[name] for half in halves] for name in ("images", "labels")}
            if "student_images" in clean:
                joined["student_images"] = [student_images(half) for half in halves]
            clean = {name: tf.concat(values, axis=0) for name, values in joined.items()}
        return noisy, clean, meta_batch

    def prepared(self, batch):
        """The batch as phases 1 to 4 take it: shared out, and with the belief in its images."""
        noisy, clean, meta_batch = self.shared(batch)
        if self.belief is not None:
            looked_at = [noisy["images"]]
            looked_at += [clean["images"]] if self.distil_clean else []
            seen, count = self.belief.average(tf.concat(looked_at, axis=0)), size(noisy)
            features = seen["features"][:count]
            noisy = {**noisy, "belief": seen["logits"][:count], "belief_features": features}
            clean = {**clean, "belief": seen["logits"][count:]}
        return noisy, clean, meta_batch

    def update_belief(self, noisy):
        """Moves average and noise matrix, once the corrected network has moved."""
        if self.belief is not None:
            step = self.optimizers_by_name[self.corrected].iterations
            self.belief.update(noisy["belief"], noisy["labels"], step)

    def correct(self, noisy, clean, meta_batch):
        """Phases 1 to 3: corrector and corrected network learn; what phase 4 needs is returned.

        Without a meta batch the corrector does not learn, and L_M is None.

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
        meta_loss = None
        if meta_batch is not None:
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

    def view(self, part):
        """The images of a part of a batch that the corrected network learns from."""
        return student_images(part)

    def noisy_loss(self, weights, noisy, clean):
        """L_T(w, α) of this replica, with what its forward pass yields beside it."""
        network = self.networks[self.corrected]
        seen, statistics, added = network.stateless_call(
            weights,
            network.non_trainable_variables,
            tf.concat([self.view(noisy), self.view(clean)], axis=0),
            training=True,
            return_losses=True,
        )
        features = tf.stop_gradient(seen["features"])
        pseudo_labels = self.corrected_labels(features[: size(noisy)], noisy)
        targets = self.targets(pseudo_labels, clean)
        outputs = {
            "logits": seen["logits"],
            "features": features,
            "pseudo_labels": pseudo_labels,
            "statistics": statistics,
        }
        loss = tf.reduce_mean(losses.cross_entropy(targets, seen["logits"]))
        return losses.with_penalties(loss, network, weights, added), outputs

    def clean_loss(self, weights, meta_batch):
        """L_M of this replica at the given weights; batch norm's moving statistics stay."""
        network = self.networks[self.corrected]
        seen, _ = network.stateless_call(
            weights, network.non_trainable_variables, meta_batch["images"], training=True
        )
        return tf.reduce_mean(losses.label_cross_entropy(meta_batch["labels"], seen["logits"]))

    def pseudo_labels(self, images, labels):
        """As every method's; in a warm-up that trains on the given labels, these.

        Whether it has ended says the corrector's optimizer: load weights after `compile`.
        """
        answer = super().pseudo_labels(images, labels)
        if self.warmup_steps and self.optimizers_by_name and not self.corrector.residual:
            corrected = answer["pseudo_labels"]
            given = self.one_hot(labels, corrected.dtype)
            learned = self.optimizers_by_name["corrector"].iterations > 0
            answer["pseudo_labels"] = tf.where(learned, corrected, given)
        return answer

    def corrected_labels(self, features, noisy):
        """Pseudo-labels [b, classes] of noisy examples with features [b, f], α as it is now."""
        if "pseudo_labels" in noisy:
            return noisy["pseudo_labels"]
        return self.corrector(self.corrector_inputs(features, noisy))

    def corrector_inputs(self, features, noisy):
        """What the corrector takes of noisy examples."""
        inputs = {"features": features, "labels": noisy["labels"]}
        if self.corrector.residual:
            inputs["start"] = self.belief.start(noisy["belief"], noisy["labels"])
        return inputs

    def corrector_start(self, images, labels):
        """What a residual corrector starts from: {"start": logits [b, classes]}; else {}."""
        if not self.corrector.residual:
            return {}
        return {"start": self.belief.start(self.belief.logits(images), labels)}

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
        num_noisy = size(noisy)
        features = ahead.outputs["features"][:num_noisy]
        values = {
            f"{self.corrected}_loss": ahead.loss,
            f"{self.corrected}_accuracy": accuracy(ahead.outputs["logits"][:num_noisy], labels),
            "pseudo_label_entropy": losses.entropy(pseudo_labels),
            "pseudo_label_change": 1 - accuracy(pseudo_labels, labels),
        }
        if self.corrector.gate:
            inputs = self.corrector_inputs(features, noisy)
            values["gate"], _ = self.corrector.gate_and_proposal(inputs)
        if meta_loss is not None:
            values["meta_loss"] = meta_loss
        return values


def size(part):
    """Examples in a part of a batch: an int where it is known, otherwise a scalar tensor."""
    return rows(part["labels"])


def rows(tensor):
    """Rows of a tensor [n, ...]: an int where it is known, otherwise a scalar tensor."""
    return tensor.shape[0] or tf.shape(tensor)[0]
