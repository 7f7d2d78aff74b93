import numpy as np
import pytest

from kdmlc_tf.data import folders, listing
from kdmlc_tf.errors import InputError


@pytest.fixture
def photos(tmp_path, write_image):
    for split in ("noisy", "clean", "test"):
        for name in ("bee", "ant"):
            write_image(f"photos/{split}/{name}/1.png", 5)
    write_image("photos/noisy/bee/more/deep.png", 5)
    write_image("photos/noisy/wasp/1.png", 5)
    (tmp_path / "photos/noisy/ant/.hidden").write_text("")
    (tmp_path / "photos/noisy/ant/Thumbs.db").write_text("")
    (tmp_path / "photos/notes.txt").write_text("")
    return tmp_path / "photos"


def test_folders_are_classes(photos):
    read, paths = folders.read(photos)
    assert read.class_names == ("ant", "bee", "wasp")
    assert paths.tolist() == [
        b"noisy/ant/1.png",
        b"noisy/bee/1.png",
        b"noisy/bee/more/deep.png",
        b"noisy/wasp/1.png",
        *(
            f"{split}/{name}/1.png".encode()
            for split in ("clean", "test")
            for name in ("ant", "bee")
        ),
    ]
    assert read.labels.tolist() == [0, 1, 1, 2, 0, 1, 0, 1]
    assert read.splits.tolist() == [0] * 4 + [1] * 2 + [3] * 2
    assert np.all(read.true_labels == -1) and read.reasons == {}


def test_an_image_without_a_label_is_named(photos, write_image):
    write_image("photos/clean/stray.png", 5)
    read, paths = folders.read(photos)
    (row,) = read.reasons
    assert paths[row] == b"clean/stray.png" and read.labels[row] == -1
    assert read.reasons[row] == "clean/stray.png lies in no class's folder"
    assert read.splits[row] == listing.CLEAN


def test_a_missing_split_is_said_with_what_is_there(tmp_path, write_image):
    write_image("photos/train/ant/1.png", 5)
    write_image("photos/test/ant/1.png", 5)
    with pytest.raises(InputError, match="noisy, clean is missing. There: test, train"):
        folders.read(tmp_path / "photos")
    with pytest.raises(InputError, match="cannot be read"):
        folders.read(tmp_path / "none")
