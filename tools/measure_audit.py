"""Measures how well an audit finds wrong labels, and what correcting them gains.

    python tools/measure_audit.py RUN RUN --work=DIR --data_dir=DIR
    python tools/measure_audit.py RUN RUN --work=DIR --data_dir=DIR --retrain

Every RUN is a finished KDMLC run on a data set whose true labels are known; they only judge. Its
labels are audited in the noisy set, and in the training images that it has never seen. cleanlab
(PyPI) is given the same probabilities. The student is then trained again, by cross-entropy on the
audited labels of the noisy set and the trusted ones, with the updates of the run. Answers of the
networks and the runs made lie in --work and are used again; results/audit.json is the result.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import platform
import subprocess
import sys
import types

import numpy as np
import tensorflow as tf
from scipy import special, stats

from kdmlc_tf.audit import quality, stages
from kdmlc_tf.data import pipeline, prepared
from kdmlc_tf.data.splits import Splits
from kdmlc_tf.run import Run

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLEANLAB = {
    "self_confidence": {"method": "self_confidence"},
    "self_confidence, adjusted": {"method": "self_confidence", "adjust_pred_probs": True},
    "normalized_margin": {"method": "normalized_margin"},
    "normalized_margin, adjusted": {"method": "normalized_margin", "adjust_pred_probs": True},
    "confidence_weighted_entropy": {"method": "confidence_weighted_entropy"},
}
_BATCH = 250


def main():
    """Measures what is missing, then writes and prints the result."""
    arguments = _arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    runs = {}
    for folder in arguments.runs:
        cell = _Cell(folder, arguments)
        runs[cell.name] = cell.measured()
        print(json.dumps({cell.name: runs[cell.name]}, indent=2), flush=True)
    path = arguments.results / "audit.json"
    result = {
        "command": "python tools/measure_audit.py RUN ... --work=DIR --data_dir=DIR --retrain",
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": platform.machine(), "system": platform.platform()},
        "runs": runs,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


class _Cell:
    """One run: its data, what its networks say of them, and what comes of that."""

    def __init__(self, folder, arguments):
        self.run, self.arguments = Run(folder), arguments
        config = dataclasses.replace(self.run.config, data_dir=arguments.data_dir)
        self.source = prepared.load_source(config)
        self.splits = Splits.load(self.run.folder / "splits.npz")
        self.given = np.load(self.run.folder / "noisy_labels.npy")
        self.name = self.run.folder.parent.name
        unseen = np.setdiff1d(
            np.arange(len(self.given)), np.concatenate(list(vars(self.splits).values()))
        )
        self.sets = {"noisy": self.splits.noisy, "unseen": unseen}

    def measured(self):
        """Scores on both sets; with --retrain also what correction gains."""
        found = {}
        for name, index in self.sets.items():
            answers = self.answers(name)
            wrong = self.given[index] != self.source.train_labels[index]
            named, corrected = scores(answers)
            found[name] = {
                "examples": len(index),
                "wrong": float(wrong.mean()),
                "expected_wrong": float(1 - named["ours"].mean()),
                "scores": {score: judged(wrong, values) for score, values in named.items()},
            }
            if name == "noisy" and self.arguments.retrain:
                found["retrained"] = self.retrained(corrected)
        return found

    def answers(self, name):
        """What the run's networks say of a set, a dict of arrays; kept in a file."""
        path = self.arguments.work / f"{self.name}-{name}.npz"
        if not path.is_file():
            index = self.sets[name]
            np.savez(path, **answers(self.run, self.source.train_images[index], self.given[index]))
        with np.load(path) as stored:
            return dict(stored)

    def retrained(self, corrected):
        """Test accuracies: of cross-entropy on the corrected labels, and of the run itself."""
        data, folder = self.arguments.work / f"{self.name}.npz", self.arguments.work / self.name
        index, right = self.splits.noisy, self.source.train_labels
        if not data.is_file():
            self.write(data, corrected)
        if not (folder / "report.json").is_file():
            self.train(data, folder)
        with np.load(data) as stored:
            corrected = stored["noisy_labels"]  # that were trained on, perhaps in an earlier call
        ours = json.loads((self.run.folder / "report.json").read_text("utf-8"))
        new = json.loads((folder / "report.json").read_text("utf-8"))
        accuracy = "test_student_accuracy"
        return {
            "right_labels_before": float(np.mean(self.given[index] == right[index])),
            "right_labels_after": float(np.mean(corrected == right[index])),
            "kdmlc": ours["results"]["last"][accuracy],
            "ce_on_corrected_labels": new["results"]["last"][accuracy],
        }

    def write(self, path, corrected):
        """The data set with corrected labels in the noisy set, in the form of npz:FILE."""
        images, arrays = self.source.train_images, {}
        labels = self.given.copy()
        labels[self.splits.noisy] = corrected
        labels[self.splits.clean] = self.source.train_labels[self.splits.clean]
        for name, index in vars(self.splits).items():
            arrays.update({f"{name}_images": images[index], f"{name}_labels": labels[index]})
        arrays.update(test_images=self.source.test_images, test_labels=self.source.test_labels)
        np.savez(path, **arrays, true_labels=self.source.train_labels[self.splits.noisy])

    def train(self, data, folder):
        """Trains the run's student by cross-entropy, settings and seed as in the run."""
        config = self.run.config
        same = {name: getattr(config, name) for name in ("student", "batch_size", "epochs", "seed")}
        same["clean_batch_size"] = config.clean_batch()
        same["milestones"] = ",".join(map(str, config.milestone_epochs()))
        command = [sys.executable, "-m", "kdmlc_tf.train", "--method=ce", f"--dataset=npz:{data}"]
        command += [f"--{name}={value}" for name, value in same.items()]
        command += ["--augment=crop_flip", f"--run={folder}", "--noexport"]
        command += ["--resume"] if (folder / "config.json").is_file() else []
        subprocess.run(command, check=True, cwd=ROOT)


