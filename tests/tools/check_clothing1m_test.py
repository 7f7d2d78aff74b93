"""The tool that checks a download, on a made one."""

import importlib.util
import pathlib

import pytest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "check_clothing1m.py"
SPEC = importlib.util.spec_from_file_location("check_clothing1m", TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """The miniature's sizes stand for the published ones."""
    splits = {
        split: (*files, size)
        for (split, (*files, _)), size in zip(
            tool.lists.SPLITS.items(), (140, 42, 28, 28), strict=True
        )
    }
    monkeypatch.setattr(tool.lists, "SPLITS", splits)


def test_a_whole_download_is_said_to_be_whole(download, capsys):
    assert tool.main([str(download)]) == 0
    shown = capsys.readouterr().out
    assert "noisy: 140 images of 14 classes in noisy_train_key_list.txt\n" in shown
    assert "140 decoded, 0 missing or damaged" in shown and "Nothing is wrong." in shown


def test_every_planted_fault_is_named(faulty, capsys):
    assert tool.main([str(faulty), "--decode=0"]) == 1
    shown = capsys.readouterr().out
    for fault in ("noisy,3.jpg is missing", "noisy,4.jpg is empty", "noisy,5.jpg cannot be decod"):
        assert fault in shown
    assert "test,6.jpg cannot be decoded" in shown and "138 decoded, 3 missing" in shown


def test_only_some_are_decoded(faulty, capsys):
    assert tool.main([str(faulty), "--decode=10"]) == 1
    assert "    10 decoded, " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool.main([str(faulty), "--decode=-1"])
    assert "--decode must not be negative. Received: -1." in capsys.readouterr().err


def test_a_split_of_another_size_is_said(download, capsys):
    path = download / "clean_test_key_list.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:20]))
    assert tool.main([str(download)]) == 1
    assert "test: 20 images of 14 classes" in capsys.readouterr().out
    path.unlink()
    assert tool.main([str(download)]) == 1
    assert "error: " in capsys.readouterr().err
