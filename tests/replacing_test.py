import os

import pytest

from kdmlc_tf.replacing import replacing, replacing_file


@pytest.fixture
def folder(tmp_path):
    """A folder with an old file in it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "old").write_text("old")
    return tmp_path / "mine"


def held(folder):
    """(names in the folder, names beside it)."""
    return [path.name for path in folder.iterdir()], [path.name for path in folder.parent.iterdir()]


def test_the_new_folder_takes_the_place_of_the_old_one_or_of_none(folder):
    for place in (folder, folder.parent / "deep" / "new"):
        with replacing(place, place.is_dir) as partial:
            (partial / "new").write_text("new")
            assert not (place / "new").exists()
        assert held(place) == (["new"], [place.name] if place != folder else ["mine"])
        if place == folder:
            continue
        assert not list(place.parent.glob(".*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_without_an_end_all_is_as_it_was(folder, error):
    with pytest.raises(error), replacing(folder, folder.is_dir) as partial:
        (partial / "new").write_text("new")
        raise error
    assert held(folder) == (["old"], ["mine"])


def test_what_came_in_between_is_kept(folder):
    with pytest.raises(OSError), replacing(folder, lambda: False) as partial:
        (partial / "new").write_text("new")
    assert held(folder) == (["old"], ["mine"])


def test_where_the_change_of_places_fails_the_old_folder_is_back(folder, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if source.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"), replacing(folder, folder.is_dir):
        pass
    assert held(folder) == (["old"], ["mine"])


def test_a_new_file_takes_the_place_of_the_old_one_or_of_none(folder):
    for place in (folder / "old", folder / "new"):
        with replacing_file(place) as partial:
            partial.write_text("new")
            assert not place.exists() or place.read_text() == "old"
        assert place.read_text() == "new"
    assert sorted(held(folder)[0]) == ["new", "old"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_without_an_end_a_file_is_as_it_was(folder, error):
    with pytest.raises(error), replacing_file(folder / "old") as partial:
        partial.write_text("new")
        raise error
    assert held(folder) == (["old"], ["mine"])
    assert (folder / "old").read_text() == "old"
