import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdmlc_tf.data.images import EncodedImages, FileImages, RecordImages, decode
from kdmlc_tf.data.packing import pack


def encoded(pixels, form, **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, form, **options)
    return file.getvalue()


def test_a_folder_whose_name_is_no_text_is_read_in_a_graph(tmp_path, noise):
    folder = tmp_path / os.fsdecode(b"ph\xe9")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"the file system takes no such name: {error}")
    (folder / "x.png").write_bytes(encoded(noise, "PNG"))
    images = FileImages(pack(["x.png"]), root=folder, size=noise.shape[:2])
    np.testing.assert_array_equal(np.asarray(images), noise[np.newaxis])


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss_give_the_very_pixels(noise, form):
    np.testing.assert_array_equal(decode(encoded(noise, form)), noise)


def test_webp_without_loss_too(noise):
    np.testing.assert_array_equal(decode(encoded(noise, "WEBP", lossless=True)), noise)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_formats_with_loss_come_near(noise, form):
    assert np.abs(decode(encoded(noise, form, quality=95)).numpy() - noise.astype(int)).mean() < 5


def test_cmyk_is_read_as_pillow_reads_it(noise):
    data = encoded(Image.fromarray(noise).convert("CMYK"), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    # The two interpolate the planes of half the size in their own ways.
    assert np.abs(decode(data).numpy() - expected).mean() < 4


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_of_sixteen_bits_the_upper_eight_are_kept(form):
    grey = np.arange(0, 65536, 331, dtype=np.uint16)[:192].reshape(16, 12)
    decoded = decode(encoded(grey, form)).numpy()
    np.testing.assert_array_equal(decoded, np.repeat((grey >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_taken(form):
    pictures = [Image.new("RGB", (6, 5), (colour, 0, 0)) for colour in (200, 10, 90)]
    data = encoded(pictures[0], form, save_all=True, append_images=pictures[1:], **_lossless(form))
    assert Image.open(io.BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(decode(data), np.asarray(pictures[0]))


def _lossless(form):
    return {"lossless": True} if form == "WEBP" else {}


def test_grey_palette_and_transparent_images_become_colour(noise):
    grey = Image.fromarray(noise).convert("L")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG"))[..., 1], np.asarray(grey))
    palette = Image.fromarray(noise).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), expected)
    np.testing.assert_array_equal(decode(encoded(palette, "GIF")), expected)
    clear = Image.fromarray(noise).convert("RGBA")
    np.testing.assert_array_equal(decode(encoded(clear, "PNG")), noise)


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_image_is_an_error(data):
    with pytest.raises(tf.errors.OpError):
        decode(data)


def test_pixels_of_32_bits_are_refused(noise):
    data = encoded(noise[..., 0].astype(np.float32), "TIFF")
    with pytest.raises(tf.errors.OpError, match="32 bits"):
        decode(data)


def test_an_image_is_resized_as_an_exported_model_does_it(noise):
    data = encoded(noise, "PNG")
    resized = tf.image.resize(noise.astype(np.float32), [7, 10], antialias=True)
    np.testing.assert_array_equal(decode(data, (7, 10)), np.round(resized))
    np.testing.assert_array_equal(decode(data, noise.shape[:2]), noise)


@pytest.fixture
def files(tmp_path, noise):
    """Eleven images of different forms and sizes; their red pixel in the corner is their number."""
    names = []
    for number in range(11):
        form = ("PNG", "BMP", "JPEG")[number % 3]
        pixels = np.full((5 + number, 6, 3), number, np.uint8)
        names.append(f"ü {number}.{form.lower()}")
        (tmp_path / names[-1]).write_bytes(encoded(pixels, form))
    names[3] = str(tmp_path / names[3])  # absolute paths are good as well
    return FileImages(pack(names), root=tmp_path, size=(8, 6))


@pytest.fixture
def records(tmp_path, files):
    """The same images in TFRecord files, five in the first."""
    places = []
    for number, rows in enumerate((range(5), range(5, 11))):
        offset = 0
        with tf.io.TFRecordWriter(str(tmp_path / f"r{number}")) as writer:
            for row in rows:
                data = tf.train.Feature(bytes_list=tf.train.BytesList(value=[files.read(row)]))
                features = tf.train.Features(feature={"image": data})
                message = tf.train.Example(features=features).SerializeToString()
                writer.write(message)
                places.append((number, offset + 12, len(message)))
                offset += 16 + len(message)
    columns = np.array(places).T
    paths = [tmp_path / "r0", tmp_path / "r1"]
    return RecordImages(*columns, paths=paths, key="image", size=(8, 6))


@pytest.mark.parametrize("kind", ["files", "records"])
def test_images_are_indexed_like_an_array(request, kind):
    images = request.getfixturevalue(kind)
    whole = np.asarray(images)
    assert whole.shape == images.shape == (11, 8, 6, 3) and whole.dtype == images.dtype
    np.testing.assert_allclose(whole[:, 0, 0, 0], np.arange(11), atol=1)
    for index in (slice(2, 7), np.array([5, 5, 0]), np.arange(11) % 2 == 0):
        assert isinstance(images[index], EncodedImages)
        np.testing.assert_array_equal(np.asarray(images[index]), whole[index])
    assert np.asarray(images.resized((3, 4))).shape == (11, 3, 4, 3) and images.size == (8, 6)
    assert len(images.sample()) == 11


@pytest.mark.parametrize("kind", ["files", "records"])
def test_a_graph_gathers_the_same_pixels(request, kind):
    images = request.getfixturevalue(kind)
    batches = tf.data.Dataset.from_tensor_slices([[3, 10], [0, 3]]).map(images.gatherer())
    assert batches.element_spec == tf.TensorSpec([2, 8, 6, 3], tf.uint8)
    whole = np.asarray(images)
    for batch, index in zip(batches, [[3, 10], [0, 3]], strict=True):
        np.testing.assert_array_equal(batch, whole[index])


@pytest.mark.parametrize("kind", ["files", "records"])
def test_the_signature_changes_with_a_file(request, kind, tmp_path):
    images = request.getfixturevalue(kind)
    before = images.signature()
    assert before == images.signature() != images[1:].signature()
    path = tmp_path / ("ü 4.bmp" if kind == "files" else "r1")
    path.write_bytes(path.read_bytes() + b"more")
    assert images.signature() != before


def test_packing_takes_the_memory_of_the_characters(monkeypatch):
    texts = [f"{number}" for number in range(200)]
    monkeypatch.setattr("kdmlc_tf.data.packing._AT_ONCE", 64)
    assert pack(iter(texts)).tolist() == [text.encode() for text in texts]
    assert pack(texts).nbytes == 600 and len(pack([])) == 0


@pytest.mark.parametrize("kind", ["files", "records"])
def test_changed_files_are_told_from_the_others(request, kind, tmp_path):
    images = request.getfixturevalue(kind)
    path = tmp_path / ("ü 4.bmp" if kind == "files" else "r1")
    theirs = [4] if kind == "files" else list(range(5, 11))
    ended = max(file.stat().st_ctime for file in tmp_path.iterdir())
    assert list(images.changed(ended + 1)) == [] and list(images.changed(0)) == list(range(11))
    path.unlink()
    assert list(images.changed(ended + 1)) == theirs


def test_a_record_that_is_cut_off_is_an_error_of_reading(records, tmp_path):
    (tmp_path / "r1").write_bytes(b"short")
    with pytest.raises(OSError, match="no tf.train.Example"):
        records.read(7)
    assert f"of {tmp_path / 'r1'}" in records.name(7)
