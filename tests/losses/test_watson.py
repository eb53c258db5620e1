"""Watson's distance against its formulas, block by block in float64."""

import jax
import numpy as np
import pytest
from golden.formula import rival_images, uniform
from helpers.checks import value_and_gradient
from scipy import fft

from vae_jax.config import check_weights
from vae_jax.errors import UserError
from vae_jax.losses import watson
from vae_jax.losses.watson import initial_weights, watson_term
from vae_jax.weights.files import save_weights

E = 1e-10
REAL = ((0, 0), (0, 4), (4, 0), (4, 4))  # coefficients without a phase


def channel_by_hand(x, y, transform, weights):
    """One channel [H, W] of target and recon in float64, H and W multiples of 8."""
    corners = [(i, j) for i in range(0, x.shape[0], 8) for j in range(0, x.shape[1], 8)]
    pairs = [(x[i : i + 8, j : j + 8], y[i : i + 8, j : j + 8]) for i, j in corners]
    if transform == "dct":
        coefficients = [[fft.dctn(block, norm="ortho") for block in pair] for pair in pairs]
    else:
        coefficients = [[np.fft.rfft2(block) / 64 for block in pair] for pair in pairs]
    brightness = [max(c0[0, 0].real / (8 if transform == "dct" else 1), 1 / 255) for c0, _ in coefficients]
    total, phases = 0.0, 0.0
    for (c0, c1), bright in zip(coefficients, brightness, strict=True):
        t = weights["sensitivity"] * (bright / np.mean(brightness)) ** weights["luminance"]
        masked = (np.abs(c0) + E) ** weights["contrast"] * t ** (1 - weights["contrast"])
        s = (t * np.exp(t) + masked * np.exp(masked)) / (np.exp(t) + np.exp(masked))
        difference = np.abs(c0 - c1) if transform == "dct" else np.abs(np.abs(c0) - np.abs(c1))
        difference[0, 0] = abs((c0 - c1)[0, 0].real)
        total += ((difference / s + E) ** weights["pooling"] + E).sum()
        if transform == "dft":
            turn = np.angle(c0 + 1e-6) - np.angle(c1 + 1e-6)
            angles = weights["phase"] * np.arccos(np.cos(turn) * (1 - 1e-7))
            phases += angles.sum() - sum(angles[place] for place in REAL)
    return total ** (1 / weights["pooling"]) + phases


def by_hand(target, recon, transform, weights):
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    values = []
    for pair in zip(target.astype(np.float64), recon.astype(np.float64), strict=True):
        x, y = (image @ matrix.T + [0, 0.5, 0.5] for image in pair)
        channels = [{key: np.asarray(v, np.float64)[..., i] for key, v in weights.items()} for i in range(3)]
        parts = [w["channel"] * channel_by_hand(x[..., i], y[..., i], transform, w) for i, w in enumerate(channels)]
        values.append(sum(parts))
    return np.array(values)


def learnt_weights(transform):
    """Weights that differ from channel to channel and from the initial ones."""
    initial = initial_weights(transform, 3)
    weights = {key: v * (0.6 + 0.8 * uniform(key, v.shape)).astype(np.float32) for key, v in initial.items()}
    return weights | {"contrast": np.array([0.3, 0.55, 0.8], np.float32)}


@pytest.mark.parametrize("weights_of", [lambda transform: initial_weights(transform, 3), learnt_weights])
@pytest.mark.parametrize("transform", ["dct", "dft"])
def test_watson_by_hand(transform, weights_of):
    """Values by scipy.fft and numpy.fft in float64; gradients at 12 places by central differences of these."""
    target, recon = rival_images((16, 24))
    weights = weights_of(transform)
    loss = jax.jit(lambda x, y: watson(x, y, transform=transform, weights=weights))
    np.testing.assert_allclose(loss(target, recon), by_hand(target, recon, transform, weights), rtol=1e-5)
    gradient = np.asarray(jax.jit(jax.grad(lambda y: loss(target, y).sum()))(recon))
    for place in (uniform("places", (12,)) * recon.size).astype(int):
        index, numeric = np.unravel_index(place, recon.shape), 0
        for sign in (1, -1):
            moved = recon.astype(np.float64)
            moved[index] += sign * 1e-6
            numeric += sign * by_hand(target, moved, transform, weights).sum() / 2e-6
        np.testing.assert_allclose(gradient[index], numeric, rtol=0, atol=1e-4 * np.abs(gradient).max())


def test_initial_weights():
    """As published: Watson's table is symmetric and smallest where the eye sees best; channels count equally."""
    for transform, shape, values in (("dct", (8, 8), (0.649, 0.7, 4.0)), ("dft", (8, 5), (0.1, 0.2, 1.0))):
        weights = initial_weights(transform, 3)
        assert weights["sensitivity"].shape == (*shape, 3)
        np.testing.assert_allclose([weights[k][0] for k in ("luminance", "contrast", "pooling")], values, rtol=1e-6)
        np.testing.assert_allclose(weights["channel"].sum(), 1, rtol=1e-6)
    table = initial_weights("dct", 1)["sensitivity"][..., 0]
    np.testing.assert_array_equal(table, table.T)
    assert table.min() == table[0, 1] == np.float32(1.01) and table.max() == np.float32(21.15)
    np.testing.assert_allclose(initial_weights("dft", 1)["phase"], np.exp(-2), rtol=1e-6)


