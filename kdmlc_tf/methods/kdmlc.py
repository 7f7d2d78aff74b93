"""KDMLC: a large teacher corrects the labels, a lightweight student learns in the same step."""

import tensorflow as tf

from kdmlc_tf.methods import losses
from kdmlc_tf.methods.base import accuracy, student_images
from kdmlc_tf.methods.mlc import MLC, rows, size


class KDMLC(MLC):
    """Meta label correction by a teacher, distilled online into a student (Huang et al. 2024).

        L_S = (1 - κ) H(target, s) + κ T² KL(softmax(z / T) ‖ softmax(s / T))

    with the new pseudo-labels as targets on the noisy images, the trusted labels on the clean
    ones, and the teacher's logits z, its average's where there is one: constants, so that the
    teacher learns nothing from L_S. A batch may hold further ones, each (noisy, clean, meta), for
    updates of the student alone.

    Args:
      teacher: keras.Model giving logits, the large one.
      student: keras.Model giving logits, the lightweight one, which is served.
      corrector: a built `Corrector` for the teacher's features.
      temperature: T > 0, dimensionless.
      distillation_weight: κ between 0 and 1.
      distil_clean: whether κ holds for the clean images, too; otherwise they are learned from
        their trusted labels alone.
      student_start: steps that the teacher learns alone, before the student begins; not less than
        that of `training_batches`, where these have batches of the student's own.
      **correction: see `MLC`.

    Raises:
      ValueError: a number is outside its range, or teacher and student do not agree in their
        number of classes.

    Source: METHOD.md; doi 10.7544/issn1000-1239.202330382.
    """

    corrected = "teacher"
    student_batches = True

    def __init__(
        self,
        teacher,
        student,
        corrector,
        *,
        temperature=4.0,
        distillation_weight=0.5,
        distil_clean=True,
        student_start=0,
        name=None,
        **correction,
    ):
        super(MLC, self).__init__({"teacher": teacher, "student": student}, corrector, name=name)
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
        if not 0 <= distillation_weight <= 1:
            raise ValueError(
                f"`distillation_weight` must be between 0 and 1. Received: {distillation_weight}."
            )
        if student_start < 0:
            raise ValueError(f"`student_start` must be at least 0. Received: {student_start}.")
        self.temperature = temperature
        self.distillation_weight = distillation_weight
        self.distil_clean = distil_clean
        self.student_start = student_start
        self.set_correction(**correction)

    def compile(self, teacher_optimizer, student_optimizer, corrector_optimizer, **kwargs):
        """Compiles; `teacher_optimizer` must be an SGD (see `check_looks_ahead`)."""
        optimizers = {
            "teacher": teacher_optimizer,
            "student": student_optimizer,
            "corrector": corrector_optimizer,
        }
        self.compile_correction(optimizers, **kwargs)

    def stages(self):
        """The teacher alone until the student starts, then both; the warm-up may end in either."""
        both = self.after_warmup(self.train_step)
        begun = {max(first, self.student_start): step for first, step in both}
        return [*self.teacher_stages(), *begun.items()]

    def teacher_stages(self):
        """The stages before the student starts."""
        stages = self.after_warmup(self.teacher_step)
        return [(first, step) for first, step in stages if first < self.student_start]

    def steps_taken(self):
        """Steps of the teacher: the student may start later, and take several updates in one."""
        return self.steps_of("teacher")

    def view(self, part):
        """The images that the teacher learns from: whole ones, as the belief looks at."""
        return part["images"]

    def teacher_step(self, batch):
        """One step of MLC on the teacher; the student rests."""
        return MLC.train_step(self, batch[:3])

    def train_step(self, batch):
        """One step of KDMLC: look ahead, meta-update, teacher, student (METHOD.md)."""
        noisy, clean, meta_batch = self.prepared(batch[:3])

        # 1. to 3. as in MLC, on the teacher.
        ahead, meta_loss = self.correct(noisy, clean, meta_batch)
        logs = self.correction_logs(noisy, ahead, meta_loss)

        # 4. Student: distil from the corrected labels and the teacher, both constants.
        logs.update(self.distil(noisy, clean, ahead.outputs["features"], ahead.outputs["logits"]))
        for own in batch[3:]:
            self.track(self.distil_own(own))
        self.update_belief(noisy)
        return self.track(logs)

    def without_meta(self, batch):
        """A batch of the warm-up, as MLC's, with the student's own ones."""
        shared, *own = [super(KDMLC, self).without_meta(part) for part in (batch[:3], *batch[3:])]
        return (*shared, *own)

    def distil_own(self, batch):
        """One step of the student on a batch of its own, by the average where there is one."""
        noisy, clean, _ = self.prepared(batch)
        if self.belief is not None:
            return self.distil(noisy, clean, noisy["belief_features"], None)
        return self.distil_by_teacher(noisy, clean)

    def distil_by_teacher(self, noisy, clean):
        """One step of the student; teacher and corrector, in inference mode, are constants."""
        images = tf.concat([noisy["images"], clean["images"]], axis=0)
        seen = self.classifiers["teacher"](images, training=False)
        return self.distil(noisy, clean, seen["features"], seen["logits"])

    def distil(self, noisy, clean, features, teacher_logits):
        """Phase 4: one step of the student; features and logits are the teacher's on N ∪ C.

        Where the teacher has an average, the logits are not looked at.
        """
        labels, num_noisy = noisy["labels"], size(noisy)
        if self.belief is not None:
            teacher_logits = tf.concat([noisy["belief"], clean["belief"]], axis=0)
        if not self.distil_clean:
            teacher_logits = teacher_logits[:num_noisy]
        pseudo_labels = self.corrected_labels(features[:num_noisy], noisy)
        targets = self.targets(pseudo_labels, clean)
        images = tf.concat([student_images(noisy), student_images(clean)], axis=0)
        targets = tf.stop_gradient(targets)
        loss, logits = self.descend(
            "student",
            images,
            lambda logits: self.student_losses(targets, teacher_logits, logits),
        )
        return {
            "student_loss": loss,
            "student_accuracy": accuracy(logits[:num_noisy], labels),
        }

    def student_losses(self, targets, teacher_logits, logits):
        """What L_S is the mean of, [n], in nats.

        Args:
          targets: float tensor [n, classes], a constant.
          teacher_logits: of the first examples, or of all; the others learn from targets alone.
          logits: the student's, [n, classes].
        """
        kappa, distilled = self.distillation_weight, rows(teacher_logits)
        loss = losses.cross_entropy(targets, logits)
        if not kappa:
            return loss
        distance = losses.distillation_loss(
            teacher_logits, logits[:distilled], temperature=self.temperature
        )
        mixed = (1 - kappa) * loss[:distilled] + kappa * distance
        return tf.concat([mixed, loss[distilled:]], axis=0)
