"""LPIPS: by hand on a small case, equal to the package on the real weights, bounded gradients at degenerate points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import lpips_images, uniform
from helpers.checks import ROOT

from pretrained_converters import converters
from vae_jax.losses.lpips import LPIPS, distance, load_lpips, lpips, unit_normalise


def test_distance_by_hand():
    """Two taps of a few pixels, the formula in numpy; gradients by central differences in float64."""
    rng = np.random.default_rng(0)
    target, recon = ({"a": rng.normal(size=(2, 3, 4, 5)), "b": rng.normal(size=(2, 1, 2, 3))} for _ in range(2))
    heads = {"a": rng.uniform(size=5), "b": rng.uniform(size=3)}

    def by_hand(recon):
        total = 0
        for tap, head in heads.items():
            unit = [f / (np.sqrt((f**2).sum(-1, keepdims=True)) + 1e-10) for f in (target[tap], recon[tap])]
            total = total + (((unit[0] - unit[1]) ** 2) * head).sum(-1).mean((1, 2))
        return total

    float32 = lambda tree: jax.tree.map(jnp.float32, tree)  # noqa: E731
    ours = lambda recon: distance(float32(target), recon, float32(heads))  # noqa: E731
    np.testing.assert_allclose(ours(float32(recon)), by_hand(recon), rtol=1e-5)
    gradient = jax.grad(lambda r: ours(r).sum())(float32(recon))
    for tap, index in (("a", (1, 2, 3, 4)), ("a", (0, 0, 0, 0)), ("b", (1, 0, 1, 2))):
        up, down = (jax.tree.map(np.copy, recon) for _ in range(2))
        up[tap][index] += 1e-6
        down[tap][index] -= 1e-6
        numeric = (by_hand(up) - by_hand(down)).sum() / 2e-6
        np.testing.assert_allclose(gradient[tap][index], numeric, rtol=1e-3, atol=1e-6)


def test_degenerate_points():
    """All-zero features (dead ReLUs), equal features: values and gradients finite and small."""
    zero, one = jnp.zeros((1, 2, 3, 4)), jnp.ones((1, 2, 3, 4))
    heads = {"a": jnp.ones(4)}
    for target, recon, value in ((zero, zero, 0.0), (one, zero, 1.0), (zero, one, 1.0), (one, one, 0.0)):
        result, gradient = jax.value_and_grad(lambda r, t=target: distance({"a": t}, {"a": r}, heads).sum())(recon)
        np.testing.assert_allclose(result, value, atol=1e-6)
        assert np.abs(gradient).max() < 1
    np.testing.assert_array_equal(jax.grad(lambda f: unit_normalise(f).sum())(zero), zero)


@pytest.mark.parametrize("net", LPIPS)
def test_equal_to_the_package(net, real_weights, monkeypatch):
    """lpips 0.1.4 in float64, on images that are not square: values to 1e-5; see golden/make_real_weights.py."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(real_weights))
    from vae_jax.metrics import METRICS

    first, second = lpips_images()
    with np.load(ROOT / "tests" / "golden" / "real_weights.npz") as golden:
        values, chosen = golden[f"lpips_{net}"], golden[f"lpips_{net}/gradient"]
    weights = load_lpips(net)
    np.testing.assert_allclose(METRICS[f"lpips_{net}"](first, second), values, rtol=0, atol=1e-5)
    both = jax.jit(jax.value_and_grad(lambda b, w: lpips(first[:1], b, net=net, weights=w).sum()))
    value, gradient = both(second[:1], weights)
    np.testing.assert_allclose(value, values[0], rtol=0, atol=1e-5)
    gradient = np.asarray(gradient).ravel()[(uniform("gradient", (500,)) * gradient.size).astype(int)]
    np.testing.assert_allclose(gradient, chosen, rtol=0, atol=1e-3 * np.abs(chosen).max())
    _, at_equal = both(first[:1], weights)
    assert np.abs(at_equal).max() < 1e-3
    value, at_black = both(np.zeros_like(first[:1]), weights)
    assert float(value) > 0 and np.abs(at_black).max() < 1


def test_heads_of_both_packages_are_the_same(real_weights, archives, tmp_path):
    for net in LPIPS:
        name = f"lpips_{net}"
        converters.CONVERTERS[name](next(archives.glob("lpips-0.1.4*.whl")), tmp_path / f"{name}.safetensors")
        one, other = ((folder / f"{name}.safetensors").read_bytes() for folder in (tmp_path, real_weights))
        assert one == other


def test_shapes_must_be_equal():
    with pytest.raises(ValueError, match="equal shapes"):
        lpips(jnp.zeros((2, 40, 40, 3)), jnp.zeros((2, 40, 40, 1)), weights={})
