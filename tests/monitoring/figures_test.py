import numpy as np
import pytest

from kdmlc_tf.monitoring import figures


def has(picture, colour, tolerance=12):
    """Whether some pixels of the picture have (about) this colour."""
    return (np.abs(picture.astype(int) - colour).max(axis=-1) <= tolerance).sum() > 5


def test_matrices_beside_each_other():
    both = figures.noise_matrices(np.eye(3), np.full((3, 3), 1 / 3), list("abc"))
    alone = figures.noise_matrices(np.eye(3), None, list("abc"))
    assert both.dtype == alone.dtype == np.uint8
    assert both.shape == (440, 960, 3)
    assert alone.shape == (440, 480, 3)
    # viridis: 1 is yellow, 0 is dark purple, 1/3 blue. Only the left half shows 0 and 1 as cells.
    assert has(alone, (253, 231, 36))
    assert has(both[:, 500:860], (49, 104, 142), tolerance=20)
    assert not has(both[:, :430], (49, 104, 142), tolerance=5)


def test_rows_are_drawn_downwards():
    learned = np.array([[0.0, 1.0], [0.0, 0.0]])  # row 0 on top: yellow in the upper right cell
    picture = figures.noise_matrices(learned, None, ["a", "b"])
    yellow = np.abs(picture[:, :370].astype(int) - (253, 231, 36)).max(axis=-1) < 12
    rows, columns = np.nonzero(yellow)
    assert rows.mean() < 200 and columns.mean() > 200


def test_nan_rows_and_many_classes_are_drawn():
    matrix = np.full((100, 100), np.nan)
    assert figures.noise_matrices(matrix, None, [str(k) for k in range(100)]).std() > 0


def test_matrix_of_another_size():
    with pytest.raises(ValueError, match=r"true matrix must have shape \(2, 2\).*\(3, 3\)"):
        figures.noise_matrices(np.eye(2), np.eye(3), ["a", "b"])


def test_grid_shows_images_and_judges_them_by_colour():
    red = np.zeros((3, 4, 4, 3), np.uint8)
    red[..., 0] = 255
    green, wrong, grey = (26, 127, 55), (198, 40, 40), (68, 68, 68)
    right = figures.label_grid(red, [1, 1, 1], [0, 0, 0], [0, 0, 0], ["cat", "dog"])
    assert right.dtype == np.uint8 and right.shape == (220, 570, 3)
    assert has(right, (255, 0, 0)) and has(right, green) and not has(right, wrong)
    mixed = figures.label_grid(red, [1, 1, 1], [0, 1, 0], [0, 0, 0], ["cat", "dog"])
    assert has(mixed[:, :190], green) and has(mixed[:, 190:380], wrong)
    assert not has(mixed[:, 190:380], green)
    unknown = figures.label_grid(red, [1, 1, 1], [0, 0, 0], None, ["cat", "dog"])
    assert has(unknown, grey) and not has(unknown, green) and not has(unknown, wrong)
    partly = figures.label_grid(red, [1, 1, 1], [0, 0, 0], [0, -1, 0], ["cat", "dog"])
    assert has(partly[:, :190], green) and has(partly[:, 190:380], grey)
    assert not has(partly[:, 190:380], green)


def test_a_name_with_dollars_is_no_formula():
    odd = ["price_$_low", "price_$_high"]
    grid = figures.label_grid(np.zeros((1, 8, 8, 1), np.uint8), [0], [1], [1], odd)
    assert grid.shape == (220, 190, 3)
    assert figures.noise_matrices(np.eye(2), None, odd).std() > 0


def test_grid_wraps_and_takes_grey_images():
    grid = figures.label_grid(
        np.zeros((9, 8, 8, 1), np.uint8), [0] * 9, [0] * 9, None, ["a very long class name"]
    )
    assert grid.shape == (660, 760, 3)


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 4, 2), (0, 4, 4, 3)])
def test_not_images(shape):
    with pytest.raises(ValueError, match="must have shape"):
        figures.label_grid(np.zeros(shape, np.uint8), [0, 0], [0, 0], None, ["a"])
