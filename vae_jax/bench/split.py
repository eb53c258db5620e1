"""The time of a train step, split into five parts: milliseconds of each, for one step on one batch.

    encode       the system's `encode` of the images, compiled separately; null for a classifier
    decode       its `decode` of as many latents, compiled separately; null for a classifier
    perceptual   the rest of the forward pass: perceptual networks on images and reconstructions, discriminators,
                 losses, and decoding of anything but reconstructions. By difference: the forward pass of all terms,
                 compiled separately, minus encode and decode
    backward     the backward passes of all players. By difference: a step whose optimisers do nothing, minus the
                 forward pass
    optimiser    the optimisers' updates of all parameters, compiled separately, with the parameters as gradients

The functions are called in turn, and medians are taken of the differences within a turn. The parts do not sum exactly
to a step: compiled separately, XLA can fuse less; encode and decode use running statistics where a step uses those of
its batch; and a forward pass that keeps nothing for gradients is cheaper than that of a step.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.experiment import Experiment
from vae_jax.runtime.sharding import replicated
from vae_jax.state import State
from vae_jax.train_step import make_train_step, to_float

WARM_UP = 2  # turns


def split(experiment: Experiment, state: State, frozen: Any, mesh: Mesh, turns: int) -> dict[str, float | None]:
    """The five parts in milliseconds, medians over `turns`; `state` is not changed."""
    functions = _functions(experiment, state, frozen, mesh)
    times = [
        {name: seconds(function, *arguments) for name, (function, arguments) in functions.items()}
        for _ in range(WARM_UP + turns)
    ]

    def part(name: str, *without: str) -> float | None:
        if name not in functions:
            return None
        differences = [turn[name] - sum(turn.get(other, 0.0) for other in without) for turn in times[WARM_UP:]]
        return max(0.0, 1e3 * statistics.median(differences))

    return {
        "encode": part("encode"),
        "decode": part("decode"),
        "perceptual": part("forward", "encode", "decode"),
        "backward": part("gradients", "forward"),
        "optimiser": part("optimiser"),
    }


def _functions(experiment: Experiment, state: State, frozen: Any, mesh: Mesh) -> dict[str, tuple[Callable, tuple]]:
    """The functions to time, with their arguments."""
    system, params, stats = experiment.system, state.params, state.stats
    over_devices, key = NamedSharding(mesh, PartitionSpec("data")), jax.device_put(jax.random.key(0), replicated(mesh))
    batch = to_float(jax.device_put(_noise(experiment.batch | experiment.seen), over_devices))
    idle = {player: optax.set_to_zero() for player in params}
    idle_state = state._replace(opt_state={player: idle[player].init(params[player]) for player in params})
    step = make_train_step(system, idle)
    functions = {
        "forward": (jax.jit(system.terms), (params, stats, frozen, batch, key, state.step)),
        "gradients": (jax.jit(lambda *inputs: step(*inputs)[1]), (idle_state, frozen, batch, key)),  # their norms
        "optimiser": (_optimise(experiment.optimizers, params, state.opt_state), ()),
    }
    if system.encode is None or system.decode is None:
        return functions
    images = system.observe(batch["image"])
    z = jax.device_put(jax.random.normal(key, (len(images), *system.latent_shape)), over_devices)
    return functions | {
        "encode": (jax.jit(system.encode), (params, stats, frozen, images)),
        "decode": (jax.jit(system.decode), (params, stats, z)),
    }


def _optimise(optimizers: dict[str, optax.GradientTransformation], params, opt_state) -> Callable[[], Any]:
    """A function that updates a copy of the parameters, in place as a train step does."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, opt_state):
        moved, new = {}, {}
        for player, own in params.items():
            updates, new[player] = optimizers[player].update(own, opt_state[player], own)
            moved[player] = optax.apply_updates(own, updates)
        return moved, new

    held = jax.tree.map(jnp.copy, (params, opt_state))

    def optimise():
        nonlocal held
        held = update(*held)
        return held

    return optimise


def _noise(shapes: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Random images; labels and cached features are all 0."""
    images = np.random.default_rng(0).integers(0, 256, shapes["image"].shape, np.uint8)
    return {k: np.zeros(leaf.shape, leaf.dtype) for k, leaf in shapes.items()} | {"image": images}


def seconds(function: Callable, *arguments: Any) -> float:
    """The seconds of a call until its arrays are ready."""
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - began
