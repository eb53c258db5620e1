"""Shared by training, evaluation and inference: from a config to a system, its optimisers and an initial state."""

from collections.abc import Callable
from typing import NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vae_jax.data.augment import make_augmentation
from vae_jax.errors import UserError, did_you_mean, look_up
from vae_jax.metrics import METRICS, FrozenMetric, default_metrics, measure
from vae_jax.optim import make_optimizer
from vae_jax.runtime.rngs import root_key
from vae_jax.runtime.sharding import replicated, split_state
from vae_jax.state import State, init_state
from vae_jax.systems import System, make_system
from vae_jax.train_step import make_train_step, to_float


class Experiment(NamedTuple):
    """A config made into functions."""

    system: System
    optimizers: dict[str, optax.GradientTransformation]
    init: Callable[..., State]  # (pretrained) -> the initial state
    batch: dict[str, jax.ShapeDtypeStruct]  # what a train step takes, uint8 images
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None  # applied to them first
    seen: dict[str, jax.ShapeDtypeStruct]  # the batch after augmentation, and in evaluation


def make_experiment(config: ConfigDict, image_shape: tuple[int, int, int], labelled: bool) -> Experiment:
    """The experiment for a config and the shape of the networks' images; UserError if a name is unknown."""
    system = make_system(config, image_shape)
    if config.elbo_samples > 1 and not system.has_elbo:
        raise UserError(
            f"elbo_samples is {config.elbo_samples}, but the loss of this {config.system} is not an ELBO: its terms "
            f"are {', '.join(config.terms)}. A vae with kl and one likelihood, such as bce or gaussian, has one."
        )
    players = set(system.rules)
    if players != set(config.optimizers):
        wrong = sorted(players ^ set(config.optimizers))
        raise UserError(
            f"optimizers must name the players of {config.system}: {', '.join(sorted(players))}; "
            f"{wrong[0]!r} is missing or unexpected. {did_you_mean(wrong[0], players)}"
        )
    optimizers = {player: make_optimizer(config.optimizers[player], config.steps) for player in players}
    augmentation = make_augmentation(config)
    held = (augmentation.size, augmentation.size, image_shape[2]) if augmentation else image_shape
    labels = {"label": jax.ShapeDtypeStruct((config.batch_size,), "int32")} if labelled else {}
    batch, seen = (
        {"image": jax.ShapeDtypeStruct((config.batch_size, *shape), "uint8"), **labels} for shape in (held, image_shape)
    )

    def init(pretrained=None) -> State:
        example = to_float(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), seen))
        return init_state(system, optimizers, root_key(config.seed, "init"), example, config.ema > 0, pretrained)

    return Experiment(system, optimizers, init, batch, augmentation.apply if augmentation else None, seen)


def train_step_of(config: ConfigDict, experiment: Experiment) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
    """The pure train step of a config's experiment."""
    return make_train_step(
        experiment.system,
        experiment.optimizers,
        ema_decay=config.ema,
        augment=experiment.augment,
        in_turn=config.remat,
        accumulate=config.accumulate,
    )


def check_shapes(config: ConfigDict, experiment: Experiment, frozen) -> None:
    """Traces a train step and an evaluation without computing; UserError if their shapes do not fit."""
    step = train_step_of(config, experiment)
    judged = (*default_metrics(config.image_size), *config.metrics)
    metrics = [name for name in judged if not isinstance(look_up(METRICS, name, "metric"), FrozenMetric)]

    def evaluate(state, batch):
        batch = to_float(batch) | {"index": jnp.zeros(config.batch_size, jnp.int32)}
        recon, _ = experiment.system.evaluate(state.params, state.stats, frozen, batch)
        return [] if recon is None else measure(metrics, {}, batch["image"], recon)

    try:
        state = jax.eval_shape(experiment.init)
        jax.eval_shape(step, state, frozen, experiment.batch, jax.eval_shape(lambda: jax.random.key(0)))
        jax.eval_shape(evaluate, state, experiment.seen)
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        reason = str(error).partition("\n---")[0]  # without jax's note on its own frames
        raise UserError(f"The parts of this config do not fit together: {reason}") from None


def abstract_state(experiment: Experiment, mesh: Mesh, split: bool = False) -> State:
    """Shapes, types and shardings of the state, without computing it; `split` over the devices or replicated."""

    def described(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding = split_state(mesh, leaf.shape) if split else replicated(mesh)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(described, jax.eval_shape(experiment.init))
