"""The machine of a benchmark: its description, its peak speed, and the peak memory."""

import contextlib
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.bench.split import seconds
from vae_jax.runs.workdir import versions
from vae_jax.runtime.sharding import replicated

ROOT = Path(__file__).parents[2]  # the checkout
PRODUCTS = 6  # timed matrix products


def machine() -> dict[str, Any]:
    """The device, the versions and the commit of a measurement."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this checkout, with `-dirty` if files differ from it; None without git."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    return None


def matmul_size() -> int:
    """Rows and columns of the matrices of `matmul_peak`."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def matmul_peak(mesh: Mesh) -> float:
    """GFLOP/s of the best of six float32 products of square matrices, after a warm-up.

    The rows of the left matrix are split over the devices.
    """
    size = matmul_size() // mesh.size * mesh.size
    key = jax.random.key(0)
    left = jax.device_put(jax.random.normal(key, (size, size)), NamedSharding(mesh, PartitionSpec("data")))
    right = jax.device_put(jax.random.normal(key, (size, size)), replicated(mesh))
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / min([seconds(product, left, right) for _ in range(1 + PRODUCTS)][1:]) / 1e9


def peak_memory() -> int:
    """The peak memory in bytes of a device if devices report it, otherwise of this process."""
    counted = [stats["peak_bytes_in_use"] for device in jax.local_devices() if (stats := device.memory_stats())]
    unit = 1 if sys.platform == "darwin" else 1024
    return max(counted, default=unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
