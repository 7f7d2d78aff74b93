"""Checks a download of Clothing1M before an hour is spent on it.

    python tools/check_clothing1m.py FOLDER

Reads the text files, compares the splits' sizes with the published ones, looks for every image's
file, and decodes 1,000 images of each split (--decode=N; 0: all). Exit status 1 where something is
wrong; images that are missing or damaged are named.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from kdmlc_tf.data.clothing1m import lists
from kdmlc_tf.errors import InputError

NAMED = 10


def main(arguments=None):
    """Prints what was found; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="with images/ and the text files")
    parser.add_argument("--decode", type=int, default=1000, help="images a split; 0: all")
    arguments = parser.parse_args(arguments)
    if arguments.decode < 0:
        parser.error(f"--decode must not be negative. Received: {arguments.decode}.")
    try:
        found = lists.read(arguments.folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = [check(arguments.folder, split, found[split], arguments.decode) for split in found]
    print("Something is wrong, see above." if any(wrong) else "Nothing is wrong.")
    return int(any(wrong))


def check(folder, split, listed, decode):
    """Prints what is wrong with one split; returns whether anything is."""
    keys, labels = listed
    name, _, expected = lists.SPLITS[split]
    faults = _absent(folder, keys)
    whole = np.setdiff1d(np.arange(len(keys)), list(faults))
    if decode:
        whole = whole[
            np.unique(np.linspace(0, len(whole) - 1, min(decode, len(whole))).astype(int))
        ]
    faults |= _undecodable(folder, keys, whole)
    size = "" if len(keys) == expected else f", but {expected:,} are published"
    classes = len(np.unique(labels))
    print(f"{split}: {len(keys):,} images of {classes} classes in {name}{size}")
    print(f"    {len(whole):,} decoded, {len(faults):,} missing or damaged")
    for place in sorted(faults)[:NAMED]:
        print(f"    {keys[place].decode()} {faults[place]}")
    if len(faults) > NAMED:
        print(f"    and {len(faults) - NAMED:,} more")
    return bool(faults or size or classes != len(lists.CLASSES))


def _absent(folder, keys):
    """place -> reason of the images whose file is not there, or empty."""
    faults = {}
    for place, key in enumerate(keys):
        try:
            if not os.stat(os.path.join(folder, key.decode())).st_size:
                faults[place] = "is empty"
        except OSError:
            faults[place] = "is missing"
    return faults


def _undecodable(folder, keys, places):
    """place -> reason of those of some images that cannot be decoded."""
    from kdmlc_tf.data.clothing1m import clothing1m

    reasons = {int(i): clothing1m.examined(folder / keys[i].decode())[1] for i in places}
    return {place: reason for place, reason in reasons.items() if reason}


if __name__ == "__main__":
    sys.exit(main())
