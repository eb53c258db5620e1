"""The Wiener-weighted likelihood against its explicit matrix, and its integral."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import value_and_gradient
from scipy import integrate

from vae_jax.errors import UserError
from vae_jax.losses.wiener import centred, column_weights, gaussian_kernel, log_determinant, quadratic_form, wiener_gain
from vae_jax.losses.wiener import wiener_nll as nll

SIZES = [(4, 6), (5, 3), (3, 4)]
C, EPSILON = 0.025, 0.01


def precision(kernel: np.ndarray, height: int, width: int, c=C, epsilon=EPSILON) -> np.ndarray:
    """A of one channel, [N, N] in float64, from the blur's circulant matrix B: W = (B^T B + C)^-1 B^T, W^T W + eps.

    Row p of B holds the pixels that the blur sums for pixel p, around the edges: no Fourier transform.
    """
    n, half = height * width, kernel.shape[0] // 2
    blur = np.zeros((n, n))
    for p in range(n):
        for i in range(-half, half + 1):
            for j in range(-half, half + 1):
                q = (p // width - i) % height * width + (p % width - j) % width
                blur[p, q] += kernel[half + i, half + j]
    wiener = np.linalg.solve(blur.T @ blur + c * np.eye(n), blur.T)
    return wiener.T @ wiener + epsilon * np.eye(n)


def example(height: int, width: int):
    """Two colour images, their reconstructions, two kernels that are not symmetric."""
    rng = np.random.default_rng(height)
    target, recon = rng.uniform(size=(2, 2, height, width, 3)).astype(np.float32)
    kernel = rng.dirichlet(np.ones(9), 2).reshape(2, 3, 3).astype(np.float32)
    return target, recon, kernel


def by_hand(target, recon, kernel, sigma):
    """-log N of each image and its gradient with respect to recon, by dense linear algebra."""
    values, gradients = [], []
    for x, y, k in zip(target, recon, kernel, strict=True):
        height, width, channels = x.shape
        a = precision(k.astype(np.float64), height, width)
        r = (y.astype(np.float64) - x).reshape(-1, channels)
        squares = np.einsum("pc,pq,qc->", r, a, r)
        variance = squares / r.size if sigma is None else sigma**2
        log_det = channels * np.linalg.slogdet(a)[1]
        values.append(0.5 * (squares / variance - log_det + r.size * np.log(2 * np.pi * variance)))
        gradients.append((a @ r / variance).reshape(x.shape))  # also of the most likely sigma: it is stationary there
    return np.array(values), np.array(gradients)


@pytest.mark.parametrize("sigma", [0.3, None])
@pytest.mark.parametrize("size", SIZES)
def test_equal_to_the_explicit_matrix(size, sigma):
    target, recon, kernel = example(*size)
    loss = jax.jit(lambda x, y: nll(x, y, kernel, C=C, epsilon=EPSILON, sigma=sigma))
    expected, gradient = by_hand(target, recon, kernel, sigma)
    ours, our_gradient = value_and_gradient(loss, target, recon)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    gradient = gradient * np.array([1, 2]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(our_gradient, gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize("size", SIZES)
def test_both_pieces(size):
    """r^T A r by the dense matrix, log det A by numpy's LU decomposition."""
    target, recon, kernel = example(*size)
    gain = wiener_gain(kernel, size, C=C, epsilon=EPSILON)
    for i in range(2):
        a, r = precision(kernel[i].astype(np.float64), *size), (recon - target)[i].reshape(-1, 3).astype(np.float64)
        np.testing.assert_allclose(quadratic_form(recon - target, gain)[i], np.einsum("pc,pq,qc->", r, a, r), rtol=1e-5)
        np.testing.assert_allclose(log_determinant(gain, size[1])[i], np.linalg.slogdet(a)[1], rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.3, None])
def test_gradient_of_the_kernel(sigma):
    """By central differences of the dense float64 formula: the kernel can be learnt by the likelihood."""
    target, recon, kernel = example(4, 6)
    gradient = jax.jit(jax.grad(lambda k: nll(target, recon, k, C=C, epsilon=EPSILON, sigma=sigma).sum()))(kernel)
    numeric = np.zeros(kernel.shape)
    for index in np.ndindex(kernel.shape):
        up, down = (kernel.astype(np.float64) for _ in range(2))
        up[index] += 1e-5
        down[index] -= 1e-5
        numeric[index] = (by_hand(target, recon, up, sigma)[0] - by_hand(target, recon, down, sigma)[0]).sum() / 2e-5
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=2e-5 * np.abs(numeric).max())