@pytest.mark.parametrize("transform", ["dct", "dft"])
def test_grey_images_and_sides_that_are_not_multiples_of_8(transform):
    """One channel is the metric itself; 13x22 pixels are extended to 16x24 by their edges."""
    target, recon = (x[..., :1] for x in rival_images((13, 22)))
    weights = initial_weights(transform, 1)
    wide = [
        np.pad(x.astype(np.float64), ((0, 0), (0, 3), (0, 2), (0, 0)), mode="edge")[..., 0] for x in (target, recon)
    ]
    one = {key: np.asarray(v, np.float64)[..., 0] for key, v in weights.items()}
    expected = [channel_by_hand(x, y, transform, one) for x, y in zip(*wide, strict=True)]
    ours = jax.jit(lambda x, y: watson(x, y, transform=transform))(target, recon)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("transform", ["dct", "dft"])
def test_a_black_block_is_not_the_whole_distance(transform):
    """In the formula its threshold is 0; here it is that of a block of one grey level, by hand."""
    target, recon = rival_images((16, 24))
    target[:, :8, :8] = 0
    weights = initial_weights(transform, 3)
    loss = jax.jit(lambda x, y: watson(x, y, transform=transform))
    expected = by_hand(target, recon, transform, weights)  # exact, where float32 rounds flat blocks
    np.testing.assert_allclose(loss(target, recon), expected, rtol=2e-4)
    everywhere, elsewhere = loss(target, recon), loss(target, np.where(target == 0, 0, recon))
    assert (everywhere < 200 * elsewhere).all()


@pytest.mark.parametrize("transform", ["dct", "dft"])
def test_an_image_is_not_its_negative(transform):
    """As a decoder without an output activation can give; nor does the distance lead there from black."""
    target, _ = rival_images((16, 24))
    loss = jax.jit(lambda x, y: watson(x, y, transform=transform, phase=0.0))
    assert (loss(target, -target) > 1).all() and (loss(target, target) < 0.02).all()
    gradient = jax.grad(lambda y: loss(target, y).sum())(-0.1 * target)
    assert (gradient.mean(axis=(1, 2, 3)) < 0).all()


def test_the_share_of_phases():
    target, recon = rival_images((16, 24))
    without, whole, half = (watson(target, recon, phase=phase) for phase in (0.0, 1.0, 0.5))
    np.testing.assert_allclose(half - without, (whole - without) / 2, rtol=1e-4)
    np.testing.assert_array_equal(whole, watson(target, recon))


def test_shift():
    """Shifted blocks are those of the extended image; (4, 4) is no shift; it may be drawn under jit."""
    target, recon = rival_images((16, 24))
    windows = [np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="edge")[:, 1:17, 6:30] for x in (target, recon)]
    draw = jax.jit(lambda shift: watson(target, recon, shift=shift))
    compiled = jax.jit(watson)
    np.testing.assert_allclose(draw((1, 6)), compiled(*windows), rtol=1e-5)
    np.testing.assert_allclose(draw((4, 4)), compiled(target, recon), rtol=1e-5)


def test_an_image_does_not_depend_on_its_batch():
    images, compiled = rival_images((16, 24)), jax.jit(watson)
    alone = [compiled(*(x[i : i + 1] for x in images))[0] for i in range(2)]
    np.testing.assert_allclose(compiled(*images), alone, rtol=1e-5)


def test_weights_of_a_file(tmp_path, smoke):
    """Learnt weights come from a file, which is checked before anything is compiled and is an argument of the step."""
    target, recon = rival_images((16, 24))
    learnt, path = learnt_weights("dct"), tmp_path / "watson.safetensors"
    save_weights(path, learnt, {"source": "formula", "source_sha256": "", "licence": ""})

    def term(**options):
        return watson_term(smoke("vae_celeba"), **options)

    ours = term(transform="dct", weights=str(path))
    seen = (ours.see(None, images) for images in (target, recon))
    np.testing.assert_array_equal(
        ours.compare(ours.load(), *seen), watson(target, recon, transform="dct", weights=learnt)
    )
    with pytest.raises(UserError, match="does not match the network"):
        term(transform="dft", weights=str(path)).load()
    config = smoke("vae_celeba")
    config.terms.watson = {"weight": 1.0, "start": 0, "warmup": 0, "weights": str(tmp_path / "other.safetensors")}
    with pytest.raises(UserError, match="No weights at"):
        check_weights(config)


@pytest.mark.parametrize("transform", ["dct", "dft"])
def test_degenerate_points(transform):
    """Equal, constant and black images: finite and bounded, small for equal images, and there without a gradient."""
    noise, _ = rival_images((16, 24))
    black, grey, white = (np.full_like(noise, value) for value in (0, 0.5, 1))
    loss = jax.jit(lambda x, y: watson(x, y, transform=transform))
    for target in (noise, black, grey, white):
        for recon in (target, noise, black, grey, white):
            values, gradient = value_and_gradient(loss, target, recon)
            assert np.isfinite(values).all() and np.abs(gradient).max() < 1e5
            assert (values < 0.2).all() == (target is recon)
            assert target is not recon or np.abs(gradient).max() < 1e-4


def test_what_does_not_fit():
    target, recon = rival_images((16, 24))
    with pytest.raises(ValueError, match="equal shapes"):
        watson(target, recon[:, :-1])
    with pytest.raises(UserError, match="Unknown terms.watson.transform 'fft'. Did you mean 'dft'"):
        watson(target, recon, transform="fft")
    with pytest.raises(UserError, match=r"shift is \(8, 0\); expected rows and columns of 0 to 7"):
        watson(target, recon, shift=(8, 0))
    with pytest.raises(UserError, match="one or three channels, not 2"):
        watson(target[..., :2], recon[..., :2])
