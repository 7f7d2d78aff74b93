"""The look-ahead and the meta-gradient: bi-level optimisation that knows no model.

The noisy loss L_T(w, α) is linear in the pseudo-labels, which depend on the corrector's weights α.
One step of the network's optimizer along G = ∇_w L_T leads to w'(α); how good the corrector is
shows in the clean loss L_M there. With v = ∇_{w'} L_M and w' = w - η u(G), s = ∂u/∂G:

    ∇_α L_M = -η s (∂G/∂α)ᵀ v

which an outer tape that has recorded G yields as the gradient of the scalar G·v, exactly: no
Hessian, no finite differences. Over replicas G, v and ∇_α are averaged as plain tensors between the
tapes.

Source: METHOD.md, "One training step"; Zheng et al., AAAI 2021, section 3 (one-step look-ahead).
"""

import typing

import tensorflow as tf

from kdmlc_tf import distribution
from kdmlc_tf.methods import sgd


class LookAhead(typing.NamedTuple):
    """Where one step of the optimizer would lead, and what its tape needs to differentiate it."""

    loss: tf.Tensor  # L_T, a scalar of this replica
    gradient: list  # S G, averaged over replicas; S is the optimizer's loss scale, or 1
    weights: list  # w'(α)
    factor: tf.Tensor  # dw'/d(S G) = -η s / S, a scalar
    tape: tf.GradientTape  # recorded how the local S G depends on α
    local_gradient: list  # S G of this replica, as on the tape
    outputs: typing.Any  # what `inner_loss` returned beside the loss


def look_ahead(inner_loss, weights, optimizer):
    """One virtual step on the inner loss; nothing is assigned.

    Args:
      inner_loss: callable (weights) -> (L_T, outputs): the scalar loss of this replica's share,
        computed with the weights given, reading the corrector's variables as it goes.
      weights: w, a list of tensors, outside any tape.
      optimizer: the built SGD whose step is looked ahead to (`sgd.lookahead`).

    Returns:
      A LookAhead.
    """
    with tf.GradientTape() as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(weights)
            loss, outputs = inner_loss(weights)
            scaled = optimizer.scale_loss(loss)
        local_gradient = inner.gradient(scaled, weights, unconnected_gradients="zero")
    gradient = distribution.mean_over_replicas(local_gradient)
    ahead, factor = sgd.lookahead(optimizer, gradient, weights)
    return LookAhead(loss, gradient, ahead, factor, outer, local_gradient, outputs)


def meta_gradient(ahead, meta_loss, corrector_weights, *, scale=1.0, through=None):
    """The gradient of the meta loss at w'(α) with respect to α.

    Of a partial look-ahead (FaMUS, Xu et al., CVPR 2021) it is the part that goes through some of
    the weights: the others are looked ahead with, as in the whole one, and taken for constants.
    Neither L_M nor G is then differentiated below the lowest of them.

    Fit for networks that compute in float16: v comes from `scale` L_M, and (∂G/∂α)ᵀ v is linear in
    v, hence taken from v / |v|, which neither underflows nor overflows. What is left, |v|, η and
    1/S, comes in afterwards, in the weights' own precision.

    Args:
      ahead: what `look_ahead` returned; its tape is used up.
      meta_loss: callable (weights) -> L_M, this replica's scalar clean loss at those weights.
      corrector_weights: α, the variables that `inner_loss` read.
      scale: the loss scale of the corrector's optimizer.
      through: positions of the weights gone through, in the order of `ahead.weights`; None: all.

    Returns:
      (L_M of this replica, `scale` ∇_α L_M averaged over replicas: a list of tensors shaped as α).
    """
    through = range(len(ahead.weights)) if through is None else through
    weights = [ahead.weights[k] for k in through]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(weights)
        loss = meta_loss(ahead.weights)
        scaled = scale * loss
    v = tape.gradient(scaled, weights, unconnected_gradients="zero")
    v = distribution.mean_over_replicas(v)
    norm = tf.linalg.global_norm(v)
    direction = [tf.math.divide_no_nan(part, norm) for part in v]
    # One scalar, S G·v / |v| with v constant, rather than a list with `output_gradients`: from
    # several targets a tape may walk back in another order on each replica, and their synchronised
    # batch norms have to meet in the same one.
    with ahead.tape:
        product = tf.add_n(
            [
                tf.reduce_sum(ahead.local_gradient[k] * cotangent)
                for k, cotangent in zip(through, direction, strict=True)
            ]
        )
    gradient = ahead.tape.gradient(product, corrector_weights, unconnected_gradients="zero")
    gradient = [ahead.factor * norm * part for part in gradient]
    return loss, distribution.mean_over_replicas(gradient)
