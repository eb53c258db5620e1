"""The training state: arrays only."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vae_jax.multipliers import init_multipliers

Tree = Any


class State(NamedTuple):
    """Everything that changes from step to step; a player is a group of parameters with its own optimiser."""

    step: jax.Array  # [] int32, finished steps
    params: dict[str, Tree]  # by player
    opt_state: dict[str, Tree]  # by player
    stats: Tree  # running statistics of normalisation layers
    ema: dict[str, Tree]  # moving average of params, or {} if the run keeps none
    ema_stats: Tree  # moving average of stats, likewise
    gate: Tree  # state of the balance rule
    skipped: jax.Array  # [] int32, steps that changed nothing because a value was not finite
    multipliers: dict[str, Tree]  # by term, of those that are held at a target


def init_state(
    system,
    optimizers: Mapping[str, optax.GradientTransformation],
    key: jax.Array,
    batch,
    ema: bool,
    pretrained: Mapping[str, Tree] | None = None,
) -> State:
    """The state before the first step; only the shapes of `batch` matter. `pretrained` replaces part of the params."""
    params, stats = system.init(key, batch)
    given = flatten(pretrained or {})
    params = unflatten(params, flatten(params) | {path: jnp.asarray(leaf) for path, leaf in given.items()})
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={player: optimizers[player].init(params[player]) for player in params},
        stats=stats,
        ema=jax.tree.map(jnp.copy, params) if ema else {},
        ema_stats=jax.tree.map(jnp.copy, stats) if ema else {},
        gate=system.init_gate(),
        skipped=jnp.zeros((), jnp.int32),
        multipliers=init_multipliers(system.rules),
    )


def averaged(state: State) -> tuple[dict[str, Tree], Tree]:
    """(parameters, running statistics) to judge and to use: their moving averages if the run keeps them."""
    return (state.ema, state.ema_stats) if state.ema else (state.params, state.stats)


def flatten(tree: Tree) -> dict[str, Any]:
    """Leaves by path, `a/b/c`, in path order."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return dict(sorted(("/".join(map(_part, path)), leaf) for path, leaf in leaves))


def unflatten(target: Tree, leaves: Mapping[str, Any]) -> Tree:
    """The inverse of `flatten`: `leaves` in the structure of `target`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves["/".join(map(_part, path))], target)


def digest(params: Tree) -> str:
    """SHA-256 over all leaves in path order: equal exactly when every parameter is."""
    sha = hashlib.sha256()
    for path, leaf in flatten(params).items():
        array = np.asarray(leaf)
        sha.update(f"{path} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _part(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    raise TypeError(f"no name for {key!r}")
