"""Optimisers and learning-rate schedules by name. A new one is one line in its table."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from vae_jax.errors import UserError, call_with_options, look_up


def constant(rate: float, steps: int) -> optax.Schedule:
    """The same rate throughout."""
    del steps
    return optax.constant_schedule(rate)


def cosine(rate: float, steps: int) -> optax.Schedule:
    """From `rate` to zero along half a cosine."""
    return optax.cosine_decay_schedule(rate, steps)


def halving(rate: float, steps: int) -> optax.Schedule:
    """Halved after each fifth of the run, as ports of Hou et al. 2017 do after each of five epochs."""
    return optax.exponential_decay(rate, max(steps // 5, 1), 0.5, staircase=True)


def deepsim(rate: float, steps: int) -> optax.Schedule:
    """Halved after 300,000, 500,000, 700,000 and 900,000 steps, as in Dosovitskiy and Brox 2016."""
    del steps
    return optax.piecewise_constant_schedule(rate, dict.fromkeys((300_000, 500_000, 700_000, 900_000), 0.5))


SCHEDULES = {"constant": constant, "cosine": cosine, "halving": halving, "deepsim": deepsim}


def rmsprop(schedule: optax.Schedule, *, decay: float = 0.9, eps: float = 1e-7) -> optax.GradientTransformation:
    """RMSprop as in Keras 2: the step is g / (sqrt(mean of g^2) + eps), with eps outside the root."""
    return optax.rmsprop(schedule, decay=decay, eps=eps, eps_in_sqrt=False)


def adam(
    schedule: optax.Schedule, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015); `weight_decay` times the parameters is added to the gradient, as in Caffe."""
    optimizer = optax.adam(schedule, b1=beta1, b2=beta2, eps=eps)
    return optax.chain(optax.add_decayed_weights(weight_decay), optimizer) if weight_decay else optimizer


def adamw(
    schedule: optax.Schedule,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_vectors: bool = False,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019): beside Adam's step, the rate times `weight_decay` times the parameters.

    Biases, scales of normalisation and whatever else has fewer than two axes decay only with `decay_vectors`.
    """

    def decays(params):
        return jax.tree.map(lambda leaf: decay_vectors or leaf.ndim > 1, params)

    return optax.adamw(schedule, b1=beta1, b2=beta2, eps=eps, weight_decay=weight_decay, mask=decays)


def sgd(schedule: optax.Schedule, *, momentum: float = 0.9) -> optax.GradientTransformation:
    """Gradient descent with momentum: the step is the rate times the sum of all gradients, each times momentum^age."""
    return optax.sgd(schedule, momentum=momentum)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
}


def make_optimizer(config: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """The optimiser of one player from its config: name, learning_rate, schedule, warmup_steps, clip_norm if the
    gradient's norm is bounded, and the optimiser's options."""
    options = dict(config)
    name = options.pop("name")
    make = look_up(OPTIMIZERS, name, "optimizer")
    clip_norm = options.pop("clip_norm", 0.0)
    rate, warmup = options.pop("learning_rate"), options.pop("warmup_steps")
    decay_steps = steps - warmup
    if decay_steps < 1:
        raise UserError(f"The optimizer's warmup_steps ({warmup}) must be less than the run's steps ({steps}).")
    schedule = look_up(SCHEDULES, options.pop("schedule"), "schedule")(rate, decay_steps)
    if warmup:
        schedule = optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), schedule], [warmup])
    optimizer = call_with_options(make, f"The optimizer {name}", schedule, **options)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer) if clip_norm else optimizer
