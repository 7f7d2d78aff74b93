"""The input pipeline alone: images per second and core, and its share of a step."""

import time

import numpy as np

from kdmlc_tf.data.pipeline import Augmentation, Preprocessing, training_batches
from tools.benchmarks import timing
from tools.benchmarks.pairs import PAIRS, stepper

_BATCHES = 40  # in one measurement


def measure(name, rounds):
    """Images per second of one core, and what a batch takes beside the cheapest step.

    Args:
      name: of a pair.
      rounds: times each is measured.

    Returns:
      Dict for the results.
    """
    pair = PAIRS[name]
    crop = 4 if pair.input_shape[0] > 8 else 1
    side = pair.input_shape[0] // 2
    kinds = {
        "plain": Augmentation(),
        "crop and flip": Augmentation(crop=crop, flip=True),
        "crop, flip and Cutout": Augmentation(crop=crop, flip=True, cutout=side),
    }
    images_per_batch = 2 * pair.batch_size
    found = {"rounds": rounds, "images_per_core_second": {}, "ms_per_batch": {}}
    for kind, augmentation in kinds.items():
        batches = iter(_batches(pair, augmentation))
        per_core, wall = [], []
        for _ in range(rounds):
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(_BATCHES):
                next(batches)
            wall.append((time.perf_counter() - start) / _BATCHES)
            per_core.append(_BATCHES * images_per_batch / (time.process_time() - cpu))
        found["images_per_core_second"][kind] = round(float(np.median(per_core)))
        found["ms_per_batch"][kind] = round(1e3 * float(np.median(wall)), 3)
    step = timing.medians_ms(
        timing.interleaved({"ce": stepper(pair.build("ce"), pair.batch())}, rounds)
    )["ce"]
    found["cheapest step, ms"] = step
    found["batch over cheapest step"] = round(
        found["ms_per_batch"]["crop, flip and Cutout"] / step, 3
    )
    return found


def _batches(pair, augmentation):
    """Training batches of random images, with as many clean as noisy ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, *pair.input_shape), dtype=np.uint8)
    labels = rng.integers(0, pair.num_classes, len(images))
    clean = slice(0, 1000)
    return training_batches(
        (images, labels),
        (images[clean], labels[clean]),
        batch_size=pair.batch_size,
        clean_batch_size=pair.batch_size,
        meta_size=pair.batch_size // 2,
        preprocessing=Preprocessing.measure(images[clean]),
        augmentation=augmentation,
        seed=0,
    )
