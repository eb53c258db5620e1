"""The contract between a system and the rest: a system is a training recipe, who is optimised by what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError

Params = dict[str, Any]  # trees of trainable arrays by player
Stats = dict[str, Any]  # running statistics of normalisation layers, by network
Frozen = Any  # trees of weights that no player owns
Batch = Mapping[str, jax.Array]  # {'image': [B, H, W, C] float32 in [0, 1], 'label': [B] int32, ...}
Scalars = dict[str, jax.Array]  # [] float32 by name
PerExample = dict[str, jax.Array]  # [B] float32 by name
GateState = Any  # what a balance rule remembers
Weight = float | Callable[[jax.Array], jax.Array]  # a number, or a function of the step
Rules = Mapping[str, Mapping[str, Weight]]  # {player: {term: weight}}


class Init(Protocol):
    """The first parameters and statistics; only the shapes of the batch matter."""

    def __call__(self, key: jax.Array, batch: Batch, /) -> tuple[Params, Stats]: ...


class Terms(Protocol):
    """({term: mean over the batch}, new statistics) of a training batch."""

    def __call__(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: jax.Array, step: jax.Array, /
    ) -> tuple[Scalars, Stats]: ...


class Evaluate(Protocol):
    """(reconstructions like batch['image'], or None; {metric: [B]})."""

    def __call__(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, /
    ) -> tuple[jax.Array | None, PerExample]: ...


class Encode(Protocol):
    """(mean, log-variance), [B, *latent_shape] each, of what the system observes; -inf where encoding is not random."""

    def __call__(
        self, params: Params, stats: Stats, frozen: Frozen, images: jax.Array, /
    ) -> tuple[jax.Array, jax.Array]: ...


class Decode(Protocol):
    """Images [B, H, W, C] in [0, 1] of z [B, *latent_shape]."""

    def __call__(self, params: Params, stats: Stats, z: jax.Array, /) -> jax.Array: ...


class Gate(Protocol):
    """({player: whether it is updated}, new gate state); a player that is not named always is."""

    def __call__(self, scalars: Scalars, state: GateState, /) -> tuple[dict[str, jax.Array], GateState]: ...


def always_open(scalars: Scalars, state: GateState) -> tuple[dict[str, jax.Array], GateState]:
    """The gate that every player passes at every step."""
    del scalars
    return {}, state


@dataclass(frozen=True, kw_only=True)
class System:
    """Pure functions and a table, for images [H, W, C].

    rules: each player descends on the weighted sum of its row of terms and on nothing else.
    init, terms, evaluate, encode, decode, gate: see their protocols. encode and decode are None for a classifier.
    frozen: () -> the weights that no player owns; passed to the functions as an argument, never captured.
    encoder_frozen: () -> the part of them that encode needs.
    pretrained: () -> a part of the params by player, which starts from there instead of from what `init` draws.
    latent_shape: of one z. prior: whether z ~ N(0, 1) decodes to images like those of the training.
    init_gate: () -> the first gate state.
    observe: (images) -> what encode takes of them: the images themselves, or low-resolution versions, of which decoded
      images have `factor` times the height and width.
    receptive_radius: how many pixels away encode and decode see, where they take images of any size; None where they
      take only the size they were trained on.
    targets: (frozen, images) -> {name: [B, ...]}, what `terms` would compute of the images alike in every epoch, and
      takes from its batch where it is there.
    baselines: {name: (batch) -> recon}, judged beside the system's own reconstructions.
    """

    rules: Rules
    init: Init
    terms: Terms
    evaluate: Evaluate
    frozen: Callable[[], Frozen] = dict
    encode: Encode | None = None
    decode: Decode | None = None
    latent_shape: tuple[int, ...] = ()
    prior: bool = False
    encoder_frozen: Callable[[], Frozen] = dict
    pretrained: Callable[[], Params] = dict
    gate: Gate = always_open
    init_gate: Callable[[], GateState] = dict
    observe: Callable[[jax.Array], jax.Array] = lambda images: images
    factor: int = 1
    receptive_radius: int | None = None
    targets: Callable[[Frozen, jax.Array], dict[str, jax.Array]] = lambda frozen, images: {}
    baselines: Mapping[str, Callable[[Batch], jax.Array]] = field(default_factory=dict)


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