def test_density_of_two_pixels_integrates_to_one():
    """By Simpson's rule over the plane of both pixels; the only kernel that fits is one pixel, without blur."""
    recon, kernel, line = np.array([0.4, 0.7], np.float32), 0.7, np.linspace(-6, 6, 401, dtype=np.float32)
    target = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 1, 2, 1)
    recon = np.broadcast_to(recon.reshape(1, 1, 2, 1), target.shape)
    density = np.exp(-nll(target, recon, np.full((len(target), 1, 1), kernel), epsilon=0.2, sigma=0.5))
    total = integrate.simpson(integrate.simpson(density.reshape(401, 401), x=line), x=line)
    np.testing.assert_allclose(total, 1, atol=1e-4)


@pytest.mark.parametrize("size", SIZES[1:])
def test_density_integrates_to_one(size):
    """exp(-nll) = exp(-nll(0)) exp(-1/2 r^T P r), whose integral is (2 pi)^(D/2) / sqrt(det P); P is the loss's own
    Hessian, so that no formula of the determinant is used."""
    _, recon, kernel = example(*size)
    recon, kernel = recon[:1, :, :, :2], kernel[:1]
    loss = lambda r: nll(recon - r.reshape(recon.shape), recon, kernel, epsilon=EPSILON, sigma=0.3)[0]  # noqa: E731
    zero = jnp.zeros(recon.size)
    hessian = np.asarray(jax.jit(jax.hessian(loss))(zero), np.float64)
    log_integral = -float(loss(zero)) + recon.size / 2 * np.log(2 * np.pi) - np.linalg.slogdet(hessian)[1] / 2
    np.testing.assert_allclose(log_integral, 0, atol=1e-3)


def test_most_likely_sigma():
    """Its value is that of the best of many fixed ones, which are all worse."""
    target, recon, kernel = example(4, 6)
    free = np.asarray(nll(target, recon, kernel, epsilon=EPSILON))
    fixed = np.array([by_hand(target, recon, kernel, sigma)[0] for sigma in np.geomspace(0.05, 5, 400)])
    assert (fixed >= free - 1e-4).all()
    np.testing.assert_allclose(fixed.min(0), free, atol=1e-2)


def test_kernel_is_centred():
    """A shifted impulse moves to where a blur by it shifts an image: its middle is pixel (0, 0), the rest wraps."""
    kernel = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3)
    expected = np.array([[4, 5, 0, 3], [7, 8, 0, 6], [0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 0, 0]], np.float32)
    np.testing.assert_array_equal(centred(kernel, (5, 4))[0], expected)
    for width in (1, 2, 5, 8):
        assert column_weights(width).sum() == width


def test_gaussian_kernel():
    kernel = gaussian_kernel(5, 0.8)
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(kernel[2, 4] / kernel[2, 2], np.exp(-(2**2) / (2 * 0.8**2)), rtol=1e-6)
    np.testing.assert_array_equal(kernel, kernel.T)
    for size, sigma in ((4, 1.0), (0, 1.0), (3, 0.0)):
        with pytest.raises(UserError, match="an odd size and a sigma above 0"):
            gaussian_kernel(size, sigma)


@pytest.mark.parametrize("sigma", [0.3, None])
@pytest.mark.parametrize("kernel_sigma", [0.4, 3.0])
def test_degenerate_points(kernel_sigma, sigma):
    """Equal and constant images, also for a kernel that passes almost nothing: finite."""
    kernel = jnp.repeat(gaussian_kernel(11, kernel_sigma)[None], 2, axis=0)
    zeros, ones = jnp.zeros((2, 12, 15, 3)), jnp.ones((2, 12, 15, 3))
    loss = jax.jit(jax.value_and_grad(lambda y, k, x: nll(x, y, k, epsilon=EPSILON, sigma=sigma).sum(), argnums=(0, 1)))
    for target, recon in ((zeros, zeros), (ones, ones), (ones, zeros)):
        value, (gradient, kernel_gradient) = loss(recon, kernel, target)
        assert np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(kernel_gradient).all()
        if target is recon:
            assert not gradient.any()


def test_what_does_not_fit():
    target, recon, kernel = example(4, 6)
    with pytest.raises(ValueError, match="equal shapes"):
        nll(target, recon[:, :-1], kernel, epsilon=EPSILON)
    for wrong in (np.ones((2, 4, 4)), np.ones((2, 5, 5)), np.ones((2, 3, 1)), np.ones((3, 3))):
        with pytest.raises(UserError, match="does not fit images of 4x6; expected a square with an odd side"):
            nll(target, recon, wrong, epsilon=EPSILON)
    for options in ({"epsilon": 0.0}, {"epsilon": 0.1, "C": 0.0}):
        with pytest.raises(UserError, match="both must be above 0"):
            nll(target, recon, kernel, **options)
    with pytest.raises(UserError, match="sigma .* is 0.0"):
        nll(target, recon, kernel, epsilon=EPSILON, sigma=0.0)
