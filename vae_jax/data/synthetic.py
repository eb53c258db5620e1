"""Images generated on the fly, for smoke tests and benchmarks: a soft grating per class, masked by a disc."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset, in_memory
from vae_jax.errors import UserError

SIZES = {"train": 512, "test": 100}
CLASSES = 10


def synthetic(config: ConfigDict, split: str) -> Dataset:
    """512 train and 100 test images of ten classes, the same on every machine."""
    if split not in SIZES:
        raise UserError(f"synthetic has no split {split!r}; it has {', '.join(SIZES)} and slices of them.")
    n, (size, _, channels) = SIZES[split], stored_shape(config)
    rng = np.random.default_rng(list(SIZES).index(split))
    labels = np.arange(n) % CLASSES
    angle = np.pi * labels / CLASSES + rng.normal(0, 0.05, n)
    phase, radius = rng.uniform(0, 2 * np.pi, (n, channels)), rng.uniform(0.6, 0.95, n)
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    wave = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y  # [n, size, size]
    images = 0.5 + 0.5 * np.sin(8 * wave[..., None] + phase[:, None, None, :])
    images = images * (np.hypot(x, y) <= radius[:, None, None])[..., None]
    return in_memory((255 * images).round().astype(np.uint8), labels)
