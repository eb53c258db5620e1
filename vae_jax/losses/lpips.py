"""LPIPS version 0.1: how different two images look (Zhang, Isola, Efros, Shechtman, Wang 2018).

`alex` is for reporting, `vgg` for training, as its authors recommend.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.backbones import BACKBONES, get_backbone, load_backbone
from vae_jax.errors import look_up
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.perceptual import PerceptualTerm, cast, network_dtype
from vae_jax.losses.reduction import total
from vae_jax.weights.files import load_weights
from vae_jax.weights.finding import LPIPS_FILES, LPIPS_NET, RANDOM, find_weights

EPSILON = 1e-10


class Net(NamedTuple):
    """A backbone of LPIPS."""

    backbone: str
    heads: str  # name of the file of its linear heads
    taps: tuple[str, ...]


LPIPS = {
    "alex": Net(*LPIPS_FILES["alex"], ("relu1", "relu2", "relu3", "relu4", "relu5")),
    "vgg": Net(*LPIPS_FILES["vgg"], ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")),
}


def lpips(target: jax.Array, recon: jax.Array, *, net: str = LPIPS_NET, weights: Any = None) -> jax.Array:
    """sum_l mean_hw sum_c lin_lc (f_lhwc - f^_lhwc)^2 with f unit-normalised over channels, [B]; 0 for equal images.

    Args:
      target, recon: images [B, H, W, 1 or 3] in [0, 1], large enough for the taps of the net. LPIPS's scaling of
        images in [-1, 1] equals torchvision's of images in [0, 1], which the backbone applies.
      net: `alex` or `vgg`.
      weights: from `load_lpips(net)`, which is called if they are None.
    Source: Zhang et al. 2018, equation (1); the linear heads are those of the package lpips, version 0.1.
    """
    equal_shapes("lpips", target, recon)
    chosen = look_up(LPIPS, net, "net of lpips")
    weights = load_lpips(net) if weights is None else weights
    backbone = BACKBONES[chosen.backbone]
    of_target, of_recon = (backbone.apply(weights["backbone"], images, chosen.taps) for images in (target, recon))
    return distance(of_target, of_recon, weights["heads"])


def distance(target: dict[str, jax.Array], recon: dict[str, jax.Array], heads: dict[str, jax.Array]) -> jax.Array:
    """The same from features {tap: [B, h, w, c]} and linear heads {tap: [c]}, [B]."""

    def of_tap(tap: str, head: jax.Array) -> jax.Array:
        difference = unit_normalise(target[tap]) - unit_normalise(recon[tap])
        return jnp.mean(jnp.square(difference) @ head, axis=(1, 2))

    return total(of_tap(tap, head) for tap, head in heads.items())


def unit_normalise(features: jax.Array) -> jax.Array:
    """f / (||f|| + 1e-10) over the last axis; where f is zero, which is common after a ReLU, so is the gradient."""
    squares = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    norm = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return jnp.where(squares > 0, features / (norm + EPSILON), 0.0)


def load_lpips(net: str, path: str = "") -> dict[str, Any]:
    """{'backbone': weights, 'heads': {tap: [c]}}; untrained if `path` is `random`. UserError if a file is missing."""
    chosen = LPIPS[net]
    backbone = load_backbone(chosen.backbone, path, chosen.taps)
    widths = {tap: backbone[tap.replace("relu", "conv")]["bias"] for tap in chosen.taps}  # one number per channel
    if path == RANDOM:
        return {"backbone": backbone, "heads": {tap: jnp.ones_like(width) for tap, width in widths.items()}}
    return {"backbone": backbone, "heads": load_weights(find_weights(chosen.heads), widths)}


def lpips_term(config: ConfigDict, net: str = LPIPS_NET) -> PerceptualTerm:
    """`lpips`, untrained if the config's backbone is."""
    chosen, dtype = look_up(LPIPS, net, "terms.lpips.net"), network_dtype(config)
    backbone = get_backbone(chosen.backbone, chosen.taps, config.image_size)

    def load() -> dict[str, Any]:
        weights = load_lpips(net, RANDOM if config.backbone.weights == RANDOM else "")
        return weights | {"backbone": cast(weights["backbone"], dtype)}

    return PerceptualTerm(
        place="lpips",
        load=load,
        see=lambda weights, images: backbone.apply(weights["backbone"], images, chosen.taps),
        compare=lambda weights, target, recon: distance(target, recon, weights["heads"]),
        taps=chosen.taps,
    )
