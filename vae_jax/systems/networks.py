"""Networks in systems: make them by name, run them with running statistics, sample latents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses.perceptual import DTYPES, cast
from vae_jax.runtime.rngs import root_key
from vae_jax.systems.contract import Frozen, Params, Stats

FLAX_INPUTS = ("mutable", "rngs")  # of `apply`, which are not the network's
TRAIN = 2  # the place of `train` among the arguments of a network, (self, x, train)
SCOPES = {"encoder": "encode", "decoder": "decode"}  # what traces call them
LOGVAR_RANGE = (-30.0, 20.0)  # an untrained encoder can overflow exp(logvar)


@dataclass(frozen=True)
class InDtype:
    """A network that computes in another dtype than float32, in which its parameters, inputs and outputs are.

    Statistics of normalisation and the last layer of a decoder stay float32: an image in bfloat16 has fewer grey levels
    than one of uint8.
    """

    network: nn.Module
    dtype: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def apply(self, variables: Mapping[str, Any], x: jax.Array, train: bool, **inputs) -> Any:
        """Like the network's, with `mutable` and further inputs by name."""
        params, image = variables["params"], getattr(self.network, "last_layer", None)
        half = {name: layer if name == image else cast(layer, self.dtype) for name, layer in params.items()}
        inputs = {name: cast(value, self.dtype) if name not in FLAX_INPUTS else value for name, value in inputs.items()}
        result = self.network.apply({**variables, "params": half}, cast(x, self.dtype), train, **inputs)
        if not inputs.get("mutable"):
            return cast(result, jnp.float32)
        output, stats = result
        return cast(output, jnp.float32), stats


Network = nn.Module | InDtype


def make_network(table: Mapping, what: str, config: ConfigDict, *size) -> Network:
    """The network named `config[what].name` in a table of `models`, with the other keys as its options.

    With `config.remat` the backward pass recomputes its activations: only its inputs and outputs are kept until then.
    With `config.dtype` it computes in that. UserError if the name or an option is unknown.
    """
    options = dict(config[what])
    name = options.pop("name")
    network = look_up(table, name, f"{what}.name")
    if config.remat:
        network = nn.remat(network, static_argnums=TRAIN)
    made = call_with_options(network, f"The network {name} ({what}.name)", *size, **options)
    return made if config.dtype == "float32" else InDtype(made, DTYPES[config.dtype])


def init_networks(key: jax.Array, **networks: tuple) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and running statistics by name, from name=(network, input[, {name: further input}])."""
    keys = jax.random.split(key, len(networks))
    variables = {}
    for k, (name, (network, x, *more)) in zip(keys, networks.items(), strict=True):
        variables[name] = network.init(k, x, False, **(more[0] if more else {}))
    params = {name: tree.pop("params") for name, tree in variables.items()}
    return params, {name: tree for name, tree in variables.items() if tree}


def latent_shape(code: Callable[[jax.Array], jax.Array], image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The shape of `code` for one image, without computing it. UserError if images cannot be encoded."""
    try:
        return jax.eval_shape(lambda: code(jnp.zeros((1, *image_shape)))).shape[1:]
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        raise UserError(f"Images of {image_shape[0]}x{image_shape[1]} cannot be encoded: {error}") from None


def apply_network(
    network: Network,
    name: str,
    params,
    stats: dict,
    x: jax.Array,
    train: bool,
    key: jax.Array | None = None,
    **inputs,
) -> tuple[Any, dict]:
    """(output, new statistics of all networks) of a network with these parameters; `key` is for dropout."""
    variables, rngs = {"params": params, **stats.get(name, {})}, {} if key is None else {"dropout": key}
    with jax.named_scope(SCOPES.get(name, name)):
        if not train or name not in stats:
            return network.apply(variables, x, train, rngs=rngs, **inputs), stats
        output, new = network.apply(variables, x, train, rngs=rngs, mutable=list(stats[name]), **inputs)
    return output, stats | {name: new}


class Codec(NamedTuple):
    """A system's encoder and decoder: only this runs them and turns a decoder's output into images.

    player: the player that owns both as `encoder` and `decoder`; '' if each is its own player.
    encoder: None if codes come from elsewhere.
    """

    encoder: Network | None
    decoder: Network
    player: str = ""

    def posterior(
        self, params: Params, stats: Stats, images: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array, Stats]:
        """(mean, logvar, stats) of q(z | x), [B, latents] each, with the log-variance clipped to `LOGVAR_RANGE`."""
        output, stats = self._run("encoder", params, stats, images, train)
        if not isinstance(output, tuple):
            raise ValueError("this encoder has no log-variance, which the term kl and sampled latents need")
        mean, logvar = output
        return mean, jnp.clip(logvar, *LOGVAR_RANGE), stats

    def code(self, params: Params, stats: Stats, images: jax.Array, train: bool) -> tuple[jax.Array, Stats]:
        """(code, stats) if encoding is deterministic."""
        output, stats = self._run("encoder", params, stats, images, train)
        return (output[0] if isinstance(output, tuple) else output), stats

    def encode(self, params: Params, stats: Stats, frozen: Frozen, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A system's `encode`: the posterior."""
        return self.posterior(params, stats, images, train=False)[:2]

    def decode(self, params: Params, stats: Stats, z: jax.Array) -> jax.Array:
        """A system's `decode`: the decoder's output clipped to [0, 1]."""
        return jnp.clip(self._run("decoder", params, stats, z, train=False)[0], 0, 1)

    def reconstruct(self, params: Params, stats: Stats, z: jax.Array) -> tuple[jax.Array, Stats]:
        """(the decoder's output, stats) in training: not clipped, so that it has a gradient outside [0, 1]."""
        return self._run("decoder", params, stats, z, train=True)

    def _run(self, name: str, params: Params, stats: Stats, x: jax.Array, train: bool) -> tuple[Any, Stats]:
        networks = params[self.player] if self.player else params
        return apply_network(getattr(self, name), name, networks[name], stats, x, train)


def deterministic(code: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A deterministic code as mean and log-variance -inf."""
    return code, jnp.full_like(code, -jnp.inf)


def draw(key: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
    """z ~ N(mean, exp logvar), differentiable in both (Kingma and Welling 2014, equation 4)."""
    return mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)


def noise_by_index(index: jax.Array, sample: int | jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise [B, *shape] of an evaluation: each row follows from its example's index [B] in the judged
    split and the number of the sample alone. It is the same for every run, so that runs are compared on equal terms."""

    def of_example(i: jax.Array) -> jax.Array:
        key = jax.random.fold_in(root_key(0, "evaluation"), i)
        return jax.random.normal(jax.random.fold_in(key, sample), shape)

    return jax.vmap(of_example)(index)
