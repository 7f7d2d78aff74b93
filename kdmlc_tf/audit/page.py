"""The page of an audit: one HTML file that needs nothing else."""

import json
import pathlib

from kdmlc_tf.audit import pictures
from kdmlc_tf.audit.table import shown
from kdmlc_tf.monitoring import figures

_TEMPLATE = pathlib.Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
_DATA = "AUDIT_DATA"


def render(findings, images, *, facts, limit):
    """The page's text.

    Args:
      findings: `Findings` of n examples.
      images: [n, ...], an array or `EncodedImages`; the worst are decoded, and shown where they are
        images.
      facts: what was audited: dict of the "run", its "method", the "data set", the "epoch".
      limit: how many of the worst examples it shows.
    """
    data = {
        "title": f"Labels of {facts['data set']}",
        "facts": facts,
        "summary": findings.summary(),
        "examples": _examples(findings, images, limit),
    }
    # In a script "<" could begin the end of it; this is the same JSON without one.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return _TEMPLATE.replace(_DATA, text)


def _examples(findings, images, limit):
    """The worst examples, worst first, each a dict."""
    predictions, worst = findings.predictions, findings.order[:limit]
    suggested = findings.suggested_labels[worst]
    probabilities = {
        name: predictions.probability_of_given(name)[worst] for name in ("teacher", "student")
    }
    examples = []
    for place, n in enumerate(worst):
        example = {
            "id": shown(findings.ids[n]),
            "given": int(predictions.given_labels[n]),
            "suggested": int(suggested[place]),
            "quality": round(float(findings.quality[n]), 6),
            "selected": bool(findings.selected[n]),
            **{name: round(float(values[place]), 6) for name, values in probabilities.items()},
        }
        if findings.true_labels is not None and findings.true_labels[n] >= 0:
            example["true"] = int(findings.true_labels[n])
        examples.append(example)
    if figures.are_images(images):
        for example, address in zip(examples, pictures.data_uris(images, worst), strict=True):
            example["image"] = address
    return examples
