"""The general robust loss and the adaptive likelihood: against their formulas, quadrature and PyWavelets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import rival_images
from helpers.checks import ROOT, value_and_gradient
from scipy import fft, integrate, special

from vae_jax.errors import UserError
from vae_jax.losses import robust
from vae_jax.losses.representations import REPRESENTATIONS, VOLUME_PRESERVING_YUV, wavelet, wavelet_log_det
from vae_jax.losses.robust import adaptive_nll, init_adaptive, log_partition, rho, shape_and_scale

INF = float("inf")
SHAPES = (-INF, -1e4, -2.0, -0.5, 0.0, 0.001, 0.7, 1.0, 1.999, 2.0, 3.0)


def rho_by_hand(x, alpha, c):
    """The formula as printed, in float64."""
    squares = (x / c) ** 2
    if alpha == 2:
        return squares / 2
    if alpha == 0:
        return np.log(squares / 2 + 1)
    if alpha == -INF:
        return 1 - np.exp(-squares / 2)
    return abs(alpha - 2) / alpha * ((squares / abs(alpha - 2) + 1) ** (alpha / 2) - 1)


def slope_by_hand(x, alpha, c):
    """Its derivative by x (equation 9 of the paper)."""
    squares = (x / c) ** 2
    if alpha == 2:
        return x / c**2
    if alpha == 0:
        return 2 * x / (x**2 + 2 * c**2)
    if alpha == -INF:
        return x / c**2 * np.exp(-squares / 2)
    return x / c**2 * (squares / abs(alpha - 2) + 1) ** (alpha / 2 - 1)


@pytest.mark.parametrize("alpha", SHAPES)
def test_robust_by_hand(alpha, images):
    target, recon = images
    values, gradient = value_and_gradient(jax.jit(lambda x, y: robust(x, y, alpha=alpha, c=0.2)), target, recon)
    residual = recon.astype(np.float64) - target
    np.testing.assert_allclose(values, rho_by_hand(residual, alpha, 0.2).sum((1, 2, 3)), rtol=1e-5)
    slope = slope_by_hand(residual, alpha, 0.2) * np.array([1, 2, 3]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-5 * np.abs(slope).max())


def test_shapes_that_broadcast():
    """One shape for each of many residuals, limits included, gives what each does alone; gradients are finite."""
    x = np.linspace(-3, 3, len(SHAPES)).astype(np.float32)
    together = rho(x, np.array(SHAPES, np.float32), 0.5)
    alone = [rho_by_hand(a, s, 0.5) for a, s in zip(x.astype(np.float64), SHAPES, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    gradients = jax.grad(lambda x, a: rho(x, a, 0.5).sum(), (0, 1))(jnp.asarray(x), jnp.array(SHAPES))
    assert np.isfinite(gradients).all()


@functools.cache
def log_z(alpha: float) -> float:
    """By scipy's adaptive quadrature of the definition, in t with x = tan t, on (0, pi / 2)."""
    integrand = lambda t: np.exp(-rho_by_hand(np.tan(t), alpha, 1.0)) / np.cos(t) ** 2  # noqa: E731
    return np.log(2 * integrate.quad(integrand, 0, np.pi / 2, epsabs=1e-12, epsrel=1e-12, limit=500)[0])


def test_partition_function():
    """The paper's three closed forms, scipy's quadrature in between; its slope by central differences."""
    closed = np.log([np.pi * np.sqrt(2), 2 * np.e * special.k1(1), np.sqrt(2 * np.pi)])
    np.testing.assert_allclose(log_partition(jnp.array([0.0, 1.0, 2.0])), closed, atol=5e-6)
    alpha = np.array([0.001, 0.01, 0.2, 0.5, 0.9, 1.3, 1.7, 1.9, 1.97, 1.99, 1.999])
    np.testing.assert_allclose(log_partition(jnp.float32(alpha)), [log_z(a) for a in alpha], atol=5e-6)
    slope = jax.grad(lambda a: log_partition(a).sum())(jnp.float32(alpha))
    step = np.minimum(1e-3, np.minimum(alpha, 2 - alpha) / 4)
    numeric = [(log_z(a + s) - log_z(a - s)) / (2 * s) for a, s in zip(alpha, step, strict=True)]
    np.testing.assert_allclose(slope, numeric, rtol=2e-3, atol=2e-4)


