"""Measures how fast images in files become batches, and what a million of them need in memory.

    python tools/measure_images.py --images=cifar10_jpeg.npz --output=results/images_in_files.json

Writes 20,000 JPEGs of 288 by 288 pixels (mosaics of 9 by 9 photos) into a temporary folder, then
measures, in turn and three times each: the decoder alone (reading, decoding, resizing to 256, one
image after the other), and from the pipeline evaluation batches (the same, then the middle of 224,
normalised) and training batches (a random 224, mirrored, normalised). On a machine that is shared,
images per second of one core's time are what can be compared. A list of a million files is indexed
in a process of its own.
"""

import argparse
import datetime
import io
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from kdmlc_tf.data import images as images_lib
from kdmlc_tf.data import pipeline, tables
from kdmlc_tf.data.packing import pack

TILES, PHOTO = 9, 32
SIZE, CROP, BATCH = 256, 224, 32
REPEATS = 3
PREPROCESSING = pipeline.Preprocessing((120.0,) * 3, (60.0,) * 3, CROP)


def main():
    """Measures, writes the result and prints it."""
    arguments = _arguments()
    if arguments.index:
        print(json.dumps(index(arguments.index)))
        return
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_inter_op_parallelism_threads(1)  # as train does
    with tempfile.TemporaryDirectory() as folder:
        paths, size = write_photos(pathlib.Path(folder), arguments.images, arguments.count)
        speeds = measure(images_lib.FileImages(paths, root=folder, size=(SIZE, SIZE)))
        million = _million(pathlib.Path(folder))
    result = {
        "command": "python tools/measure_images.py --images=cifar10_jpeg.npz"
        + ("" if arguments.count == 20_000 else f" --count={arguments.count}"),
        "date": datetime.date.today().isoformat(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "versions": {"tensorflow": tf.__version__, "python": platform.python_version()},
        "images": arguments.count,
        "bytes_per_image": round(size / arguments.count),
        **speeds,
        "index_of_a_million_files": million,
    }
    text = json.dumps(result, indent=2) + "\n"
    if arguments.output:
        pathlib.Path(arguments.output).write_text(text, encoding="utf-8")
    print(text)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", help="photos: a .npz of JPEGs end to end (jpeg, offset)")
    parser.add_argument("--count", type=int, default=20_000, help="files to write")
    parser.add_argument("--output", help="file for the result, JSON")
    parser.add_argument("--index", help=argparse.SUPPRESS)
    return parser.parse_args()


def write_photos(folder, archive, count):
    """(paths, bytes in all) of JPEGs written under a folder."""
    from PIL import Image

    with np.load(archive) as stored:
        data, offset = stored["jpeg"], stored["offset"]
    rng, size, names = np.random.default_rng(0), 0, []
    photos = [
        np.asarray(Image.open(io.BytesIO(data[offset[i] : offset[i + 1]].tobytes())))
        for i in range(5000)
    ]
    for number in range(count):
        tiles = rng.integers(0, len(photos), (TILES, TILES))
        mosaic = np.vstack([np.hstack([photos[k] for k in row]) for row in tiles])
        names.append(f"{number % 100:02d}/{number}.jpg")
        path = folder / names[-1]
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mosaic).save(path, quality=85)
        size += path.stat().st_size
    return pack(names), size


def measure(images):
    """Images per second, and per second of one core's time, of the decoder and the pipelines."""
    runs = {
        "decoder": _decode_all,
        "evaluation_batches": _evaluate_all,
        "training_batches": _batch_all,
    }
    speeds = {name: {"per_second": [], "per_core_second": []} for name in runs}
    for _ in range(REPEATS):
        for name, function in runs.items():
            began, worked = time.monotonic(), time.process_time()
            count = function(images)
            speeds[name]["per_second"].append(round(count / (time.monotonic() - began), 1))
            speeds[name]["per_core_second"].append(round(count / (time.process_time() - worked), 1))
    own = statistics.median(speeds["decoder"]["per_core_second"])
    for name in speeds:
        median = statistics.median(speeds[name]["per_core_second"])
        speeds[name]["share_of_decoder_per_core_second"] = round(median / own, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_second": speeds, "peak_rss_mib": round(peak)}


def _decode_all(images):
    """Reads and decodes every image, one after the other, in one compiled loop."""
    decode = images.gatherer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def loop(rows):
        return decode(rows)

    for start in range(0, len(images), BATCH):
        loop(tf.range(start, min(start + BATCH, len(images))))
    return len(images)


def _evaluate_all(images):
    """Runs through evaluation batches: the middle, normalised."""
    labels = np.zeros(len(images), np.int32)
    batches = pipeline.evaluation_batches(
        images, labels, batch_size=BATCH, preprocessing=PREPROCESSING
    )
    for _, found in batches:
        found.numpy()
    return len(images)


def _batch_all(images):
    """Runs through the training batches of one epoch."""
    labels = np.zeros(len(images), np.int32)
    steps = len(images) // BATCH
    batches = pipeline.training_batches(
        (images, labels),
        (np.zeros((4, SIZE, SIZE, 3), np.uint8), labels[:4]),
        batch_size=BATCH,
        clean_batch_size=2,
        meta_size=1,
        preprocessing=PREPROCESSING,
        augmentation=pipeline.Augmentation(flip=True, window=CROP),
        seed=0,
    )
    for noisy, _, _ in batches.take(steps):
        noisy["labels"].numpy()
    return steps * BATCH


def _million(folder):
    """What indexing a list of a million files costs, in a process of its own."""
    path = folder / "list.csv"
    with open(path, "w", encoding="utf-8") as file:
        file.write("path,label,split\n")
        for n in range(1_000_000):
            file.write(f"images/{n % 10}/{n % 100:02d}/{n:09d}_{n:09d}.jpg,{n % 14},noisy\n")
    done = subprocess.run(
        [sys.executable, __file__, f"--index={path}"], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def index(path):
    """Seconds and memory for reading a list and drawing an epoch's order of it."""
    before = _rss()
    began = time.monotonic()
    listed, paths = tables.read(path)
    seconds, read = time.monotonic() - began, _rss()
    images = images_lib.FileImages(paths, root="/nowhere", size=(SIZE, SIZE))
    reader = images._reader()  # the paths as a tensor, as the pipeline holds them
    return {
        "seconds": round(seconds, 1),
        "peak_mib_while_reading": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        ),
        "mib_held_by_the_list": round(read - before),
        "mib_held_with_the_tensor": round(_rss() - before),
        "files": len(listed.labels) if reader else 0,
    }


def _rss():
    """Resident memory now, in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
