"""The blur-error VAE: each player moves by its own loss, turns, the fixed kernel, the ELBO, and blur by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.checks import assert_gradients
from scipy.ndimage import convolve

from vae_jax.config import image_shape
from vae_jax.errors import UserError
from vae_jax.losses.wiener import blur, gaussian_kernel, wiener_nll
from vae_jax.metrics.blur import blur_error
from vae_jax.models.blur_kernel import BlurKernel
from vae_jax.models.mnist import MnistDecoder, MnistEncoder
from vae_jax.state import init_state
from vae_jax.systems import make_system
from vae_jax.systems.blur_vae import turns
from vae_jax.systems.networks import noise_by_index
from vae_jax.train_step import make_train_step

KEY, BATCH, LATENTS = jax.random.key(3), 3, 5
KERNEL = {"name": "dense", "size": 5, "hidden": 8, "layers": 2}


def config_of(smoke, **changes):
    config = smoke("blur_vae_mnist")
    config.kernel = KERNEL
    config.terms.wiener.update(epsilon=0.5, first_sigma=0.3)
    config.update(changes)
    return config


def images(config) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(BATCH, *image_shape(config))).astype(np.float32)


def test_blur_by_scipy(images):
    """Circular convolution of each image with its own kernel, not symmetric, colour by colour."""
    kernel = np.random.default_rng(1).uniform(size=(3, 5, 5)).astype(np.float32)
    made = blur(images[0], kernel)
    for i, c in np.ndindex(3, 3):
        np.testing.assert_allclose(made[i, :, :, c], convolve(images[0][i, :, :, c], kernel[i], mode="wrap"), rtol=1e-4)


def test_blur_error_by_hand(images):
    """Mean square of what numpy's Wiener deconvolution makes of the residual: |w|^2 is |K|^2 / (|K|^2 + C)^2."""
    target, recon = (np.float64(x) for x in images)
    height, width = target.shape[1:3]
    kernel = np.zeros((height, width))
    kernel[:7, :7] = gaussian_kernel(7, 1.0)
    transfer = np.fft.fft2(np.roll(kernel, (-3, -3), axis=(0, 1)))[None, :, :, None]
    wiener = np.conj(transfer) / (np.abs(transfer) ** 2 + 0.025)
    undone = np.fft.ifft2(wiener * np.fft.fft2(recon - target, axes=(1, 2)), axes=(1, 2)).real
    expected = np.square(undone).mean(axis=(1, 2, 3)) + 1e-6 * np.square(recon - target).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(blur_error(*images), expected, rtol=1e-4)
    np.testing.assert_array_equal(blur_error(images[0], images[0]), 0)


def by_hand(params, config, batch, key):
    """A jax.grad per player of -ELBO and of the regression, the other player and what reaches it held."""
    x = batch["image"]
    encoder, decoder = MnistEncoder(LATENTS), MnistDecoder(x.shape[1:])
    network = BlurKernel(**{k: v for k, v in KERNEL.items() if k != "name"})

    def forward(vae):
        mean, logvar = encoder.apply({"params": vae["encoder"]}, x)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
        return mean, logvar, z, decoder.apply({"params": vae["decoder"]}, z)

    held = forward(params["vae"])
    kernel = network.apply({"params": params["kernel"]}, held[2])

    def vae_loss(vae):
        mean, logvar, _, recon = forward(vae)
        kl = -0.5 * jnp.sum(1 + logvar - mean**2 - jnp.exp(logvar), axis=1)
        nll = wiener_nll(x, recon, kernel, C=0.025, epsilon=0.5, sigma=jnp.exp(vae["log_sigma"]))
        return jnp.mean(kl + nll)

    def kernel_loss(weights):
        made = network.apply({"params": weights}, held[2])
        if config.kernel_loss == "elbo":
            return jnp.mean(wiener_nll(x, held[3], made, C=0.025, epsilon=0.5))
        return jnp.mean(jnp.sum((blur(x, made) - held[3]) ** 2, axis=(1, 2, 3)))

    return {"vae": jax.grad(vae_loss)(params["vae"]), "kernel": jax.grad(kernel_loss)(params["kernel"])}


