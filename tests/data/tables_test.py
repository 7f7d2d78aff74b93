import resource
import time

import pytest

from kdmlc_tf.data import tables
from kdmlc_tf.errors import InputError

PLAIN = "path,label,split\na.jpg,cat,noisy\nb.jpg,dog,clean\nc.jpg,cat,test\n"


def read(folder, text, **options):
    path = folder / "list.csv"
    path.write_text(text, **{"encoding": "utf-8", **options})
    return tables.read(path)


def assert_plain(result):
    listed, paths = result
    assert paths.tolist() == [b"a.jpg", b"b.jpg", b"c.jpg"]
    assert listed.class_names == ("cat", "dog")
    assert listed.labels.tolist() == [0, 1, 0] and listed.true_labels.tolist() == [-1] * 3
    assert listed.splits.tolist() == [0, 1, 3] and listed.reasons == {}


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("path,label,split", "Path, Label ,SPLIT").replace("a.jpg", '"a.jpg"'),
        PLAIN.replace("a.jpg", "./x/../a.jpg") + "\n\n",
    ],
)
def test_tables_as_programs_write_them(tmp_path, text):
    assert_plain(read(tmp_path, text))


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert_plain(read(tmp_path, PLAIN, encoding="utf-8-sig"))


def test_unknown_columns_do_no_harm_and_true_labels_are_read(tmp_path):
    listed, _ = read(
        tmp_path,
        "id,split,note,true_label,label,path\n"
        '7,noisy,"a, b",10,9,a.jpg\n8,noisy,,,10,b.jpg\n9,test,,,9,c.jpg\n',
    )
    assert listed.class_names == ("9", "10")
    assert listed.labels.tolist() == [0, 1, 0] and listed.true_labels.tolist() == [1, -1, -1]


def test_a_row_without_a_label_is_a_fault_of_that_example(tmp_path):
    listed, _ = read(tmp_path, PLAIN.replace("cat,noisy", ",noisy"))
    assert listed.labels.tolist() == [-1, 1, 0]
    assert listed.reasons == {0: "line 2 gives a.jpg no label"}


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "must name the columns path, label and split.*Missing: path, label, split"),
        ("path,class,split\n", "Missing: label. There: path, class, split"),
        (PLAIN.replace("clean", "train"), "Line 3 of .*: the split must be one of noisy, clean,"),
        (PLAIN.replace("b.jpg", " "), "Line 3 of .* has no path"),
        (PLAIN.replace("b.jpg", "b\0.jpg"), "Line 3 of .* has a NUL character"),
        (PLAIN + "d.jpg", "Line 5 of .*: the split must be one of"),
        (PLAIN + "./a.jpg,cat,test\n", "1 images in two splits, first a.jpg in noisy and test"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(InputError, match="not UTF-8 text"):
        read(tmp_path, PLAIN.replace("cat", "Kätzchen"), encoding="latin-1")
    with pytest.raises(InputError, match="cannot be read: .*No such file"):
        tables.read(tmp_path / "none.csv")


def test_the_same_image_twice_in_one_split_is_allowed(tmp_path):
    assert len(read(tmp_path, PLAIN + "a.jpg,dog,noisy\n")[1]) == 4


def test_a_million_rows_are_read_in_the_memory_of_their_characters(tmp_path):
    path = tmp_path / "list.csv"
    with open(path, "w") as file:
        file.write("path,label,split\n")
        for start in range(0, 1_000_000, 10_000):
            rows = range(start, start + 10_000)
            file.writelines(f"images/{n % 10}/{n:012d}.jpg,{n % 14},noisy\n" for n in rows)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    listed, paths = tables.read(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert paths.shape == (1_000_000,) and paths.itemsize == 25
    assert listed.labels[-1] == 999_999 % 14
    assert grown < 200_000
    assert time.monotonic() - began < 60
