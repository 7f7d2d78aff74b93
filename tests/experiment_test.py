"""What a configuration makes of the students' steps."""

import pytest

from kdmlc_tf import summary
from kdmlc_tf.config import Config
from kdmlc_tf.experiment import Builder


def built(**settings):
    config = Config(
        teacher="mlp", student="mlp:0.5", epochs=8, milestones="2,6", **settings
    ).validate()
    return Builder(config, input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=5).build()


def rates(method, name, step):
    """A network's rate before and after it has taken as many steps."""
    schedule = method.optimizers_by_name[name]._learning_rate
    return [float(schedule(number)) for number in (step - 1, step)]


def test_rates_fall_at_the_milestones():
    method = built()
    for name in ("teacher", "student"):
        assert rates(method, name, 10) == pytest.approx([0.1, 0.01])
        assert rates(method, name, 30) == pytest.approx([0.01, 0.001])


def test_a_late_students_rate_falls_after_as_many_updates_of_its_own():
    method = built(student_updates=2)
    assert method.student_start == 20
    for name in ("teacher", "student"):
        assert rates(method, name, 10) == pytest.approx([0.1, 0.01])
        assert rates(method, name, 30) == pytest.approx([0.01, 0.001])


def test_a_user_is_told_when_the_student_starts():
    said = summary.late_student(Config(epochs=25, student_updates=2))
    assert said.startswith("Student:  after 12.5 of 25 epochs, 2 updates in each step, each on ")
    assert "after 1333.3 of 2000 epochs, 3 updates" in summary.late_student(
        Config(epochs=2000, student_updates=3)
    )
    for early in ({"student_updates": 1}, {"method": "ce"}, {"epochs": 1}):
        assert summary.late_student(Config(**early)) == ""


def test_a_start_between_steps_is_the_later_one():
    assert built(student_updates=3).student_start == 27  # of 40 steps; 13 with three updates