@pytest.mark.parametrize("kernel_loss", ["regression", "elbo"])
def test_every_player_descends_on_its_own_loss(smoke, kernel_loss):
    """To 1e-6 of the largest entry, in float64."""
    config = config_of(smoke, kernel_loss=kernel_loss)
    system, batch = make_system(config, image_shape(config)), {"image": images(config)}
    assert system.rules == {"vae": {"kl": 1.0, "wiener": 1.0}, "kernel": {kernel_loss: 1.0}}
    optimizers = dict.fromkeys(system.rules, optax.sgd(1.0))
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), batch, ema=False))()
    with jax.enable_x64(True):
        widen = lambda x: x.astype("float64") if x.dtype == "float32" else x  # noqa: E731
        state, batch = jax.tree.map(widen, jax.device_get((state, batch)))
        after, scalars = jax.jit(make_train_step(system, optimizers))(state, {}, batch, KEY)
        expected = jax.jit(lambda p: by_hand(p, config, batch, jax.random.fold_in(KEY, 0)))(state.params)
        after, expected = jax.device_get((after.params, expected))
    assert float(scalars["finite"]) == 1
    for player in system.rules:
        moved = jax.tree.map(lambda old, new: old - new, state.params[player], after[player])
        assert_gradients(moved, expected[player], rtol=0, atol=1e-6)


def test_turns():
    """Two steps of the VAE, two of the kernel, two of the VAE."""
    gate, first = turns(2)
    state, moved = first(), []
    for _ in range(6):
        gates, state = gate({}, state)
        moved.append("vae" if bool(gates["vae"]) else "kernel")
        assert bool(gates["vae"]) != bool(gates["kernel"])
    assert moved == ["vae", "vae", "kernel", "kernel", "vae", "vae"]


def test_who_rests_does_not_move(smoke):
    config = config_of(smoke, alternate=1)
    system, batch = make_system(config, image_shape(config)), {"image": images(config)}
    optimizers = dict.fromkeys(system.rules, optax.sgd(1e-3))
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), batch, ema=False))()
    step = jax.jit(make_train_step(system, optimizers))
    for mover, rester in (("vae", "kernel"), ("kernel", "vae")):
        after, _ = step(state, {}, batch, KEY)
        same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))  # noqa: E731
        assert same(state.params[rester], after.params[rester]) and not same(state.params[mover], after.params[mover])
        state = after


@pytest.mark.parametrize("variant", ["network", "fixed"])
def test_the_elbo(smoke, variant):
    """-KL - log N(x; xhat(z), Sigma_k) of one drawn z, with the kernel of that z or the fixed one."""
    fixed = {"kernel": {"name": "gaussian", "size": 5, "sigma": 1.0}} if variant == "fixed" else {}
    config = config_of(smoke)
    if fixed:
        config.kernel = fixed["kernel"]
    system, batch = make_system(config, image_shape(config)), {"image": images(config)}
    params, stats = jax.jit(system.init)(jax.random.key(0), batch)
    assert ("kernel" in params) == (variant == "network") == ("kernel" in system.rules)
    index = np.arange(BATCH, dtype=np.int32)
    _, values = jax.jit(system.evaluate)(params, stats, {}, batch | {"index": index})
    mean, logvar = jax.jit(system.encode)(params, stats, {}, batch["image"])
    z = mean + jnp.exp(logvar / 2) * noise_by_index(index, 0, mean.shape[1:])
    recon = np.float64(jax.jit(system.decode)(params, stats, z))
    if fixed:
        kernels = np.broadcast_to(gaussian_kernel(5, 1.0), (BATCH, 5, 5))
    else:
        kernels = BlurKernel(size=5, hidden=8).apply({"params": params["kernel"]}, z)
        np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-5)
    for i in range(BATCH):
        placed = np.zeros((28, 28))
        placed[:5, :5] = kernels[i]
        power = np.abs(np.fft.fft2(placed)) ** 2
        precision = (power / (power + 0.025) ** 2 + 0.5) / 0.3**2
        spectrum = np.abs(np.fft.fft2(recon[i, :, :, 0] - batch["image"][i, :, :, 0])) ** 2
        nll = 0.5 * (np.sum(precision * spectrum) / 784 - np.log(precision).sum() + 784 * np.log(2 * np.pi))
        kl = -0.5 * np.sum(1 + logvar[i] - mean[i] ** 2 - np.exp(logvar[i]))
        np.testing.assert_allclose(values["elbo"][i], -nll - kl, rtol=1e-4)


def test_mistakes(smoke):
    def fails(match, **changes):
        config = config_of(smoke, **changes)
        with pytest.raises(UserError, match=match):
            make_system(config, image_shape(config))

    fails("kernel_loss is 'wiener'; expected one of regression, elbo", kernel_loss="wiener")
    fails("alternate is -1", alternate=-1)
    fails("takes exactly the terms kl and wiener, not kl, l2, wiener", terms={"l2": {"weight": 1.0}})
    fails("The term wiener has no option 'noise'", terms={"wiener": {"noise": 1.0}})
    fails("sigma must be above 0", terms={"wiener": {"sigma": -1.0}})
