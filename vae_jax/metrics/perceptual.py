"""Metrics that load weights before the first batch, such as those by a frozen network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from vae_jax.backbones import BACKBONES
from vae_jax.data.contract import Dataset
from vae_jax.losses.lpips import LPIPS, load_lpips, lpips


class FrozenMetric(NamedTuple):
    """A metric with weights. A direct call loads them; a compiled evaluation passes them to `apply`.

    files: the weights files it needs. min_size: smallest height and width.
    load: (data set to evaluate on) -> weights, which may be statistics of the whole data set. A direct call passes its
      targets as the data set, unchanged, even if they are floats.
    apply: (target, recon, weights) -> [B], with a fourth argument, labels [B], if `labelled`.
    """

    files: tuple[str, ...]
    min_size: int
    load: Callable[[Dataset], Any]
    apply: Callable[..., jax.Array]
    labelled: bool = False

    def __call__(self, target: jax.Array, recon: jax.Array, *labels: jax.Array) -> jax.Array:
        count, height, width, channels = target.shape
        targets = Dataset(count, (height, width, channels), lambda indices: {"image": np.asarray(target)[indices]})
        return self.apply(target, recon, self.load(targets), *labels)


def _lpips(net: str) -> FrozenMetric:
    def apply(target: jax.Array, recon: jax.Array, weights: Any) -> jax.Array:
        return lpips(target, recon, net=net, weights=weights)

    backbone, heads, taps = LPIPS[net]
    min_size = max(BACKBONES[backbone].taps[tap] for tap in taps)
    return FrozenMetric((backbone, heads), min_size, lambda dataset: load_lpips(net), apply)


lpips_alex = _lpips("alex")
lpips_vgg = _lpips("vgg")
