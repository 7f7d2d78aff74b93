"""What the flags say together."""

import json

import pytest

from kdmlc_tf.config import OWN, PRESETS, Config, differences, with_presets
from kdmlc_tf.errors import InputError


def test_statistics_are_given_together_or_measured():
    assert Config().statistics() is None
    config = Config(mean="123.5, 116,104", std="58,57,57.5").validate()
    assert config.statistics() == ((123.5, 116.0, 104.0), (58.0, 57.0, 57.5))


@pytest.mark.parametrize(
    "mean, std", [("1,2", None), (None, "1"), ("1,2", "1"), ("a", "1"), ("1", "0"), ("1", "nan")]
)
def test_statistics_that_cannot_be_are_refused(mean, std):
    with pytest.raises(InputError, match="--mean and --std must be given together"):
        Config(mean=mean, std=std).validate()


def test_a_data_sets_warm_up_belongs_to_its_own_number_of_epochs():
    digits = PRESETS["digits"]
    assert with_presets(digits, {}).warmup() == digits["warmup_epochs"] < digits["epochs"]
    assert with_presets(digits, {"epochs": 4}).warmup() == 2
    assert with_presets(digits, {"epochs": 4, "warmup_epochs": 4}).warmup() == 4
    assert with_presets(digits, {"epochs": 4, "method": "mlc"}).warmup() == 0


@pytest.mark.parametrize(
    "given, clean",
    [
        ({}, 24),
        ({"batch_size": 256}, 64),
        ({"batch_size": 4}, 2),
        ({"batch_size": 256, "clean_batch_size": 9}, 9),
        ({"method": "mlc"}, 100),
        ({"method": "mlc", "bayes_start": True}, 24),
        ({"bayes_start": False}, 100),
        ({"method": "glc"}, 24),
        ({"method": "offline_kd"}, 24),
        ({"method": "clean_only", "batch_size": 31}, 30),
    ],
)
def test_clean_examples_are_a_quarter_of_the_noisy_or_as_many(given, clean):
    assert with_presets({}, given).clean_batch() == clean


def test_the_digits_clean_batch_is_a_quarter_as_well():
    assert with_presets(PRESETS["digits"], {}).clean_batch() == 12


def test_finetuning_needs_an_epoch_of_each_kind():
    with pytest.raises(InputError, match="--epochs must be at least 2. Received: 1."):
        Config(method="finetune", epochs=1).validate()
    assert Config(method="finetune", epochs=2).validate()


def test_a_rate_is_refused_where_the_noise_has_its_own():
    with pytest.raises(InputError, match="--noise says nothing about --noise_type=given"):
        with_presets(OWN, {"noise": 0.7})


def test_a_view_of_the_students_is_for_methods_that_have_one():
    view = {"strong_view": "randaugment"}
    for method in ("mlc", "ce", "clean_only", "finetune", "glc"):
        with pytest.raises(InputError, match=f"--strong_view would do nothing with .*={method}:"):
            with_presets({}, {**view, "method": method})
    for method in ("kdmlc", "offline_kd"):
        assert with_presets({}, {**view, "method": method}).strong_view == "randaugment"


def test_updates_of_the_student_are_for_kdmlc():
    for method in ("mlc", "ce", "clean_only", "finetune", "glc", "offline_kd"):
        with pytest.raises(InputError, match=f"--student_updates would do nothing .*={method}:"):
            with_presets({}, {"student_updates": 2, "method": method})
        assert with_presets({}, {"student_updates": 1, "method": method}).student_updates == 1
        with pytest.raises(InputError, match=f"would do nothing with --method={method}:"):
            with_presets(PRESETS["digits"], {"student_updates": 3, "method": method})
    assert with_presets({}, {"student_updates": 2}).student_updates == 2
    with pytest.raises(InputError, match="--student_updates must be at least 1. Received: 0."):
        with_presets({}, {"student_updates": 0})
    with pytest.raises(InputError, match="less than one of the 3 epochs: it must be at most --ep"):
        with_presets({}, {"student_updates": 4, "epochs": 3})


def test_the_student_starts_late_where_there_are_epochs_for_it():
    assert [Config(epochs=epochs).updates() for epochs in (1, 2, 3, 120)] == [1, 2, 3, 3]
    assert with_presets({}, {"epochs": 2}).student_updates == 2  # what is stored is what runs
    assert Config(method="offline_kd").updates() == 1
    for method in ("kdmlc", "mlc"):
        assert with_presets(PRESETS["digits"], {"method": method}).updates() == 1


def test_a_run_stored_before_students_started_late_is_one_from_the_start():
    now = with_presets({}, {"student_updates": 1})
    stored = json.loads(now.to_json())
    del stored["student_updates"]
    assert Config.from_json(json.dumps(stored)) == now
    assert differences(stored, vars(now)) == differences(vars(now), stored) == []
    late = [("student_updates", 1, 3)]
    assert differences(stored, vars(with_presets({}, {}))) == late
    other = [("method", "kdmlc", "ce")]
    assert differences(stored, vars(with_presets({}, {"method": "ce"}))) == other


def test_a_run_stored_before_the_ramp_could_be_left_out_had_it_if_there_was_a_matrix():
    now = with_presets({}, {"matrix_ramp": True})
    stored = json.loads(now.to_json())
    del stored["matrix_ramp"]
    assert Config.from_json(json.dumps(stored)) == now
    assert differences(stored, vars(with_presets({}, {}))) == [("matrix_ramp", True, False)]
    for other in ({"bayes_start": False}, {"method": "mlc"}, {"method": "ce"}):
        now = with_presets({}, other)
        stored = {**json.loads(now.to_json()), "matrix_ramp": True}
        assert differences(stored, vars(now)) == differences(vars(now), stored) == []


def test_a_setting_that_is_no_more_is_left_out_where_it_did_nothing():
    now = with_presets({}, {})
    stored = {**json.loads(now.to_json()), "matrix_hold_epochs": 0}
    assert Config.from_json(json.dumps(stored)) == now
    assert differences(stored, vars(now)) == []
    with pytest.raises(InputError, match="cannot be read: .*matrix_hold_epochs"):
        Config.from_json(json.dumps({**stored, "matrix_hold_epochs": 1}))


def test_whole_numbers_are_rates_too():
    config = Config(learning_rate=1, momentum=0).validate()
    assert (type(config.learning_rate), type(config.momentum)) == (float, float)
    assert type(config.epochs) is int


@pytest.mark.parametrize("idle", [{"temperature": 4.0}, {"distil_clean": True}])
def test_settings_of_a_distillation_that_counts_nothing_are_refused(idle):
    (name,) = idle
    with pytest.raises(InputError, match=f"--{name} would do nothing with --distillation_weight=0"):
        with_presets({}, idle)
    assert with_presets({}, {**idle, "distillation_weight": 0.5})
    assert with_presets({}, {**idle, "method": "offline_kd"}).distillation_weight == 0.5
    assert with_presets({}, {**idle, "method": "ce"})


def test_runs_differ_in_what_their_method_looks_at():
    def settings(**given):
        return vars(with_presets({}, given))

    before = settings(distillation_weight=0.5, temperature=4.0, seed=1)
    now = settings(data_dir="elsewhere", jit_compile=True)
    assert differences(before, now) == [
        ("seed", 1, 0),
        ("temperature", 4.0, 1.0),
        ("distillation_weight", 0.5, 0.0),
    ]
    now = {**now, "method": "ce", "added_since": 1}
    assert differences({**before, "method": "ce", "gone_since": 1}, now) == [("seed", 1, 0)]
