"""How likely each given label is right: a posterior that the audited labels themselves sharpen."""

import numpy as np
from scipy import optimize
from scipy.special import log_softmax, logsumexp, softmax

from kdmlc_tf.methods.noise_matrix import floored

PENALTIES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # of a head's weights, strongest first
_FOLDS = 3
_FEWEST = 100  # examples; of fewer no head is fitted
_ROWS = 50_000  # of features in memory; a head is fitted to no more, which would only cost time
_STEPS = 60
_EM_STEPS = 50
_PRIOR = 100  # examples of each class that the matrix started from counts as
_IMPOSSIBLE = -100.0  # logarithm of a probability, in place of smaller ones


def quality(predictions, *, seed=0):
    """What `posteriors` give each given label, and the likeliest classes by them.

    Returns:
      (quality, suggested labels): float64 [n] in [0, 1]; int64 [n].
    """
    found = posteriors(predictions, seed=seed)
    given = np.asarray(predictions.given_labels)
    return found[np.arange(len(given)), given], np.argmax(found, axis=1)


def posteriors(predictions, *, seed=0):
    """The probability of each class given image and label, by heads that have not seen the label.

    A network's last layer makes less of its features than is in them: it learned in few steps,
    from targets of early ones, and reads the last map alone. So a linear head on features h of all
    stages corrects the teacher's log-probabilities b by the likelihood of the given labels,

        log p_n = log softmax(b_n + W h_n + c),   W, c maximising
        mean_n log Σ_i p_n(i) T̂[i, y'_n] - λ |W|²

    once per fold: a fold's examples are judged by the head of the others. λ is the one under which
    the labels left out are likeliest; no head at all is one of the choices. Then the noise matrix
    is estimated again, with the better belief, and Bayes' rule gives

        q_n(i) ∝ p_n(i) T̂[i, y'_n]

    No true label is used. Where it is calibrated, the mean of 1 - q_n(y'_n) over some examples is
    the share of wrong labels among them.

    Args:
      predictions: of n examples: `teacher_logits` [n, K], `features` [n, f], `given_labels` int
        [n], `noise_matrix` [K, K]; None: labels say nothing of the class, and p is the teacher's.
      seed: of the folds.

    Returns:
      Float64 [n, K], rows sum to 1.

    Source: the likelihood is that of Patrini et al. 2017, arXiv:1609.03683 (forward correction);
    judging a label by a model that has not seen it is Northcutt et al. 2021, arXiv:1911.00068.
    """
    belief, matrix = fitted(predictions, seed=seed)
    return posterior(belief, likelihood(matrix, np.asarray(predictions.given_labels)))


def fitted(predictions, *, seed=0):
    """(log p [n, K], T̂ [K, K]) of `posteriors`: the belief by heads, and the matrix found with it.

    Args:
      predictions: see `posteriors`.
      seed: of the folds.
    """
    given, matrix = np.asarray(predictions.given_labels), predictions.noise_matrix
    belief = log_softmax(np.asarray(predictions.teacher_logits, np.float64), axis=1)
    belief = np.maximum(belief, _IMPOSSIBLE)
    if matrix is None:
        return belief, np.full((belief.shape[1],) * 2, 1 / belief.shape[1])
    belief = sharpened(belief, predictions.features, likelihood(matrix, given), seed=seed)
    return belief, estimated_matrix(belief, given, matrix)


def likelihood(matrix, given):
    """T̂[:, y'_n] of each example, float [n, K]; no label is thought impossible."""
    return floored(matrix)[:, given].T


def posterior(belief, likely):
    """Rows q_n(i) ∝ p_n(i) T̂[i, y'_n], float64 [n, K].

    Args:
      belief: log p, [n, K].
      likely: T̂[:, y'_n], [n, K].
    """
    return softmax(belief + np.log(likely), axis=1)