def answers(run, images, given):
    """What a run's networks say of images [n, ...] with labels [n], a dict of arrays.

    Logits and features of the teacher's average are means over the image and its mirror image
    where the run was trained with both; "plain" ones, of the image alone, are for comparison.
    """
    method, _ = run.restored_method("last")
    averaged = stages.averaged(method.classifiers["teacher"], method.belief.average)
    flip = pipeline.Augmentation.for_dataset(
        run.config.dataset, run.data()["input_shape"], augment=run.config.augment
    ).flip
    ask_both = stages.both_views(averaged, flip)

    @tf.function(reduce_retracing=True)
    def ask(inputs, labels):
        both, networks = ask_both(inputs), method.classifiers
        return {
            "teacher_logits": both["logits"],
            "features": both["features"],
            "plain_logits": averaged(inputs)["logits"],
            "network_logits": networks["teacher"](inputs)["logits"],
            "student_logits": networks["student"](inputs)["logits"],
            "pseudo_labels": method.pseudo_labels(inputs, labels)["pseudo_labels"],
        }

    batches = pipeline.evaluation_batches(
        images,
        given,
        batch_size=_BATCH,
        preprocessing=pipeline.Preprocessing.from_dict(run.data()["preprocessing"]),
    )
    parts = [{name: rows.numpy() for name, rows in ask(*batch).items()} for batch in batches]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**found, "given_labels": given, "noise_matrix": method.belief.noise_matrix.matrix()}


def scores(found):
    """What is to be compared, of `answers`.

    Returns:
      (qualities, corrected): dict name -> float [n], larger where the label seems right; int [n],
      the likeliest class of each example by ours.
    """
    from cleanlab.rank import get_label_quality_scores

    given = found["given_labels"]
    plain, both = _softmax(found["plain_logits"]), _softmax(found["teacher_logits"])
    belief, matrix = quality.fitted(types.SimpleNamespace(**found))
    posteriors = quality.posterior(belief, quality.likelihood(matrix, given))
    named = {"ours": _at(posteriors, given)}
    for name, options in CLEANLAB.items():
        named[f"cleanlab {name}"] = get_label_quality_scores(given, plain, **options)
    best = CLEANLAB["self_confidence"]
    named["cleanlab on both views"] = get_label_quality_scores(given, both, **best)
    named["cleanlab on our probabilities"] = get_label_quality_scores(given, np.exp(belief), **best)
    named["Bayes' rule without heads"] = _at(_bayes(found, both), given)
    named["Bayes' rule, one view"] = _at(_bayes(found, plain), given)
    named["corrector"] = _at(found["pseudo_labels"], given)
    named["teacher's loss"] = _at(_softmax(found["network_logits"]), given)
    named["student's loss"] = _at(_softmax(found["student_logits"]), given)
    return named, np.argmax(posteriors, axis=1)


def _bayes(found, probabilities):
    likely = quality.likelihood(found["noise_matrix"], found["given_labels"])
    return quality.posterior(np.log(probabilities), likely)


def _softmax(logits):
    return special.softmax(np.asarray(logits, np.float64), axis=1)


def _at(rows, labels):
    return rows[np.arange(len(labels)), labels]


def judged(wrong, values):
    """AUROC of a quality for telling wrong labels; precision of its worst 1%, 10% and k.

    Args:
      wrong: bool [n].
      values: float [n], small where the label seems wrong; k is the number of wrong labels.

    >>> judged(np.array([True, False, True, False]), np.array([0.1, 0.2, 0.3, 0.4]))["auroc"]
    0.75
    """
    count, total = int(wrong.sum()), len(wrong)
    ranks = stats.rankdata(-values)[wrong].sum()
    worst = wrong[np.argsort(values, kind="stable")]
    return {
        "auroc": float((ranks - count * (count + 1) / 2) / (count * (total - count))),
        "precision_at_1_percent": float(worst[: max(1, total // 100)].mean()),
        "precision_at_10_percent": float(worst[: max(1, total // 10)].mean()),
        "precision_at_k": float(worst[:count].mean()),
    }


def table(result):
    """AUROC and precision@k in percent of every score, run by run and set by set, in Markdown."""
    columns = [(run, part) for run in result["runs"] for part in ("noisy", "unseen")]
    names = next(iter(result["runs"].values()))["noisy"]["scores"]
    lines = [
        "| score | " + " | ".join(f"{run}, {part}" for run, part in columns) + " |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for name in names:
        cells = [result["runs"][run][part]["scores"][name] for run, part in columns]
        shown = [f"{100 * c['auroc']:.1f}; {100 * c['precision_at_k']:.1f}" for c in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument("--data_dir", help="folder with prepared TensorFlow Datasets")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder to work in")
    parser.add_argument("--retrain", action="store_true", help="train on the corrected labels")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "results")
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    return arguments


if __name__ == "__main__":
    main()
