import time

import numpy as np
import pytest

from kdmlc_tf.data import scan
from kdmlc_tf.data.images import FileImages
from kdmlc_tf.data.packing import pack
from kdmlc_tf.errors import InputError


@pytest.fixture
def images(tmp_path, write_image):
    """Six images; the second is missing, the third empty, the fourth cut off; two are the same."""
    names = [f"{number}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        write_image(name, 40 * number if number < 5 else 0)
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:-80])
    return FileImages(pack(names), root=tmp_path)


def judged(images, reasons, digests):
    assert list(reasons) == [1, 2, 3]
    assert "1.jpg: No such file" in reasons[1]
    assert "2.jpg is empty" in reasons[2] and "3.jpg cannot be decoded" in reasons[3]
    assert digests[0] == digests[5] != digests[4]
    assert images.shape == (6, 9, 8, 3)


def test_a_small_set_is_kept_in_memory_and_the_bad_are_named(images, cache):
    kept, digests, reasons = scan.opened(images)
    judged(kept, reasons, digests)
    assert isinstance(kept, np.ndarray) and not cache.exists()
    np.testing.assert_array_equal(kept[4], np.full((9, 8, 3), 160))
    assert not kept[1:4].any()


def test_of_a_large_set_the_answer_is_kept_for_the_next_run(images, streamed, monkeypatch):
    for _ in range(2):
        kept, digests, reasons = scan.opened(images)
        judged(kept, reasons, digests)
        assert isinstance(kept, FileImages)
        monkeypatch.setattr(scan, "_scan", None)  # the second time it is not needed
    (stored,) = streamed.rglob("*.npz")
    stored.write_bytes(b"half")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(streamed))
    judged(kept, *reversed(scan.opened(images)[1:]))


def test_what_is_known_of_a_folder_names_the_files_of_its_copy(images, streamed, tmp_path):
    before = scan.opened(images)[2]
    tmp_path.joinpath("moved").mkdir()
    for path in tmp_path.glob("*.jpg"):
        path.rename(tmp_path / "moved" / path.name)
    reasons = scan.opened(FileImages(images.columns[0], root=tmp_path / "moved"))[2]
    assert len(list(streamed.rglob("*.npz"))) == 1  # not looked at again
    old, new = f"{tmp_path}/", f"{tmp_path}/moved/"
    assert reasons == {index: why.replace(old, new) for index, why in before.items()}


def test_images_of_different_sizes_need_one_to_be_given(images, write_image, cache):
    write_image("5.jpg", 7, size=(10, 8))
    with pytest.raises(InputError, match="different sizes: .*5.jpg has 8×10 pixels.*image_size=N"):
        scan.opened(images)
    assert scan.opened(images.resized((4, 4)))[0].shape == (6, 4, 4, 3)


def test_no_image_at_all_is_refused(images):
    with pytest.raises(InputError, match="None of the 3 images can be decoded.*1.jpg: No such"):
        scan.opened(images[1:4])
    assert len(scan.opened(images[:0])[0]) == 0


def test_what_broke_after_the_start_is_found_among_the_changed_alone(
    images, write_image, streamed, monkeypatch
):
    whole = images[np.array([0, 4, 5])]
    assert scan.broken(whole) is None
    write_image("4.jpg", 9)  # another one, but whole
    assert scan.broken(whole) is None
    (streamed.parent / "5.jpg").write_bytes(b"no image")
    assert "5.jpg cannot be decoded" in scan.broken(whole)
    monkeypatch.setattr(scan, "_BEGAN", time.time() + 60)
    assert scan.broken(whole) is None
    (streamed.parent / "0.jpg").unlink()
    assert "0.jpg: No such file" in scan.broken(whole)
