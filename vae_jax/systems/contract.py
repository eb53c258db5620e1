"""The contract between a system and the rest: a system is a training recipe, who is optimised by what."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError

Weight = float | Callable[[jax.Array], jax.Array]  # a number, or a function of the step


class System(NamedTuple):
    """Pure functions and a table. `batch` is {'image': [B, H, W, C] float32 in [0, 1], 'label': [B] int32, ...}.

    rules: {player: {term: weight}}: each player descends on the weighted sum of its row and on nothing else.
    frozen: () -> trees of weights that no player owns; passed to the functions as an argument, never captured.
    init: (key, batch) -> (params by player, stats).
    pretrained: () -> a part of the params by player, which starts from there in place of what `init` draws.
    terms: (params, stats, frozen, batch, key, step) -> ({term: mean over the batch}, new stats).
    evaluate: (params, stats, frozen, batch) -> (recon like batch['image'] or None, {metric: [B]}).
    encode: (params, stats, frozen, images) -> (mean, logvar), [B, *latent_shape] each; where encoding is not random the
      log-variance is -inf. encoder_frozen: () -> the part of `frozen` that it needs.
    decode: (params, stats, z) -> images in [0, 1] of z [B, *latent_shape].
    prior: whether z ~ N(0, 1) decodes to images like those learnt from.
    gate: (scalars, gate state) -> ({player: whether it is updated}, new gate state); a player it does not name
      always is. init_gate: () -> the first gate state.
    observe: (images) -> what encode takes of them: the images themselves, or lower resolutions, of which decoded images
      have `factor` times the height and width. receptive_radius: how many pixels away encode and decode see of these,
      where they take images of any size; None where they take only the size they were trained on.
    targets: (frozen, images) -> {name: [B, ...]}, what of images `terms` would compute alike in every epoch, and takes
      from its batch where it is there.
    baselines: {name: (batch) -> recon}, what is judged beside the system's own reconstructions.
    """

    rules: Mapping[str, Mapping[str, Weight]]
    frozen: Callable[[], Any]
    init: Callable[..., tuple[dict[str, Any], Any]]
    terms: Callable[..., tuple[dict[str, jax.Array], Any]]
    evaluate: Callable[..., tuple[jax.Array | None, dict[str, jax.Array]]]
    encode: Callable[..., tuple[jax.Array, jax.Array]] | None = None
    decode: Callable[..., jax.Array] | None = None
    latent_shape: tuple[int, ...] = ()
    prior: bool = False
    encoder_frozen: Callable[[], Any] = dict
    pretrained: Callable[[], Any] = dict
    gate: Callable[..., tuple[dict[str, jax.Array], Any]] = lambda scalars, state: ({}, state)
    init_gate: Callable[[], Any] = dict
    observe: Callable[[jax.Array], jax.Array] = lambda images: images
    factor: int = 1
    receptive_radius: int | None = None
    targets: Callable[[Any, jax.Array], dict[str, jax.Array]] = lambda frozen, images: {}
    baselines: Mapping[str, Callable[[Mapping[str, jax.Array]], jax.Array]] = {}


def weight_schedule(weight: float, start: int = 0, warmup: int = 0) -> Weight:
    """A term's weight over the run: 0 before step `start`, then a linear ramp of `warmup` steps to `weight`."""
    if start < 0 or warmup < 0:
        raise UserError(f"A term's start ({start}) and warmup ({warmup}) are counts of steps and cannot be negative.")
    if not start and not warmup:
        return weight

    def at(step: jax.Array) -> jax.Array:
        return weight * jnp.clip((step - start + 1) / max(warmup, 1), 0.0, 1.0)

    return at


def term_weight(term: ConfigDict) -> Weight:
    """The weight over the run of a term of a config."""
    return weight_schedule(term.weight, term.start, term.warmup)


def weight_at(weight: Weight, step: jax.Array) -> float | jax.Array:
    """What a weight is at a step."""
    return weight(step) if callable(weight) else weight