def filter_bank(lines: np.ndarray) -> np.ndarray:
    """One level of the CDF 9/7 wavelet along the last axis, by its published filters and reflection."""
    low = np.array([0.852698679009, 0.377402855613, -0.110624404418, -0.023849465020, 0.037828455507])
    high = np.array([0.788485616406, -0.418092273222, -0.040689417609, 0.064538882629])
    result = np.empty_like(lines)
    for index in np.ndindex(lines.shape[:-1]):
        halves = []
        for half, first in ((low, 0), (high, 1)):
            padded = np.pad(lines[index], len(half) - 1, "reflect")
            halves.append(np.convolve(padded, np.concatenate([half[:0:-1], half]), "valid")[first::2])
        result[index] = np.concatenate(halves)
    return result


def wavelet_by_hand(images: np.ndarray) -> np.ndarray:
    result, (height, width) = images.astype(np.float64).transpose(0, 3, 1, 2), images.shape[1:3]
    for _ in range(5):
        if min(height, width) > 1:
            part = filter_bank(result[..., :height, :width])
            result[..., :height, :width] = filter_bank(part.swapaxes(2, 3)).swapaxes(2, 3)
            height, width = (height + 1) // 2, (width + 1) // 2
    return result.transpose(0, 2, 3, 1)


def test_wavelet_is_pywavelets():
    """PyWavelets 1.9.0, bior4.4, four levels, some of odd size; see golden/make_rival_losses.py."""
    with np.load(ROOT / "tests" / "golden" / "rival_losses.npz") as golden:
        expected = golden["wavelet"]
    ours = wavelet(jnp.asarray(rival_images((13, 22))[0]))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("size", [(37, 40), (8, 3), (2, 5), (1, 6)])