def estimated_matrix(belief, given, start):
    """The noise matrix under which the given labels are likeliest, by expectation maximisation.

    Args:
      belief: log p, [n, K].
      given: int [n].
      start: [K, K], an estimate that counts as `_PRIOR` examples of each class: few examples do
        not overturn it.

    Returns:
      Float64 [K, K], rows are true classes and sum to 1.

    Source: Dawid and Skene 1979, with a classifier as the prior, as in `methods.noise_matrix`.
    """
    matrix, labels = start, np.eye(len(start))[given]
    for _ in range(_EM_STEPS):
        mass = posterior(belief, likelihood(matrix, given)).T @ labels + _PRIOR * start
        matrix = mass / mass.sum(axis=1, keepdims=True)
    return matrix


def label_loss(belief, likely):
    """Mean of -log Σ_i p_n(i) T̂[i, y'_n], in nats: what the given labels say of a belief."""
    return -logsumexp(belief + np.log(likely), axis=1).mean()


def sharpened(belief, features, likely, *, seed=0):
    """The belief with heads on top, each example by one that was fitted without it.

    Args:
      belief: log p, [n, K].
      features: float [n, f].
      likely: T̂[:, y'_n], [n, K].
      seed: of the folds.

    Returns:
      Float64 [n, K], log-probabilities; `belief` where no penalty makes the labels likelier,
      or where there are too few.
    """
    if len(belief) < _FEWEST:
        return belief
    rng = np.random.default_rng(seed)
    folds = rng.permutation(np.arange(len(belief)) % _FOLDS)
    scaled = standardiser(features[_sample(rng, np.arange(len(belief)))])
    best, loss, heads = belief, label_loss(belief, likely), {}
    for penalty in PENALTIES:
        found = np.empty_like(belief)
        for fold in range(_FOLDS):
            rows = _sample(rng, np.flatnonzero(folds != fold))
            head = fitted_head(
                scaled(features[rows]), belief[rows], likely[rows], penalty, heads.get(fold)
            )
            judged = np.flatnonzero(folds == fold)
            for rows in np.array_split(judged, 1 + len(judged) // _ROWS):
                found[rows] = applied(head, scaled(features[rows]), belief[rows])
            heads[fold] = head
        if label_loss(found, likely) >= loss:
            break
        best, loss = found, label_loss(found, likely)
    return best


def _sample(rng, rows):
    """At most `_ROWS` of the rows, rising."""
    return np.sort(rng.permutation(rows)[:_ROWS])


def standardiser(features):
    """A function from features [b, f] to float32, less the mean and by the deviation of [n, f].

    Those that are constant in [n, f] become 0.
    """
    features = np.asarray(features, np.float32)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
    return lambda rows: (np.asarray(rows, np.float32) - mean) * scale


def applied(head, features, belief):
    """log softmax(b + h W + c), [n, K], of a head [f + 1, K] whose last row is c."""
    return log_softmax(belief + (features @ head[:-1] + head[-1]), axis=1)


def fitted_head(features, belief, likely, penalty, start=None):
    """The head [f + 1, K] that makes the labels likeliest, less penalty · |W|².

    Args:
      features: float32 [m, f].
      belief: log p, [m, K], constants that it adds to.
      likely: T̂[:, y'_m], [m, K].
      penalty: λ, per example.
      start: a head to start from; default: zeros, which change nothing.
    """
    shape = (features.shape[1] + 1, belief.shape[1])
    belief, log_likely = belief.astype(np.float32), np.log(likely).astype(np.float32)

    def loss_and_gradient(flat):
        head = flat.reshape(shape).astype(np.float32)
        log_p = applied(head, features, belief)
        joint = log_p + log_likely
        evidence = logsumexp(joint, axis=1, keepdims=True)
        change = (np.exp(log_p) - np.exp(joint - evidence)) / len(features)
        gradient = np.vstack([features.T @ change + 2 * penalty * head[:-1], change.sum(axis=0)])
        loss = -evidence.mean() + penalty * np.sum(head[:-1] ** 2)
        return np.float64(loss), gradient.ravel().astype(np.float64)

    start = np.zeros(shape) if start is None else start
    found = optimize.minimize(
        loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    return found.x.reshape(shape).astype(np.float32)
