"""The tables of what held-out noisy labels say of each choice of settings."""

from tools import choices


def part(**runs):
    """A cell's part of a result, whose rows have (validation, test) for each seed."""
    return {
        "methods": {
            row.replace("__", " --"): {
                "config": {},
                "runs": {
                    seed: {"last_val_student_accuracy": of[0], "last_test_student_accuracy": of[1]}
                    for seed, of in seeds.items()
                },
            }
            for row, seeds in runs.items()
        }
    }


def test_a_choice_gains_by_pairs_of_one_cell_and_seed():
    results = {
        "now": {
            "flip40": part(kdmlc={"0": (0.4, 0.7), "1": (0.42, 0.71), "2": (0.9, 0.1)}),
            "uniform0": part(kdmlc={"0": (0.9, 0.1)}),
        },
        "before": {"flip40": part(early={"0": (0.41, 0.68), "1": (0.4, 0.67)})},
        "other": {"uniform0": part(kd={"0": (0.9, 0.1)}), "uniform20": part(kd={"0": (0.1, 0.1)})},
    }
    late = choices.Choice(
        frozenset(),
        ((("now", "kdmlc"), ("before", "early")), (("now", "kdmlc"), ("other", "kd"))),
    )
    assert choices.table(results, {"late": late}).splitlines() == [
        "| choice | pairs | validation (noisy) | test |",
        "| --- | --- | --- | --- |",
        "| late | 3 | +0.3 ± 0.9 (1 : 1) | +2.0 ± 1.2 (2 : 0) |",
    ]


def test_less_than_nothing_that_rounds_to_it_is_no_loss():
    results = {"now": {"flip40": part(a={"0": (0.3, 0.3)}, b={"0": (0.3, 0.3002)})}}
    twice = choices.Choice(frozenset(), ((("now", "a"), ("now", "b")),) * 2)
    table = choices.table(results, {"a": twice})
    assert table.endswith("| a | 2 | +0.0 ± 0.0 (0 : 0) | +0.0 ± 0.0 (0 : 2) |")


def test_rows_with_flags_stand_beside_those_without_on_common_seeds():
    cell = part(
        ce={"0": (0.2, 0.5), "1": (0.22, 0.52), "2": (0.9, 0.9)},
        ce__learning_rate={"1": (0.24, 0.5), "0": (0.2, 0.4), "3": (0.9, 0.9)},
        mlc={"0": (0.1, 0.1)},
        offline_kd={"0": (0.2, 0.6)},
        offline_kd__matrix_ramp={"0": (0.2, 0.6)},
        kdmlc={"0": (0.2, 0.6)},
        kdmlc__cutout={"0": (0.2, 0.6)},
        glc__noise={"0": (0.1, 0.1)},
    )
    assert choices.tuning({"flip40": cell}).splitlines() == [
        "| cell | row | validation (noisy), default | validation (noisy) | test, default | test "
        "| seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| flip40 | ce --learning_rate | 21.0 | 22.0 | 51.0 | 45.0 | 2 |",
    ]