def test_wavelet_by_its_filters(size):
    """All five levels, and sides too short for them; a line of one pixel is unchanged."""
    image = rival_images(size)[0]
    expected = wavelet_by_hand(image)
    np.testing.assert_allclose(wavelet(jnp.asarray(image)), expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("size", [(8, 4), (5, 6)])
def test_volumes(size):
    """log |det| of the explicit matrix of every representation, by LU; the wavelet can be inverted."""
    shape = (*size, 3)
    basis = jnp.eye(np.prod(shape)).reshape(-1, *shape)
    for name, (transform, log_det) in REPRESENTATIONS.items():
        matrix = np.asarray(jax.jit(transform)(basis), np.float64).reshape(len(basis), -1)
        np.testing.assert_allclose(np.linalg.slogdet(matrix)[1], log_det(*shape), atol=1e-4, err_msg=name)
    image = rival_images(size)[0]
    back = np.linalg.solve(matrix.T, np.asarray(transform(image)).reshape(2, -1).T).T
    np.testing.assert_allclose(back.reshape(image.shape), image, atol=1e-5)
    assert wavelet_log_det(8, 4, 3) == 0 and wavelet_log_det(5, 3, 3) > 1
    np.testing.assert_allclose(abs(np.linalg.det(VOLUME_PRESERVING_YUV)), 1, rtol=1e-6)


YUV = 1.580227820074 * np.array(  # the scale in the authors' package
    [[0.299, 0.587, 0.114], [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]]
)
BY_HAND = {
    "pixels": lambda images: images,
    "dct": lambda images: fft.dctn(images @ YUV.T, axes=(1, 2), norm="ortho"),
    "wavelet": lambda images: wavelet_by_hand(images @ YUV.T),
}


@pytest.fixture(scope="module")
def learnt():
    """Images [2, 7, 10, 3], not square, and latents of many sizes."""
    rng = np.random.default_rng(5)
    latents = {name: rng.normal(0, 2, (7, 10, 3)).astype(np.float32) for name in ("latent_alpha", "latent_scale")}
    return *rival_images((7, 10)), latents


@functools.cache
def log_det_by_hand() -> float:
    """Of the wavelet of three channels [7, 10], from its explicit matrix; those of YUV and DCT are zero."""
    matrix = wavelet_by_hand(np.eye(70).reshape(70, 7, 10, 1)).reshape(70, 70)
    return 3 * np.linalg.slogdet(matrix)[1]


def nll_by_hand(target, recon, latent_alpha, latent_scale, representation):
    """The paper's equation (16) in float64, coefficient by coefficient."""
    alpha = 0.001 + 1.998 / (1 + np.exp(-latent_alpha.astype(np.float64)))
    c = 1e-5 + (1 - 1e-5) * np.log1p((np.e - 1) * np.exp(latent_scale.astype(np.float64)))
    x = BY_HAND[representation](recon.astype(np.float64) - target)
    values = rho_between(x, alpha, c) + np.log(c) + np.vectorize(log_z)(alpha)
    return values.sum((1, 2, 3)) - (log_det_by_hand() if representation == "wavelet" else 0)


def rho_between(x, alpha, c):
    b = 2 - alpha
    return b / alpha * (((x / c) ** 2 / b + 1) ** (alpha / 2) - 1)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_adaptive_nll_by_hand(representation, learnt):
    """Values, and some gradients of images and latents by central differences."""
    target, recon, latents = learnt
    loss = jax.jit(lambda y, latents: adaptive_nll(target, y, **latents, representation=representation))
    np.testing.assert_allclose(
        loss(recon, latents), nll_by_hand(target, recon, **latents, representation=representation), rtol=1e-5
    )
    gradients = jax.grad(lambda *tree: loss(*tree).sum(), (0, 1))(recon, latents)
    changed = {"recon": recon, **latents}
    for name, gradient in {"recon": gradients[0], **gradients[1]}.items():
        for place in ((3, 4, 0), (6, 9, 2), (0, 5, 1)):
            index, numeric = (1, *place) if name == "recon" else place, 0
            for sign in (1, -1):
                moved = changed[name].astype(np.float64)
                moved[index] += sign * 1e-4
                moved = changed | {name: moved}
                numeric += sign * nll_by_hand(target, **moved, representation=representation).sum() / 2e-4
            np.testing.assert_allclose(gradient[index], numeric, rtol=1e-3, atol=1e-3, err_msg=f"{name} {index}")


def test_density_integrates_to_one():
    """Of one grey pixel, over the real line by scipy, for light and heavy tails."""
    recon = jnp.full((1, 1, 1, 1), 0.3)
    for latent_alpha in (-1.0, 0.0, 3.0):
        latents = jnp.full((1, 1, 1), latent_alpha), jnp.full((1, 1, 1), -1.5)
        t = np.linspace(-20, 20, 4001)  # x = sinh t reaches far into the tails
        target = np.sinh(t).astype(np.float32).reshape(-1, 1, 1, 1)
        density = np.exp(-adaptive_nll(target, jnp.broadcast_to(recon, target.shape), *latents, "pixels"))
        np.testing.assert_allclose(integrate.simpson(density * np.cosh(t), x=t), 1, atol=1e-4)


def test_adaptive_starts_from_the_robust_loss(images):
    """Zeros are alpha 1 and c 1: the general loss plus log Z(1) for every coefficient."""
    latents = init_adaptive((14, 17, 3))
    alpha, c = shape_and_scale(*latents.values())
    np.testing.assert_allclose(alpha, 1, rtol=1e-6)
    np.testing.assert_allclose(c, 1, rtol=1e-6)
    for name in ("pixels", "dct"):
        expected = robust(*images, representation=name) + 14 * 17 * 3 * np.log(2 * np.e * special.k1(1))
        np.testing.assert_allclose(adaptive_nll(*images, **latents, representation=name), expected, rtol=1e-5)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_degenerate_points(representation, images):
    """Equal and constant images, latents at the ends of their ranges: finite, no gradient for equal images."""
    constant = jnp.full((3, 14, 17, 3), 0.5)
    loss = jax.jit(
        jax.value_and_grad(
            lambda y, latents, x: adaptive_nll(x, y, **latents, representation=representation).sum(), (0, 1)
        )
    )
    for extreme in (-30.0, 0.0, 30.0):
        latents = {name: jnp.full((14, 17, 3), extreme) for name in init_adaptive((1, 1, 3))}
        for target, recon in ((images[0], images[0]), (constant, constant), (constant, images[1])):
            value, gradients = loss(recon, latents, target)
            assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
            if target is recon:
                assert not np.any(gradients[0])


def test_no_gradient_for_equal_images(images):
    for alpha in (-INF, 0.0, 1.0, 2.0):
        values, gradient = value_and_gradient(lambda x, y, a=alpha: robust(x, y, alpha=a), images[0], images[0])
        assert not values.any() and not gradient.any()


def test_what_does_not_fit(images):
    latents = init_adaptive((14, 17, 3))
    with pytest.raises(ValueError, match="equal shapes"):
        robust(images[0], images[1][:, :-1])
    with pytest.raises(ValueError, match="equal shapes"):
        adaptive_nll(images[0], images[1][:, :-1], **latents)
    with pytest.raises(ValueError, match=r"latent_alpha \(17, 14, 3\) must have the images' shape"):
        adaptive_nll(*images, **init_adaptive((17, 14, 3)))
    for options, message in (
        ({"alpha": INF}, "alpha is inf"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"c": 0.0}, "c is 0.0"),
        ({"representation": "wavelets"}, "Did you mean 'wavelet'"),
        ({"reduction": "median"}, "Unknown reduction"),
    ):
        with pytest.raises(UserError, match=message):
            robust(*images, **options)
    with pytest.raises(UserError, match="one or three channels, not 2"):
        robust(images[0][..., :2], images[1][..., :2], representation="dct")
