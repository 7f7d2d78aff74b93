"""Every hyperparameter of a run, once: its default, unit, source. The flags derive from it."""

import dataclasses
import json
import math
import typing

from kdmlc_tf.errors import InputError

LOOKAHEADS = ("all", "last_stage", "head")  # names of parts in networks/parts.py
METHODS = ("kdmlc", "mlc", "ce", "clean_only", "finetune", "glc", "offline_kd")
STRATEGIES = ("default", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")  # names of Keras' dtype policies


def _setting(default, help, **limits):  # pylint: disable=redefined-builtin
    """A field with its help text and, for numbers, the closed range or the choices allowed."""
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run; the defaults are the paper's protocol (METHOD.md).

    How labels are corrected and distilled, and how much of a batch is clean, has defaults of our
    own, by docs/ABLATIONS.md; flags/paper_kdmlc.flags sets what METHOD.md states.

    Raises (from `validate`):
      InputError: a value is of the wrong kind or outside its range.
    """

    # What is learned from.
    dataset: str = _setting(
        "cifar10",
        "Data set, by name; or your own: folder:DIR, csv:FILE, npz:FILE, tfds:NAME (README.md).",
    )
    data_dir: str | None = _setting(
        None,
        "Folder with prepared TensorFlow Datasets, default: TFDS's own; for folder:, csv: and npz: "
        "the folder that their place is relative to.",
    )
    noisy_key: str | None = _setting(
        None, "tfds:NAME: the feature with the noisy label; default: --label_key."
    )
    label_key: str = _setting("label", "tfds:NAME: the feature with the label.")
    image_size: int | None = _setting(
        None,
        "Side in pixels that images of your own are resized to; default: their size, if all have "
        "the same.",
        low=1,
    )
    crop_size: int | None = _setting(
        None,
        "Side in pixels of the part of the images that the networks see: a random one in training, "
        "the middle else. Default: all.",
        low=1,
    )
    mean: str | None = _setting(
        None,
        "Mean of each channel (0..255) or feature, separated by commas; default: measured on the "
        "noisy set.",
    )
    std: str | None = _setting(None, "The same of the standard deviations.")
    bad_input: str = _setting(
        "refuse",
        "What to do with examples that cannot be used, e.g. a label outside the classes, NaN, an "
        "image that cannot be decoded: refuse the run, or skip them and say so. A class of which "
        "the clean set has no example is refused too; with skip it stays, known from noisy labels "
        "only, and is named.",
        choices=("refuse", "skip"),
    )
    noise: float = _setting(0.8, "Noise rate ρ; read together with --noise_type.", low=0, high=1)
    noise_type: str = _setting(
        "uniform",
        "uniform (true class included), symmetric, flip, pairflip, asymmetric, instance, "
        "matrix:FILE, human:KEY (e.g. human:worse), or given: the labels as your own data set "
        "brings them, which is its default.",
    )
    clean: int | None = _setting(
        1000,
        "Trusted examples: the whole label budget. Your own data set's default: all that it has.",
        low=1,
    )
    validation: int | None = _setting(
        5000,
        "Noisy examples held out, with their noisy labels, to select an epoch. Your own data set's "
        "default: its validation split, or else a tenth of the noisy one.",
        low=1,
    )
    limit_train: int | None = _setting(None, "Noisy training examples kept; default: all.", low=1)
    seed: int = _setting(
        0, "Seed of split, noise, order, augmentation, initialisation.", low=0, high=2**31 - 1
    )

    # What learns.
    method: str = _setting("kdmlc", "Training method.", choices=METHODS)
    teacher: str = _setting("resnet32", "Teacher network (kdmlc, offline_kd).")
    student: str = _setting("resnet8", "Student network: the one exported by every method.")
    teacher_weights: str | None = _setting(
        None,
        "Weights to start the teacher from: a file, or imagenet for applications/NAME, which "
        "then sees images of three channels as Keras shows them to ImageNet's weights.",
    )
    student_weights: str | None = _setting(None, "The same for the student.")
    corrector_embedding: int = _setting(128, "Size of the corrector's label embedding.", low=1)
    corrector_hidden: int = _setting(128, "Width of the corrector's two hidden layers.", low=1)
    corrector_gate: bool = _setting(
        False, "Let the corrector mix its answer with the given label by a learned gate."
    )

    # How it learns: MLC's protocol (AAAI 2021, section 4).
    epochs: int = _setting(120, "Passes over the noisy set.", low=1)
    batch_size: int = _setting(100, "Noisy examples per step, over all replicas.", low=1)
    clean_batch_size: int | None = _setting(
        None,
        "Clean examples per step, over all replicas: trained on and meta-evaluated. Default: a "
        "quarter of --batch_size, or as many as that with --nobayes_start (mlc) and for clean_only "
        "and finetune; if odd, one less, and at least 2.",
        low=2,
    )
    meta_fraction: float = _setting(
        0.5, "Share of the clean batch that the look-ahead is judged on.", low=0.01, high=0.99
    )
    learning_rate: float = _setting(0.1, "SGD's initial rate for teacher and student.", low=0)
    momentum: float = _setting(0.9, "SGD's momentum.", low=0, high=1)
    nesterov: bool = _setting(False, "Nesterov momentum.")
    weight_decay: float = _setting(5e-4, "L2 coefficient added to the gradient.", low=0)
    milestones: str | None = _setting(
        None,
        "Epochs at which the SGD rate is multiplied by --decay, e.g. 80,100; an empty text: never. "
        "Default: at 2/3 and 5/6 of --epochs, which is the paper's 80,100 of 120.",
    )
    decay: float = _setting(0.1, "Factor at each milestone.", low=0, high=1)
    corrector_learning_rate: float = _setting(3e-4, "Adam's rate for the corrector.", low=0)
    recompute_pseudo_labels: bool = _setting(
        False, "Update the teacher with pseudo-labels of the new corrector (one more pass)."
    )
    lookahead: str = _setting(
        "all",
        "Part of the network that the meta-gradient goes through: all (exact), last_stage or head "
        "(much cheaper: docs/SPEED.md).",
        choices=LOOKAHEADS,
    )
    bayes_start: bool = _setting(
        True,
        "Start the corrector from what the given label says under the noise matrix, estimated "
        "while training, of the classes that the averaged network believes in; the corrector "
        "learns what to add.",
    )
    warmup_epochs: int | None = _setting(
        None,
        "Epochs before the corrector learns. Default: half of --epochs; mlc: 0; digits: 10.",
        low=0,
    )
    average_decay: float = _setting(
        0.99,
        "Decay per step of the average of the corrected network's weights, whose "
        "probabilities --bayes_start and the distillation term use; 0: no average.",
        low=0,
        high=0.9999,
    )
    matrix_decay: float = _setting(
        0.99,
        "Decay per step of the estimated noise matrix (--bayes_start, glc).",
        low=0,
        high=0.9999,
    )
    matrix_start: float = _setting(
        0.2,
        "Share of the given labels that --bayes_start takes for right at first, beyond chance; "
        "lower it where a wrong class may be given more often than the right one; 0: labels say "
        "nothing at first.",
        low=0,
        high=0.99,
    )
    matrix_ramp: bool = _setting(
        False,
        "Let the noise matrix of --bayes_start follow the first batches fast, as it did by default "
        "until 2026-11-27: two classes that a young network takes for each other may then stay "
        "swapped.",
    )
    train_on_meta: bool = _setting(
        True,
        "Train on the meta half of the clean batch, too: it judges the look-ahead all the same "
        "(kdmlc, mlc).",
    )
    finetune_fraction: float = _setting(
        1 / 3,
        "Share of the epochs that finetune spends on the clean set alone.",
        low=0.01,
        high=0.99,
    )
    temperature: float = _setting(
        1.0,
        "Temperature of the distillation term, dimensionless (Hinton et al. 2015).",
        low=0.01,
    )
    distillation_weight: float = _setting(
        0.0,
        "κ: share of the distillation term in the student's loss. The rest is learned from the "
        "corrected labels, which hold the teacher's belief and what the given label says.",
        low=0,
        high=1,
    )
    distil_clean: bool = _setting(
        False,
        "Let the student follow the teacher on clean images as well, with --distillation_weight "
        "above 0; by default it learns them from the trusted labels alone.",
    )

    student_updates: int = _setting(
        3,
        "Updates of the student in a step (kdmlc), each on other images; at most --epochs. With U "
        "of them it starts when 1/U of the steps are left: it learns as often as with 1, from a "
        "teacher that is further on; --milestones count in updates of its own.",
        low=1,
    )

    # What it sees.
    augment: str = _setting(
        "auto", "auto, crop_flip, crop, or none; auto: what suits the data set."
    )
    cutout: int = _setting(
        0,
        "Cutout's side in pixels, in the images that the student learns from; a teacher sees whole "
        "ones. 0 turns it off (CIFAR-10: 16).",
        low=0,
    )
    strong_view: str = _setting(
        "none",
        "The student's own view of the noisy images (kdmlc, offline_kd).",
        choices=("none", "randaugment"),
    )

    # How it runs.
    strategy: str = _setting(
        "default",
        "What the run is spread over: default (one device), mirrored (this machine's GPUs), "
        "multi_worker (the machines of TF_CONFIG), tpu.",
        choices=STRATEGIES,
    )
    tpu: str | None = _setting(None, "Name or address of the TPU for --strategy=tpu.")
    deterministic: bool | None = _setting(
        None,
        "The same bits at every run of a command line on one device: operations one at a time, "
        "each a deterministic one. --nodeterministic may be faster. Default: yes, but not with "
        "--jit_compile.",
    )
    steps_per_execution: int = _setting(1, "Steps per call of the compiled function.", low=1)
    jit_compile: bool = _setting(
        False, "Compile the step with XLA; on one device (a TPU does so by itself)."
    )
    precision: str = _setting(
        "float32",
        "What the classifiers compute in: float32, mixed_bfloat16, or mixed_float16 (with loss "
        "scaling). Weights, logits and the corrector are float32 in each.",
        choices=PRECISIONS,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):  # a rate of 1 is one of 1.0
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))

    def validate(self):
        """Returns self; raises InputError for the first setting outside its range."""
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        if self.jit_compile and self.strategy != "default":
            why = "it compiles by itself" if self.strategy == "tpu" else "XLA takes one device only"
            raise InputError(f"Leave out --jit_compile with --strategy={self.strategy}: {why}.")
        if self.jit_compile and self.deterministic:
            raise InputError(
                "Leave out --deterministic with --jit_compile: Keras compiles with XLA only where "
                "operations may differ in their last bits."
            )
        if self.method == "finetune" and self.epochs < 2:
            raise InputError(
                "--method=finetune learns from all labels and then from the clean ones: --epochs "
                f"must be at least 2. Received: {self.epochs}."
            )
        self.milestone_epochs()
        self.statistics()
        return self

    def is_deterministic(self):
        """Whether the run is to give the same bits each time."""
        return not self.jit_compile if self.deterministic is None else self.deterministic

    def statistics(self):
        """(mean, std), each a tuple of floats; None where they are to be measured."""
        if self.mean is None and self.std is None:
            return None
        try:
            mean, std = (
                tuple(float(number) for number in (text or "").split(","))
                for text in (self.mean, self.std)
            )
        except ValueError:
            mean, std = (), ()
        finite = all(math.isfinite(number) for number in (*mean, *std))
        if not mean or len(mean) != len(std) or not finite or min(std) <= 0:
            raise InputError(
                "--mean and --std must be given together, as many numbers separated by commas, "
                f"the latter positive. Received: {self.mean!r} and {self.std!r}."
            )
        return mean, std

    def milestone_epochs(self):
        """The milestones as a tuple of ints, in epochs."""
        if self.milestones is None:
            return tuple(sorted({self.epochs * 2 // 3, self.epochs * 5 // 6} - {0}))
        try:
            epochs = tuple(int(text) for text in self.milestones.split(",") if text.strip())
        except ValueError:
            raise InputError(
                "--milestones must be epochs separated by commas, e.g. 80,100. "
                f"Received: {self.milestones!r}."
            ) from None
        if any(b <= a for a, b in zip((0, *epochs), epochs, strict=False)):
            raise InputError(
                f"--milestones must be positive and rising. Received: {self.milestones!r}."
            )
        return epochs

    def clean_batch(self):
        """Clean examples per step; by default even, to be halved for the meta-evaluation."""
        if self.clean_batch_size is not None:
            return self.clean_batch_size
        as_many = not self.bayes_start or self.method in ("clean_only", "finetune")
        size = self.batch_size if as_many else self.batch_size // 4
        return max(size // 2 * 2, 2)

    def warmup(self):
        """Epochs before the corrector learns."""
        return self.epochs // 2 if self.warmup_epochs is None else self.warmup_epochs

    def updates(self):
        """Updates of the student in a step; it has an epoch of its own at least."""
        return min(self.student_updates, self.epochs) if self.method == "kdmlc" else 1

    def to_json(self):
        """The settings as indented JSON text, keys in the order of their definition."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text):
        """Config from `to_json`'s text.

        Raises:
          InputError: the text is not JSON, or has keys this version does not know.
        """
        try:
            values = json.loads(text)
            return cls(**as_stored(values)).validate()
        except (json.JSONDecodeError, TypeError) as error:
            raise InputError(f"The stored configuration cannot be read: {error}.") from None


def as_stored(values):
    """A run's settings, dict name -> value, in this version's names.

    Those that had no name when it was stored are as they were then, and without a Bayes start there
    is no ramp; of those that are settings no more, what did nothing is left out.
    """
    values = {"student_updates": 1, "matrix_ramp": True, **values}
    values["matrix_ramp"] &= values.get("bayes_start", False)
    if values.get("matrix_hold_epochs") == 0:
        del values["matrix_hold_epochs"]
    return values


def _check(field, value):
    """Raises InputError if `value` does not suit the field's range or choices."""
    limits = field.metadata
    kinds = typing.get_args(field.type) or (field.type,)
    if float in kinds:
        kinds = (*kinds, int)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise InputError(f"--{field.name} must be of type {names}. Received: {value!r}.")
    low, high, choices = limits.get("low"), limits.get("high"), limits.get("choices")
    if choices is not None and value not in choices:
        raise InputError(
            f"--{field.name} must be one of {', '.join(choices)}. Received: {value!r}."
        )
    if value is None or isinstance(value, (str, bool)):
        return
    if not (
        math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
    ):
        allowed = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise InputError(f"--{field.name} must be {allowed}. Received: {value}.")


# What differs from the defaults where a data set is too small for them; a flag that is given wins.
PRESETS = {
    "digits": {
        "clean": 50,
        "validation": 200,
        "teacher": "cnn",
        "student": "mlp",
        "epochs": 30,
        "batch_size": 50,
        "corrector_learning_rate": 1e-3,  # MLC's 3e-4 suits 60,000 steps; these are 690
        "warmup_epochs": 10,
        "student_updates": 1,  # it outdoes its teacher, and would lose: docs/ABLATIONS.md
    },
}

# What differs from the defaults for a method, to stay what its paper says; a flag that is given
# wins over these, and these over a data set's.
METHOD_PRESETS = {
    "mlc": {
        "bayes_start": False,
        "warmup_epochs": 0,
        "average_decay": 0.0,
        "train_on_meta": False,
    },
    "offline_kd": {"distillation_weight": 0.5},
}
_DISTIL = ("kdmlc", "offline_kd")
_READERS = {  # the methods that look at a setting, where not all do and that matters
    "temperature": _DISTIL,
    "distillation_weight": _DISTIL,
    "distil_clean": _DISTIL,
    "strong_view": _DISTIL,
    "student_updates": ("kdmlc",),
    "matrix_ramp": (*_DISTIL, "mlc"),
}
# Refused with a method that does not look at it: what is nothing, what the others' student does.
_OF_A_STUDENT = {
    "student_updates": (1, "learns beside its teacher"),
    "strong_view": ("none", "may see other images than the teacher"),
}
_PLACE = ("data_dir", "strategy", "tpu", "steps_per_execution", "jit_compile")
# The user's own data bring noisy labels; of the sets that they bring all is used.
OWN = {"noise_type": "given", "clean": None, "validation": None}


def with_presets(preset, given):
    """The validated Config of settings that are given, over the method's, over a data set's.

    Args:
      preset: dict, what differs from the defaults for the data set.
      given: dict, by the user.

    Raises:
      InputError: a value outside its range, a rate for noise that has its own, or a setting of the
        distillation term, a view or updates of the student's where that counts nothing.
    """
    published = METHOD_PRESETS.get(given.get("method", Config.method), {})
    if "epochs" in given:  # a data set's warm-up is a part of its own number of epochs
        preset = {name: value for name, value in preset.items() if name != "warmup_epochs"}
    config = Config(**{**preset, **published, **given}).validate()
    if "noise" in given and config.noise_type.startswith(("human:", "matrix:", "given")):
        raise InputError(
            f"--noise says nothing about --noise_type={config.noise_type}: leave it out."
        )
    if config.method in _DISTIL and not config.distillation_weight:
        _refuse_idle(config)
    for name, (nothing, why) in _OF_A_STUDENT.items():
        readers = _READERS[name]
        if config.method not in readers and given.get(name, nothing) != nothing:
            raise InputError(
                f"--{name} would do nothing with --method={config.method}: leave it out; it is for "
                f"{' and '.join(readers)}, whose student {why}."
            )
    if given.get("student_updates", 1) > config.epochs:
        raise InputError(
            f"--student_updates={config.student_updates} leaves the student less than one of the "
            f"{config.epochs} epochs: it must be at most --epochs."
        )
    return dataclasses.replace(config, student_updates=config.updates())


def _refuse_idle(config):
    """Raises InputError where the distillation term is set up and counts nothing."""
    neutral = {"temperature": "--temperature=1", "distil_clean": "--nodistil_clean"}
    idle = [name for name in neutral if getattr(config, name) != getattr(Config, name)]
    if idle:
        raise InputError(
            f"{' and '.join(f'--{name}' for name in idle)} would do nothing with "
            "--distillation_weight=0, the default: give a weight above 0, e.g. 0.5, or "
            f"{' and '.join(neutral[name] for name in idle)}."
        )


def differences(before, now):
    """Settings in which two runs differ, [(name, before, now)], of those that both have.

    What says where the data are, where to run and how fast may differ: the experiment is the same.
    So may what the method does not look at.

    Args:
      before: dict name -> value.
      now: the same of the other run.
    """
    method = now.get("method")
    before, now = as_stored(before), as_stored(now)
    return [
        (name, value, now[name])
        for name, value in before.items()
        if now.get(name, value) != value
        and name not in _PLACE
        and method in _READERS.get(name, (method,))
    ]
