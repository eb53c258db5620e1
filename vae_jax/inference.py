"""Use of a trained model: `load_model(workdir)`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vae_jax.config import image_shape, read_config
from vae_jax.errors import UserError
from vae_jax.experiment import Experiment, abstract_state, make_experiment
from vae_jax.runs.bucket import at_hand
from vae_jax.runs.checkpoint import Checkpoints
from vae_jax.runs.workdir import read_inputs
from vae_jax.runtime.sharding import make_mesh
from vae_jax.state import State, averaged


class Run(NamedTuple):
    """The contents of a workdir."""

    config: ConfigDict
    experiment: Experiment
    mesh: Mesh
    state: State
    inputs: Mapping[str, Any] = {}  # what the workdir records of its data, see `read_inputs`


def load_workdir(workdir: str | Path) -> Run:
    """The config, the experiment and the newest good state of a trained workdir."""
    with at_hand(workdir, writing=False) as run:
        config = read_config(run.folder)
        mesh = make_mesh()
        experiment = make_experiment(config, image_shape(config), labelled=True)
        state = Checkpoints(run.folder).restore(abstract_state(experiment, mesh))
        if state is None:
            raise UserError(f"{run.folder} has no checkpoint yet: the run has not saved one.")
        return Run(config, experiment, mesh, state, read_inputs(run.folder))


class Model:
    """A trained autoencoder. Images are [N, H, W, C] in [0, 1] (floats, or uint8 in 0..255), z [N, *latent_shape].

    `encode` takes what the system observes: the images, or for super_resolution their low-resolution versions.
    """

    def __init__(self, run: Run):
        system, state = run.experiment.system, run.state
        if system.encode is None or system.decode is None:
            raise UserError(f"A {run.config.system} does not encode and decode images.")
        self.config = run.config
        self._shape = image_shape(run.config)
        low = jax.eval_shape(system.observe, jax.ShapeDtypeStruct((1, *self._shape), jnp.float32)).shape[1:]
        self._encoded_shape = low if system.receptive_radius is None else (None, None, low[2])
        self.factor, self.receptive_radius = system.factor, system.receptive_radius
        params, stats = averaged(state)
        self.latent_shape, self.has_prior = system.latent_shape, system.prior
        self._latent_shape = (
            self.latent_shape if system.receptive_radius is None else (None, None, *self.latent_shape[2:])
        )
        self._observe = jax.jit(system.observe)
        self._encode = jax.jit(system.encode), params, stats, system.encoder_frozen()
        self._decode = jax.jit(system.decode), params, stats

    def observe(self, images: Any) -> jax.Array:
        """What `encode` takes, made from images [N, H, W, C]: for super_resolution their low-resolution versions."""
        return self._observe(_checked(images, self._shape))

    def encode(self, images: Any) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of q(z | x), [N, *latent_shape] each; -inf if encoding is deterministic."""
        function, *weights = self._encode
        return function(*weights, _checked(images, self._encoded_shape))

    def decode(self, z: Any) -> jax.Array:
        """Images of latents [N, *latent_shape]."""
        z = jnp.asarray(z, jnp.float32)
        if not _fits(z.shape, self._latent_shape):
            raise UserError(f"decode takes latents {_written(self._latent_shape)}, not {z.shape}.")
        function, *weights = self._decode
        return function(*weights, z)

    def reconstruct(self, images: Any) -> jax.Array:
        """Images decoded from the mean of q(z | x), with x = observe(images)."""
        return self.decode(self.encode(self.observe(images))[0])

    def upscale(self, images: Any) -> jax.Array:
        """Low-resolution images [N, h, w, C] upscaled to [N, factor h, factor w, C] in [0, 1].

        Any h and w with spatial latents, otherwise those of training. UserError if the system does not upscale.
        """
        if self.factor == 1:
            raise UserError(f"A {self.config.system} does not upscale images; super_resolution does.")
        return self.decode(self.encode(images)[0])

    def sample(self, key: jax.Array, n: int, temperature: float = 1.0) -> jax.Array:
        """n images decoded from z ~ N(0, temperature^2)."""
        if not self.has_prior:
            raise UserError(f"A {self.config.system} has no prior to sample from.")
        return self.decode(temperature * jax.random.normal(key, (n, *self.latent_shape)))


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether a batch [N, ...] has this shape, where None is any length; none may be 0."""
    return (
        len(shape) == 1 + len(expected)
        and all(shape)
        and all(e in (None, n) for n, e in zip(shape[1:], expected, strict=True))
    )


def _written(expected: tuple[int | None, ...]) -> str:
    names = iter("hw")
    return f"[N, {', '.join(next(names) if n is None else str(n) for n in expected)}]"


def _checked(images: Any, expected: tuple[int | None, ...]) -> jax.Array:
    """Images as float32 in [0, 1]; UserError if their shape or range is wrong."""
    images = np.asarray(images)
    if not _fits(images.shape, expected):
        raise UserError(f"This model takes images {_written(expected)}, not {images.shape}.")
    if images.dtype == np.uint8:
        return jnp.asarray(images, jnp.float32) / 255
    if not np.all((images >= 0) & (images <= 1)):  # false for NaN
        raise UserError(f"Images must lie in [0, 1], or be uint8; these lie in [{images.min():g}, {images.max():g}].")
    return jnp.asarray(images, jnp.float32)


def load_model(workdir: str | Path) -> Model:
    """The trained autoencoder of a workdir."""
    return Model(load_workdir(workdir))
