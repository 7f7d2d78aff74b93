"""The experiment's networks are of the sizes that it claims."""

import pathlib

from kdmlc_tf.networks import registry

FLAGS = pathlib.Path(__file__).parents[3] / "flags" / "clothing1m.flags"


def test_the_student_has_at_most_three_million_parameters():
    lines = [line for line in FLAGS.read_text().splitlines() if line.startswith("--")]
    flags = dict(line.removeprefix("--").split("=") for line in lines)
    size = int(flags["crop_size"])
    counts = {
        role: registry.count_parameters(
            registry.build(flags[role], input_shape=(size, size, 3), num_classes=14, seed=0)
        )
        for role in ("teacher", "student")
    }
    assert counts["student"] <= 3_000_000 < 20_000_000 < counts["teacher"]
