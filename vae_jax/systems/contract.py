"""The interface of a system, a training recipe: which players minimise which losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.multipliers import Held, Scheduled

Params = dict[str, Any]  # trees of trainable arrays by player
Stats = dict[str, Any]  # running statistics of normalisation layers, by network
Frozen = Any  # trees of weights that are not trained
Batch = Mapping[str, jax.Array]  # {'image': [B, H, W, C] float32 in [0, 1], 'label': [B] int32, ...}; see Evaluate
Scalars = dict[str, jax.Array]  # [] float32 by name
PerExample = dict[str, jax.Array]  # [B] float32 by name
GateState = Any  # state of a balance rule
Weight = Scheduled | Held
Rules = Mapping[str, Mapping[str, Weight]]  # {player: {term: weight}}


class Init(Protocol):
    """Initial parameters and statistics; only the shapes of the batch matter."""

    def __call__(self, key: jax.Array, batch: Batch, /) -> tuple[Params, Stats]: ...


class Terms(Protocol):
    """({term: mean over the batch}, new statistics) for a training batch."""

    def __call__(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: jax.Array, step: jax.Array, /
    ) -> tuple[Scalars, Stats]: ...


class Evaluate(Protocol):
    """(reconstructions like batch['image'], or None; {metric: [B]}).

    The batch also has 'index' [B] int32, the place of each example in the judged split. Noise follows from it
    (`networks.noise_by_index`), so that no value depends on the batch that an example is in.
    """

    def __call__(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, /
    ) -> tuple[jax.Array | None, PerExample]: ...


class Encode(Protocol):
    """(mean, log-variance), [B, *latent_shape] each, of what the system observes; -inf if deterministic."""

    def __call__(
        self, params: Params, stats: Stats, frozen: Frozen, images: jax.Array, /
    ) -> tuple[jax.Array, jax.Array]: ...


class Decode(Protocol):
    """Images [B, H, W, C] in [0, 1] from z [B, *latent_shape]."""

    def __call__(self, params: Params, stats: Stats, z: jax.Array, /) -> jax.Array: ...


class Gate(Protocol):
    """({player: whether it is updated}, new gate state); players left out are always updated."""

    def __call__(self, scalars: Scalars, state: GateState, /) -> tuple[dict[str, jax.Array], GateState]: ...


def always_open(scalars: Scalars, state: GateState) -> tuple[dict[str, jax.Array], GateState]:
    """The gate that updates every player in every step."""
    del scalars
    return {}, state


@dataclass(frozen=True, kw_only=True)
class System:
    """Pure functions and a table, for images [H, W, C].

    rules: each player descends on the weighted sum of its row of terms and on nothing else.
    init, terms, evaluate, encode, decode, gate: see their protocols. encode and decode are None for a classifier.
    frozen: () -> the weights that are not trained; passed to the functions as an argument, never captured.
    encoder_frozen: () -> the part of them that encode needs.
    pretrained: () -> params by player, which replace the same part of what `init` returns.
    latent_shape: shape of one z. prior: whether z ~ N(0, 1) decodes to images like the training images.
    init_gate: () -> the initial gate state.
    observe: (images) -> what encode takes: the images themselves, or low-resolution versions; decoded images have
      `factor` times their height and width.
    receptive_radius: of encode and decode in pixels, if they take images of any size; None if they take only the size
      they were trained on.
    targets: (frozen, images) -> {name: [B, ...]}, features that are the same in every epoch; `terms` takes them from
      the batch, or computes them if they are missing.
    has_elbo: whether `evaluate` gives an ELBO, from `config.elbo_samples` samples of z.
    baselines: {name: (batch) -> recon}, evaluated next to the system's own reconstructions.
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
    has_elbo: bool = False
    baselines: Mapping[str, Callable[[Batch], jax.Array]] = field(default_factory=dict)


def weight_schedule(weight: float, start: int = 0, warmup: int = 0) -> Scheduled:
    """A term's weight over the run: 0 before step `start`, then a linear ramp of `warmup` steps to `weight`."""
    if start < 0 or warmup < 0:
        raise UserError(f"A term's start ({start}) and warmup ({warmup}) are counts of steps and cannot be negative.")
    if not start and not warmup:
        return weight

    def at(step: jax.Array) -> jax.Array:
        return weight * jnp.clip((step - start + 1) / max(warmup, 1), 0.0, 1.0)

    return at


def term_weight(term: ConfigDict, delay: int = 0) -> Weight:
    """The weight over the run of a config's term, which starts `delay` steps later than it says."""
    start = term.start + delay
    weight = weight_schedule(term.weight, start, term.warmup)
    return Held(weight, float(term.target), start + term.warmup) if term.get("target") else weight


def weight_at(weight: Weight, step: jax.Array) -> float | jax.Array:
    """The value of a weight at a step; of one that is held, before it has moved."""
    weight = weight.weight if isinstance(weight, Held) else weight
    return weight(step) if callable(weight) else weight
