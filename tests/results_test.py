"""What the documents say of the track is what results/track.json holds."""

import dataclasses
import pathlib
import statistics

import pytest

from kdmlc_tf.config import differences
from tools import choices, measure_labels, measure_unseen, measured, reproduce

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def result():
    return measured.read(ROOT / "results" / "track.json")


def test_the_tracks_result_is_of_its_settings_and_sums_up_its_runs(result):
    assert result["settings"] == reproduce.common_settings()
    assert result["command"] == reproduce.track_command(result["cells"])
    assert set(result["cells"]) <= set(reproduce.cell_files())
    for cell in result["cells"].values():
        for row, method in cell["methods"].items():
            assert method == measured.summary(measured.runs_of(cell, row)), row


def test_the_tracks_runs_have_the_settings_of_their_cells_and_rows(result):
    for name, cell in result["cells"].items():
        for row, method in cell["methods"].items():
            wanted = dataclasses.asdict(reproduce.config_of(name, row))
            assert measured.has_settings(f"{name}, {row},", method["config"], wanted)


@pytest.mark.parametrize(
    "table, document",
    [
        ("overview", "README.md"),
        ("leads_in_short", "README.md"),
        ("figures", "docs/TRACK.md"),
        ("leads", "docs/TRACK.md"),
    ],
)
def test_the_tracks_tables_stand_in_the_documents(result, table, document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert f"\n\n{reproduce.tables_of(result)[table]}\n\n" in text, (
        f"{document}: put in what `python tools/reproduce.py track --tabulate` prints"
    )


@pytest.fixture(scope="module")
def both_results(result):
    before = measured.read(ROOT / "results" / "track_ramp.json")["cells"]
    return {"track.json": result["cells"], "track_ramp.json": before}


def test_what_validation_says_of_each_choice_stands_in_the_documents(both_results):
    tables = {
        "docs/ABLATIONS.md": choices.table(both_results, choices.CHOICES),
        "docs/TRACK.md": choices.tuning(both_results["track.json"]),
    }
    for document, table in tables.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        assert f"\n\n{table}\n\n" in text, (
            f"{document}: put in what `python tools/choices.py` prints"
        )


@pytest.mark.parametrize(
    "settings, pair",
    [(choice.settings, pair) for choice in choices.CHOICES.values() for pair in choice.pairs],
)
def test_a_choices_pairs_differ_in_its_settings_alone(both_results, settings, pair):
    (file, row), (other_file, other_row) = pair
    compared = 0
    for cell, part in both_results[file].items():
        chosen = measured.runs_of(part, row)
        other = measured.runs_of(both_results[other_file].get(cell), other_row)
        for seed in chosen.keys() & other.keys():
            found = differences(other[seed]["config"], chosen[seed]["config"])
            names = {name for name, *_ in found}
            assert names and names <= settings, (cell, seed, names - settings)
            compared += 1
    assert compared


def test_the_shares_of_right_labels_stand_in_the_document():
    cells = measured.read(ROOT / "results" / "track_labels.json")["cells"]
    text = (ROOT / "docs" / "TRACK.md").read_text(encoding="utf-8")
    assert f"\n\n{measure_labels.table(cells)}\n\n" in text, (
        "docs/TRACK.md: put in what `python tools/measure_labels.py` prints"
    )


def test_the_accuracies_on_unseen_images_stand_in_the_document():
    runs = measured.read(ROOT / "results" / "track_unseen.json")["runs"]
    text = (ROOT / "docs" / "TRACK.md").read_text(encoding="utf-8")
    assert f"\n\n{measure_unseen.table(runs)}\n\n" in text, (
        "docs/TRACK.md: put in what `python tools/measure_unseen.py` prints"
    )


def test_the_runs_judged_on_unseen_images_have_the_tracks_test_accuracies(result):
    runs = measured.read(ROOT / "results" / "track_unseen.json")["runs"]
    for name, run in runs.items():
        cell, _, of = name.partition("/")
        row, _, seed = of.rpartition("-")
        found = measured.runs_of(result["cells"][cell], row)[seed]
        assert run["test"] == pytest.approx(found["last_test_student_accuracy"]), name


def test_the_gpus_pairs_are_of_the_tracks_runs_and_stand_in_the_document():
    gpu = measured.read(ROOT / "results" / "track_gpu.json")
    result = measured.read(ROOT / "results" / "track_ramp.json")
    for pair in gpu["pairs"]:
        run = measured.runs_of(result["cells"][pair["cell"]], pair["row"])[str(pair["seed"])]
        assert run["last_test_student_accuracy"] == pytest.approx(pair["core"], abs=1e-6)
    differences = [pair["gpu"] - pair["core"] for pair in gpu["pairs"]]
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    assert gpu["mean_difference"] == pytest.approx(mean)
    assert gpu["std_of_differences"] == pytest.approx(deviation)
    text = " ".join((ROOT / "docs" / "TRACK.md").read_text(encoding="utf-8").split())
    error = deviation / len(differences) ** 0.5
    assert f"{len(differences)} runs that a core had done were done there, too" in text
    assert (
        f"{-100 * mean:.2f} ± {100 * error:.2f} points lower in the mean (± standard error; one "
        f"pair: ± {100 * deviation:.2f}; `results/track_gpu.json`)"
    ) in text
