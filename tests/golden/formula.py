"""Weights that a PyTorch script and a JAX test can both compute, so that none need to be stored."""

import math
import zlib

import numpy as np


def uniform(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1) from a generator whose stream numpy guarantees, seeded by the name."""
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(math.prod(shape))
    return (raw / 2.0**64).reshape(shape)


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of the state-dict entry `key` in torch's layout, float32, scaled to keep activations alive."""
    u = uniform(key, shape)
    if len(shape) > 1:
        values = (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    elif key.endswith(("running_var", "weight")):
        values = 0.5 + u
    else:
        values = 0.2 * (2 * u - 1)
    return values.astype(np.float32)


def lpips_images() -> tuple[np.ndarray, np.ndarray]:
    """Two batches of images [2, 40, 53, 3] in [0, 1]; the second pair differs in a bright rectangle only."""
    first, second = (uniform(f"lpips {i}", (2, 40, 53, 3)).astype(np.float32) for i in (0, 1))
    second[1] = first[1]
    second[1, 10:20, 15:30] = 1.0
    return first, second


def rival_images(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two batches of images [2, H, W, 3] in [0, 1]; the second are darker, one with little and one with much noise."""
    first, noise = (uniform(f"rival {i}", (2, *size, 3)) for i in (0, 1))
    amount = np.array([0.2, 0.7]).reshape(2, 1, 1, 1)
    second = (1 - amount) * 0.9 * first + amount * noise
    return first.astype(np.float32), second.astype(np.float32)
