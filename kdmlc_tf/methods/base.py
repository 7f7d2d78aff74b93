"""What every method shares: named networks, one optimizer each, metrics, Keras' `fit` mended."""

import itertools

import keras
import tensorflow as tf

from kdmlc_tf import distribution
from kdmlc_tf.methods import batches, compiling, losses, scaling
from kdmlc_tf.networks.classifier import as_classifier, symbolic_outputs
from kdmlc_tf.networks.precision import computes_in_float16


class Method(keras.Model):
    """A training method over named networks; `networks["student"]` is the one to be served.

    A callback that sets `model.optimizer.learning_rate` reaches the student's optimizer alone:
    give each optimizer a schedule instead.

    A subclass writes `train_step(batch)` with batch = (noisy, clean, meta), each a dict of
    "images" [b, ...] float and "labels" [b] int; it may hold "student_images", the student's own
    view. For KDMLC further such batches may follow in the same tuple, for the student alone.
    `fit`'s `validation_data` and `evaluate` take (images, labels).

    Args:
      classifiers: dict name -> keras.Model giving logits (see `as_classifier`), all built.
      corrector: a built `Corrector`, or None for methods without one.
    """

    student_batches = False  # whether a batch may hold others, for the student alone

    def __init__(self, classifiers, corrector=None, name=None):
        super().__init__(name=name)
        self.classifiers = {name: as_classifier(model) for name, model in classifiers.items()}
        classes = {n: output_shape(m)[-1] for n, m in self.classifiers.items()}
        if corrector is not None:
            classes["corrector"] = corrector.num_classes
        if len(set(classes.values())) > 1:
            raise ValueError(f"The networks must agree in their classes. Received: {classes}.")
        self._num_classes = classes["student"]
        self.corrector = corrector
        self.networks = dict(self.classifiers)
        if corrector is not None:
            self.networks["corrector"] = corrector
        self.built = True
        self.buffers = {}  # name -> variables that train_step assigns, beside the networks'
        self.optimizers_by_name = {}
        self.trackers = {}
        self._done = 0  # steps taken, and steps left in the epoch where its length is known
        self._left = None

    @property
    def has_corrector(self):
        """Whether the method corrects labels."""
        return self.corrector is not None

    @property
    def num_classes(self):
        """Number of classes of the student."""
        return self._num_classes

    def call(self, images, training=False):
        """The student's logits [b, classes]."""
        return self.classifiers["student"](images, training=training)["logits"]

    def pseudo_labels(self, images, labels):
        """What the corrector makes of given labels, in inference mode.

        Args:
          images: float tensor [b, ...], normalised.
          labels: int tensor [b], as given.

        Returns:
          Dict of "pseudo_labels" [b, classes] and "gate" [b], or None where there is no gate.

        Raises:
          ValueError: the method has no corrector.
        """
        if not self.has_corrector:
            raise ValueError(f"{self.__class__.__name__} has no corrector.")
        seen = self.classifiers[self.corrected](images, training=False)
        start = self.corrector_start(images, labels)
        inputs = {"features": seen["features"], "labels": labels, **start}
        gate, _ = self.corrector.gate_and_proposal(inputs)
        return {"pseudo_labels": self.corrector(inputs), "gate": gate}

    def corrector_start(self, images, labels):
        """What a residual corrector starts from: {"start": logits [b, classes]}; else {}."""
        del images, labels
        return {}

    # Compiling: each network's optimizer by its name, built at once, in the strategy's scope.

    def compile_networks(self, optimizers, **kwargs):
        """Compiles with one optimizer per network, by name.

        Where a classifier computes in float16, every optimizer gets loss scaling, the corrector's
        too: its gradient passes through that classifier.

        Args:
          optimizers: dict name -> Keras optimizer, for exactly the networks that learn.
          **kwargs: `keras.Model.compile`'s `run_eagerly`, `jit_compile`, `steps_per_execution`.

        Raises:
          ValueError: an optimizer is shared by two networks.
        """
        kwargs.setdefault("jit_compile", False)
        optimizers = {name: keras.optimizers.get(given) for name, given in optimizers.items()}
        if len({id(optimizer) for optimizer in optimizers.values()}) < len(optimizers):
            raise ValueError("Each network needs an optimizer of its own; one was given twice.")
        if any(computes_in_float16(network) for network in self.classifiers.values()):
            optimizers = {name: scaling.scaled(given) for name, given in optimizers.items()}
        super().compile(optimizer=optimizers["student"], auto_scale_loss=False, **kwargs)
        self.optimizers_by_name = optimizers
        with self.distribute_strategy.scope():
            for name, optimizer in optimizers.items():
                optimizer.build(self.networks[name].trainable_variables)
            for name in self.metric_names():
                if name not in self.trackers:
                    self.trackers[name] = keras.metrics.Mean(name=name)

    def metric_names(self):
        """Names of what `train_step` and `test_step` log; a subclass adds its own."""
        return [f"{name}_{what}" for name in self.classifiers for what in ("loss", "accuracy")]

    @property
    def metrics(self):
        """The trackers that `fit` and `evaluate` reset."""
        return list(self.trackers.values())

    def track(self, values, weights=None):
        """Adds a batch's values to the trackers; returns their running means as logs.

        Args:
          values: dict name -> tensor, a scalar or [b].
          weights: [b], what each example counts; default: all the same.
        """
        for name, value in values.items():
            self.trackers[name].update_state(value, sample_weight=weights)
        return {name: self.trackers[name].result() for name in values}

    def apply_mean(self, name, gradients):
        """Steps network `name` along the mean over replicas of `gradients`.

        They are those of the optimizer's `scale_loss` of the loss, which `apply` expects.
        Keras' `apply` sums over replicas, hence the division; gradients that are equal on all
        replicas come out as they are.
        """
        replicas = distribution.num_replicas()
        if replicas > 1:
            gradients = [gradient / replicas for gradient in gradients]
        network = self.networks[name]
        self.optimizers_by_name[name].apply(gradients, network.trainable_variables)

    def descend(self, name, images, loss_of):
        """One step of network `name` down the mean of a loss.

        Args:
          name: of a classifier.
          images: float tensor [n, ...].
          loss_of: function from its logits [n, classes] to the losses [n], in nats.

        Returns:
          (loss, logits): their mean on this replica, with the penalties of the network's
          regularizers, and the logits before the step.
        """
        network = self.classifiers[name]
        with tf.GradientTape() as tape:
            logits = network(images, training=True)["logits"]
            loss = losses.with_penalties(
                tf.reduce_mean(loss_of(logits)),
                *(network, network.trainable_variables, network.losses),
            )
            scaled = self.optimizers_by_name[name].scale_loss(loss)
        self.apply_mean(name, tape.gradient(scaled, network.trainable_variables))
        return loss, logits

    def get_config(self):
        """Not to be had: says what can be saved."""
        raise NotImplementedError(
            f"{self.__class__.__name__} cannot be made anew from a file. Save its weights instead, "
            "with a name that ends in .weights.h5 (ModelCheckpoint: save_weights_only=True), or "
            "what is to be served, with kdmlc_tf.export_classifier."
        )

    def state(self, *, optimizers=True):
        """Every variable that training changes: of the networks, the optimizers, the buffers.

        Args:
          optimizers: whether theirs are in it; a finished run needs them no more.
        """
        parts = [*self.networks.values()]
        parts += self.optimizers_by_name.values() if optimizers else []
        buffers = [variable for held in self.buffers.values() for variable in held]
        return [variable for part in parts for variable in part.variables] + buffers

    def test_step(self, batch):
        """Loss (cross-entropy, nats) and accuracy of every classifier on (images, labels).

        A third part of the batch, if there is one, is what each example counts: 0 or 1.
        """
        images, labels, weights = (*batch, None)[:3]
        batches.check_rank(labels)
        values = {}
        for name, network in self.classifiers.items():
            logits = network(images, training=False)["logits"]
            values[f"{name}_loss"] = losses.label_cross_entropy(labels, logits)
            values[f"{name}_accuracy"] = accuracy(logits, labels)
        return self.track(values, weights)

    # What Keras' own `fit` does not do over replicas: see `make_train_function`.

    def fit(self, x=None, *args, **kwargs):
        """Keras' `fit`, counting steps so that `steps_per_execution` overruns no epoch.

        `shuffle` is False unless given: batches come from a tf.data.Dataset, which shuffles. Its
        first batch, and that of the validation data, is looked at before: a dataset that can be
        gone through only once loses it.

        Raises:
          InputError: XLA was to compile the step and cannot; the first batch is not of the form
            that this method takes, or there is no end to the batches.
        """
        batches.check_training(
            x, kwargs.get("steps_per_epoch"), self.num_classes, self.student_batches
        )
        batches.check_evaluation(kwargs.get("validation_data"), self.num_classes)
        kwargs.setdefault("shuffle", False)
        length = kwargs.get("steps_per_epoch") or _length(x)
        counter = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self._start_epoch(length)
        )
        kwargs["callbacks"] = [counter, *keras.tree.flatten(kwargs.get("callbacks") or [])]
        with compiling.explained(self.jit_compile):
            return super().fit(x, *args, **kwargs)

    def _start_epoch(self, length):
        self._done, self._left = self.steps_taken(), length

    def stages(self):
        """The steps of a run: pairs (step number it starts at, step function), in order."""
        return [(0, self.train_step)]

    def steps_taken(self):
        """Training steps so far, counted by the optimizers that are checkpointed."""
        return self.steps_of("student")

    def steps_of(self, name):
        """Training steps of network `name` so far, a number: only outside the compiled step."""
        return int(self.counter_of(name).numpy())

    def counter_of(self, name):
        """The variable that counts network `name`'s training steps.

        `iterations` counts those that moved it: with `gradient_accumulation_steps` not all do.
        """
        return scaling.unscaled(self.optimizers_by_name[name])._iterations

    def make_train_function(self, force=False):
        """Compiles the stages over the replicas; runs `steps_per_execution` steps at a time.

        Keras' own function fails under MultiWorkerMirroredStrategy, and under MirroredStrategy
        with `steps_per_execution` above 1. The host counts the steps, so that neither a stage nor
        an epoch is overrun and no device is asked.
        """
        if self.train_function is not None and not force:
            return
        starts = [start for start, _ in self.stages()]
        loops = [self.host_loop(self.replicated(step)) for _, step in self.stages()]

        def execute(iterator):
            count = min(self.steps_per_execution, self._left or self.steps_per_execution)
            while count:
                stage = sum(start <= self._done for start in starts) - 1
                until = [start - self._done for start in starts[stage + 1 :]]
                now = min([count, *until])
                logs = loops[stage](iterator, now)
                self._done += now
                self._left = self._left and self._left - now
                count -= now
            return logs

        self.train_function = execute

    def make_test_function(self, force=False):
        """Compiles `test_step` over the replicas; each call takes `steps_per_execution` batches."""
        if self.test_function is not None and not force:
            return
        step = self.replicated(self.test_step)
        compiled = step if self.run_eagerly else tf.function(step, reduce_retracing=True)

        def execute(iterator):
            logs = compiled(next(iterator))
            # Keras counts on so many batches; the last call finds fewer.
            for batch in itertools.islice(iterator, self.steps_per_execution - 1):
                logs = compiled(batch)
            return logs

        self.test_function = execute

    def replicated(self, step):
        """A function (batch of every replica) -> logs, means over the replicas."""
        strategy = self.distribute_strategy
        if self.jit_compile and not self.run_eagerly:
            step = tf.function(step, jit_compile=True, reduce_retracing=True)

        def run(batch):
            names = []

            def stacked(batch):
                logs = step(batch)
                names[:] = logs
                return tf.stack(list(logs.values()))

            # One reduction for all logs: over workers each costs a round trip.
            logs = strategy.run(stacked, args=(batch,))
            means = strategy.reduce(tf.distribute.ReduceOp.MEAN, logs, axis=None)
            return dict(zip(names, tf.unstack(means), strict=True))

        return run

    def host_loop(self, step):
        """A compiled function (iterator, count) -> logs of the last of `count` steps."""
        if not self.run_eagerly:
            step = tf.function(step, reduce_retracing=True)

        def several(iterator, count):
            logs = step(next(iterator))
            for _ in tf.range(count - 1):
                logs = step(next(iterator))
            return logs

        if not self.run_eagerly:
            several = tf.function(several, reduce_retracing=True)

        def loop(iterator, count):
            if count == 1:
                return step(next(iterator))
            return several(iterator, tf.constant(count))

        return loop

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing to build: networks, optimizers and trackers are built in `compile`."""

    def _get_metrics_result_or_logs(self, logs):
        """The epoch's logs, floats from the trackers: exact over replicas with unequal batches."""
        return {name: float(self.trackers[name].result()) for name in logs}


def _length(dataset):
    """Batches of a tf.data.Dataset; None where it is endless or not known."""
    known = int(dataset.cardinality()) if isinstance(dataset, tf.data.Dataset) else -1
    return known if known > 0 else None


def output_shape(classifier):
    """Static shape of a classifier's logits: (None, classes)."""
    return tuple(symbolic_outputs(classifier)["logits"].shape)


def student_images(part):
    """The images of a part of a batch that the student learns from: its own view, if it has one."""
    return part.get("student_images", part["images"])


def accuracy(scores, labels):
    """Whether the largest score of each row is the label's, float [b].

    Args:
      scores: float tensor [b, classes].
      labels: int tensor [b].
    """
    hit = tf.argmax(scores, axis=-1, output_type=tf.int32) == tf.cast(labels, tf.int32)
    return tf.cast(hit, scores.dtype)
