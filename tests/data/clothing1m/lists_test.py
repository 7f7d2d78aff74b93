import resource

import numpy as np
import pytest

from kdmlc_tf.data.clothing1m import lists
from kdmlc_tf.errors import InputError


def test_keys_and_labels_come_in_the_lists_order(download):
    found = lists.read(download)
    assert {split: len(keys) for split, (keys, _) in found.items()} == {
        "noisy": 140,
        "clean": 42,
        "clean_val": 28,
        "test": 28,
    }
    keys, labels = found["clean"]
    assert keys[11] == b"images/1/11/clean,11.jpg"
    np.testing.assert_array_equal(labels, np.arange(42) % 14)


def test_the_text_files_may_lie_in_a_folder_of_their_own(download):
    (download / "annotations").mkdir()
    for path in download.glob("*.txt"):
        path.rename(download / "annotations" / path.name)
    assert len(lists.read(download)["test"][0]) == 28


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "name, old, new, sentence",
    [
        ("noisy_label_kv.txt", "noisy,2.jpg 2\n", "noisy,2.jpg 14\n", "Line 3 of noisy_label_kv"),
        ("noisy_label_kv.txt", "noisy,2.jpg 2\n", "noisy,2.jpg\n", "Line 3 of noisy_label_kv"),
        (
            "clean_label_kv.txt",
            "test,9.jpg 9\n",
            "tset,9.jpg 9\n",
            "no label for 1 of the 28 .*9.jpg",
        ),
        (
            "clean_test_key_list.txt",
            "test,9.jpg",
            "clean,9.jpg",
            "1 images are listed in clean_train",
        ),
    ],
)
def test_faults_in_the_lists_are_one_sentence(download, name, old, new, sentence):
    edit(download, name, old, new)
    with pytest.raises(InputError, match=sentence):
        lists.read(download)


def test_a_line_that_is_no_text_is_named(download):
    path = download / "noisy_train_key_list.txt"
    path.write_bytes(b"\n" + path.read_bytes().replace(b"noisy,2", b"nois\xe9,2"))
    with pytest.raises(InputError, match=r"Line 4 of noisy_train_key.* is no UTF-8 .*nois\\xe9,2"):
        lists.read(download)


def test_a_missing_list_is_named(download):
    (download / "clean_val_key_list.txt").unlink()
    with pytest.raises(InputError, match="has no clean_val_key_list.txt: unpack"):
        lists.read(download)


def test_a_million_entries_are_indexed_in_bounded_memory(download):
    keys = [f"images/{n % 10}/{n % 100:02d}/{n:010d}.jpg" for n in range(1_000_000)]
    (download / "noisy_train_key_list.txt").write_text("\n".join(keys))
    kv = "\n".join(f"{key} {n % 14}" for n, key in enumerate(keys))
    (download / "noisy_label_kv.txt").write_text(kv)
    del keys, kv
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, labels = lists.read(download)["noisy"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert found.nbytes == 26_000_000 and labels[-1] == 999_999 % 14
    assert grown < 250_000
