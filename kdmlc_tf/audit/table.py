"""An audit as a table: one row per example, worst first, as CSV and as Parquet."""

from kdmlc_tf.errors import InputError


def imported_pyarrow():
    """The module pyarrow; InputError where it is missing."""
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"The audit writes Parquet with pyarrow, which cannot be imported ({error}): "
            "pip install 'kdmlc_tf[audit]', or pip install pyarrow."
        ) from error
    return pyarrow


def columns(findings):
    """The table as a dict name -> array [n], worst first.

    Args:
      findings: `Findings`.
    """
    predictions, order = findings.predictions, findings.order
    names = [str(name) for name in findings.class_names]

    def named(labels):
        return [names[label] if label >= 0 else None for label in labels[order].tolist()]

    table = {
        "index": findings.indices[order],
        "id": [shown(name) for name in findings.ids[order].tolist()],
        "given_label": named(predictions.given_labels),
        "suggested_label": named(findings.suggested_labels),
        "quality": findings.quality[order],
        "selected": findings.selected[order],
    }
    for network in ("teacher", "student"):
        table[f"{network}_probability"] = predictions.probability_of_given(network)[order]
    if findings.true_labels is not None:
        table["true_label"] = named(findings.true_labels)
    for k, name in enumerate(names):
        name = name if names.count(name) == 1 else f"{name} ({k})"
        table[f"corrector: {name}"] = predictions.pseudo_labels[:, k][order]
    return table


def shown(name):
    """An id, bytes, as text; bytes that are no UTF-8 are written as numbers with a backslash."""
    return name.decode("utf-8", "backslashreplace")


def write(findings, folder):
    """Writes labels.csv and labels.parquet into a folder."""
    pyarrow = imported_pyarrow()
    table = pyarrow.table(columns(findings))
    pyarrow.csv.write_csv(table, folder / "labels.csv")
    pyarrow.parquet.write_table(table, folder / "labels.parquet")
