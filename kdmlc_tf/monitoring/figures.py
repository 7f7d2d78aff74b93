"""Pictures for TensorBoard, drawn without a display and without pyplot's global state."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DOTS_PER_INCH = 100
_MOST_NAMED_CLASSES = 20
_RIGHT, _WRONG, _UNKNOWN = "#1a7f37", "#c62828", "#444444"


def noise_matrices(learned, true, class_names):
    """The learned noise matrix beside the true one.

    Args:
      learned: float [classes, classes], rows are true classes; a NaN row is left blank.
      true: float [classes, classes], or None: then the learned one is drawn alone.
      class_names: a name per class; drawn, with the numbers, for up to 20 classes.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: a matrix is not square of the classes' size.
    """
    panels = [("learned", "class by pseudo-label", learned)]
    if true is not None:
        panels.append(("true", "true class", true))
    num_classes = len(class_names)
    for title, _, matrix in panels:
        if np.shape(matrix) != (num_classes, num_classes):
            raise ValueError(
                f"The {title} matrix must have shape ({num_classes}, {num_classes}). "
                f"Received: {np.shape(matrix)}."
            )
    highest = max(np.nanmax(matrix, initial=1e-6) for _, _, matrix in panels)
    figure = Figure(figsize=(4.8 * len(panels), 4.4), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, rows, matrix) in zip(axes, panels, strict=True):
        drawn = _draw_matrix(axis, np.asarray(matrix, dtype=float), highest, class_names)
        axis.set_title(f"{title} noise matrix")
        axis.set_ylabel(rows)
        axis.set_xlabel("given label")
    figure.colorbar(drawn, ax=list(axes), shrink=0.8, label="share of the row")
    return _pixels(figure)


def _draw_matrix(axis, matrix, highest, class_names):
    """Draws one heat map of values in 0..highest; returns the image for the colour bar."""
    image = axis.imshow(matrix, vmin=0, vmax=highest, cmap="viridis")
    if len(class_names) > _MOST_NAMED_CLASSES:
        return image
    ticks = range(len(class_names))
    names = [_shortened(name, 10) for name in class_names]
    style = {"fontsize": 8, "parse_math": False}  # "$" is a character of a name
    axis.set_xticks(ticks, names, rotation=45, ha="right", **style)
    axis.set_yticks(ticks, names, **style)
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if value < 0.6 * highest else "black"
            text = f"{value:.2f}".removeprefix("0")
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    return image


def are_images(array):
    """Whether examples are images that can be shown: [n, h, w, 1 or 3]."""
    return len(array.shape) == 4 and array.shape[-1] in (1, 3)


def label_grid(images, given, corrected, true, class_names, columns=4):
    """Images, each over "given → corrected", and its true label in brackets.

    Green: the corrected label is the true one; red: it is not; grey: the true one is not known.

    Args:
      images: uint8 [n, h, w, 1 or 3], n at least 1.
      given: int [n], labels as given.
      corrected: int [n], the corrector's likeliest classes.
      true: int [n], -1 where one is not known; or None.
      class_names: a name per class.
      columns: images per row.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: `images` is not a batch of images.
    """
    images = np.asarray(images)
    if not are_images(images) or len(images) == 0:
        raise ValueError(
            f"`images` must have shape [n, h, w, 1 or 3], n at least 1. Received: {images.shape}."
        )
    columns = min(columns, len(images))
    num_rows = -(-len(images) // columns)
    wide, high = 1.9 * columns, 2.2 * num_rows
    figure = Figure(figsize=(wide, high), dpi=_DOTS_PER_INCH)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    for n, image in enumerate(images):
        left, top = 1.9 * (n % columns), 2.2 * (n // columns)
        picture = np.broadcast_to(image, (*image.shape[:2], 3))
        axis.imshow(picture, extent=(left + 0.15, left + 1.75, top + 1.7, top + 0.1), aspect="auto")
        names = [_shortened(class_names[label], 9) for label in (given[n], corrected[n])]
        caption, colour = " → ".join(names), _UNKNOWN
        if true is not None and true[n] >= 0:
            caption += f"\n({_shortened(class_names[true[n]], 16)})"
            colour = _RIGHT if corrected[n] == true[n] else _WRONG
        style = {"ha": "center", "va": "top", "fontsize": 9, "color": colour}
        axis.text(left + 0.95, top + 1.75, caption, parse_math=False, **style)
    axis.set(xlim=(0, wide), ylim=(high, 0))
    return _pixels(figure)


def _shortened(name, length):
    """`name`, cut to `length` characters with a mark that it was."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _pixels(figure):
    """The drawn figure, uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
