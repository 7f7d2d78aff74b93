"""What the flags say together."""

import pytest

from kdmlc_tf.config import Config
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
