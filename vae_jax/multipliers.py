"""Terms that their own weight holds at a target, such as a rate of so many nats: `terms.NAME.target`.

A constraint with a multiplier that is moved by the distance between the term and its target, in the manner of GECO
(Rezende and Viola 2018, `Taming VAEs`), for any term, and of ControlVAE (Shao et al. 2020), for the KL, with a
controller of the same two parts. The ratio of term and target is measured in logarithms, and so is the weight: it stays
positive, and the same constants serve 5 nats and 300, or a squared error of 0.01.

    d <- 0.9 d + 0.1 clip(log(term / target), -1, 1)
    i <- i + INTEGRAL d
    weight = w exp(i + PROPORTIONAL d)

A term above its target is weighed more. w is the term's weight in the config, at which the multiplier starts; it moves
from the step at which the term has its full weight, and not beyond LARGEST w and w / LARGEST.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SMOOTHING, INTEGRAL, PROPORTIONAL = 0.9, 0.03, 1.0
LARGEST = 1e6
TINY = 1e-30  # a term below it counts as far below its target


Scheduled = float | Callable[[jax.Array], jax.Array]  # a number, or a function of the step


class Held(NamedTuple):
    """A weight that moves from the step `since` on, so that its term comes to be `target`."""

    weight: Scheduled
    target: float
    since: int


class Multiplier(NamedTuple):
    """deviation: d, the smoothed logarithm of the ratio of the term to its target. integral: i. Both [] float32."""

    deviation: jax.Array
    integral: jax.Array


def held_terms(rules: Mapping[str, Mapping[str, Any]]) -> dict[str, Held]:
    """The terms with a target in {player: {term: weight}}, whichever players descend on them."""
    return {term: weight for rule in rules.values() for term, weight in rule.items() if isinstance(weight, Held)}


def init_multipliers(rules: Mapping[str, Mapping[str, Any]]) -> dict[str, Multiplier]:
    """Before the first step: each weight is that of the config."""
    return {term: Multiplier(jnp.zeros(()), jnp.zeros(())) for term in held_terms(rules)}


def factor(multiplier: Multiplier) -> jax.Array:
    """What the config's weight is multiplied by."""
    bound = np.log(LARGEST)
    return jnp.exp(jnp.clip(multiplier.integral + PROPORTIONAL * multiplier.deviation, -bound, bound))


def moved(multiplier: Multiplier, held: Held, value: jax.Array, step: jax.Array) -> Multiplier:
    """The multiplier after a step in which the term was `value`."""
    bound, ratio = np.log(LARGEST), jnp.log(jnp.maximum(value, TINY) / held.target)
    deviation = SMOOTHING * multiplier.deviation + (1 - SMOOTHING) * jnp.clip(ratio, -1.0, 1.0)
    integral = jnp.clip(multiplier.integral + INTEGRAL * deviation, -bound, bound)
    new = Multiplier(deviation, integral)
    return jax.tree.map(lambda new, old: jnp.where(step >= held.since, new, old), new, multiplier)
