"""Everything a training run needs before its first step: shared by training, benchmarks and plans."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from vae_jax.config import image_shape
from vae_jax.data.contract import Dataset
from vae_jax.data.pipeline import TrainBatches
from vae_jax.experiment import Experiment, abstract_state, check_shapes, make_experiment, train_step_of
from vae_jax.runtime.compilation import compiling_for
from vae_jax.runtime.rngs import root_key
from vae_jax.runtime.sharding import place, replicated, split_batches
from vae_jax.state import State
from vae_jax.systems import System
from vae_jax.targets import cache_targets, expect_targets
from vae_jax.train_step import make_train_call, scan_unroll


@dataclass(frozen=True, kw_only=True)
class Training:
    """A config on a mesh. `frozen` are the weights that are not trained, as loaded."""

    config: ConfigDict
    mesh: Mesh
    data: Dataset
    experiment: Experiment
    frozen: Any
    batches: TrainBatches

    def lower(self) -> jax.stages.Lowered:
        """The train call, (state, frozen, batches, key) -> (state, scalars), lowered from shapes: nothing is computed,
        and the devices of the mesh need not exist."""
        config, experiment, mesh = self.config, self.experiment, self.mesh
        everywhere, split = replicated(mesh), split_batches(mesh)

        def shape(leaf) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

        batches = {
            name: jax.ShapeDtypeStruct((config.steps_per_call, *leaf.shape), leaf.dtype, sharding=split)
            for name, leaf in experiment.batch.items()
        }
        frozen, key = jax.tree.map(shape, (self.frozen, jax.eval_shape(lambda: root_key(config.seed, "step"))))
        state = self.abstract_state()
        places = jax.tree.map(lambda leaf: leaf.sharding, state)
        if config.shard_state:
            experiment = experiment._replace(system=_with_whole_params(experiment.system, everywhere))
        step = train_step_of(config, experiment)
        with compiling_for(mesh.devices.flat[0].platform, mesh.size):
            call = make_train_call(step, scan_unroll(config.steps_per_call), (places, everywhere))
            return call.lower(state, frozen, batches, key)

    def abstract_state(self) -> State:
        """Shapes, types and shardings of the state."""
        return abstract_state(self.experiment, self.mesh, self.config.shard_state)

    def first_state(self) -> State:
        """The initial state, on the devices."""
        places = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state())
        init = jax.jit(self.experiment.init, out_shardings=places)
        return init(self.experiment.system.pretrained())

    def place_frozen(self) -> Any:
        """The frozen weights, on the devices."""
        return place(self.frozen, replicated(self.mesh))

    def step_key(self) -> jax.Array:
        """The key into which every step folds its number, on the devices."""
        return jax.jit(lambda: root_key(self.config.seed, "step"), out_shardings=replicated(self.mesh))()

    def hold_targets(self, frozen: Any, say: Callable[[str], None]) -> None:
        """If `backbone.cache_targets` is set, adds the features by the placed `frozen` to the batches."""
        if self.config.backbone.cache_targets:
            feed, size = self.batches.feed, self.data.size
            feed.hold(cache_targets(self.experiment, frozen, feed, size, self.mesh, say))


def _with_whole_params(system: System, everywhere: NamedSharding) -> System:
    """The system, computing with all parameters on every device, wherever they are kept: a batch stays split."""

    def terms(params, *inputs):
        return system.terms(jax.lax.with_sharding_constraint(params, everywhere), *inputs)

    return replace(system, terms=terms)


def prepare(config: ConfigDict, data: Dataset, mesh: Mesh) -> Training:
    """The training of a checked config on `data` from `load_dataset(..., augmented=True)`.

    UserError if names, weights files, data or shapes do not fit together; nothing is compiled.
    """
    batches = TrainBatches(data, config.seed, config.batch_size, mesh)
    experiment = make_experiment(config, image_shape(config), "label" in data.read(np.arange(1)))
    frozen = experiment.system.frozen()
    if config.backbone.cache_targets:
        experiment = expect_targets(config, experiment, frozen, data)
    check_shapes(config, experiment, frozen)
    return Training(config=config, mesh=mesh, data=data, experiment=experiment, frozen=frozen, batches=batches)
