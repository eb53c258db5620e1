"""Every seed has its own random numbers."""

import jax
import numpy as np
import pytest

from vae_jax.data.pipeline import batch_indices
from vae_jax.runtime.rngs import PURPOSES, root_key

SEEDS = (0, 1, 2**32 - 1, 2**32, 2**33, 2**33 + 1, 2**63 - 1, 2**63, 2**64 - 1)


def test_no_two_seeds_share_their_numbers():
    keys = {tuple(jax.random.key_data(root_key(seed, purpose)).tolist()) for seed in SEEDS for purpose in PURPOSES}
    assert len(keys) == len(SEEDS) * len(PURPOSES)
    assert len({tuple(batch_indices(seed, 0, 100, 100)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_keys_of_earlier_versions(purpose):
    """Below 2^32: so that a run of an earlier version goes on as it began."""
    for seed in (0, 1, 2**32 - 1):
        expected = jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
        assert root_key(seed, purpose).dtype == expected.dtype
        np.testing.assert_array_equal(jax.random.key_data(root_key(seed, purpose)), jax.random.key_data(expected))
