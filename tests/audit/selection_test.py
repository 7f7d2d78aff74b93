import numpy as np
import pytest

from kdmlc_tf.audit import selection
from kdmlc_tf.errors import InputError

QUALITY = np.array([0.9, 0.2, 0.5, 0.2, 0.4])


def test_what_is_selected():
    assert selection.select(QUALITY).tolist() == [False, True, False, True, True]
    assert selection.select(QUALITY, threshold=0.2).sum() == 0
    assert selection.select(QUALITY, threshold=1.0).sum() == 5
    assert selection.select(QUALITY, top=1).tolist() == [False, True, False, False, False]
    assert selection.select(QUALITY, top=5).all()


@pytest.mark.parametrize(
    "threshold, top, sentence",
    [
        (1.5, None, "--threshold must be between 0 and 1. Received: 1.5."),
        (float("nan"), None, "--threshold must be between 0 and 1. Received: nan."),
        (-0.1, None, "--threshold must be between 0 and 1"),
        (None, 0, "--top must be at least 1. Received: 0."),
        (0.5, 3, "Give --threshold or --top, not both"),
    ],
)
def test_a_selection_that_cannot_be(threshold, top, sentence):
    with pytest.raises(InputError, match=sentence):
        selection.check(threshold, top)


def test_more_than_there_are():
    with pytest.raises(InputError, match="--top must be at most 5, .* noisy set. Received: 6."):
        selection.select(QUALITY, top=6)
