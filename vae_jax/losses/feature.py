"""The feature perceptual loss: images are compared by their features in a frozen network."""

from collections.abc import Mapping, Sequence

import jax
from ml_collections import ConfigDict

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.errors import UserError
from vae_jax.losses.checks import equal_shapes
from vae_jax.losses.perceptual import PerceptualTerm, cast, network_dtype
from vae_jax.losses.pixel import l2
from vae_jax.losses.reduction import total


def feature(
    target: Mapping[str, jax.Array],
    recon: Mapping[str, jax.Array],
    *,
    tap_weights: Sequence[float] | None = None,
    reduction: str = "sum",
) -> jax.Array:
    """Weighted sum over taps of squared feature differences: sum_i w_i ||Phi(x)^i - Phi(xhat)^i||^2, [B].

    Args:
      target, recon: features {tap: [B, h, w, c]} of both images, with the same taps in the same order.
      tap_weights: one weight per tap, in that order; 1 for each if None.
      reduction: within a tap, `sum` (the DFC-VAE article) or `mean` over h, w, c (Hou et al. 2017).
    Source: the DFC-VAE article, L_p; Hou et al. 2017, equation (4).
    """
    if list(target) != list(recon):
        raise ValueError(f"feature: target has taps {list(target)}, recon {list(recon)}")
    weights = [1.0] * len(target) if tap_weights is None else tap_weights
    if not target or len(weights) != len(target):
        raise ValueError(f"feature: {len(weights)} tap weights for the taps {list(target)}")
    for tap in target:
        equal_shapes(f"feature {tap}", target[tap], recon[tap])
    return total(w * l2(target[tap], recon[tap], reduction=reduction) for w, tap in zip(weights, target, strict=True))


def feature_term(
    config: ConfigDict,
    taps: Sequence[str] = (),
    tap_weights: Sequence[float] | None = None,
    reduction: str = "sum",
) -> PerceptualTerm:
    """`feature` through the backbone of a config."""
    if not taps:
        raise UserError("terms.feature.taps is empty: name at least one tap of the backbone.")
    name, dtype = config.backbone.name, network_dtype(config)
    taps = (taps,) if isinstance(taps, str) else tuple(taps)
    backbone = get_backbone(name, taps, config.image_size)
    return PerceptualTerm(
        place="backbone",
        load=lambda: cast(load_backbone(name, config.backbone.weights, taps), dtype),
        see=lambda weights, images: backbone.apply(weights, images, taps),
        compare=lambda weights, target, recon: feature(target, recon, tap_weights=tap_weights, reduction=reduction),
        taps=taps,
    )
