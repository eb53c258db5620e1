"""The networks of latent diffusion's autoencoder: published sizes, layers by hand in numpy and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import uniform
from scipy.signal import correlate

from vae_jax.models import DECODERS
from vae_jax.models.latent_diffusion import Attention, LatentDiffusionDecoder, LatentDiffusionEncoder, ResnetBlock

KEY = jax.random.key(0)


def sizes(network, x) -> tuple[int, tuple]:
    """The number of parameters and the shape of the output."""
    made, variables = jax.eval_shape(lambda: network.init_with_output(KEY, x))
    return sum(leaf.size for leaf in jax.tree.leaves(variables)), jax.tree.map(jnp.shape, made)


def test_published_sizes():
    """kl-f8, also used by Stable Diffusion: 83,653,863 parameters with the 1x1 convolutions around the latents."""
    encoder, posterior = sizes(LatentDiffusionEncoder(4), jnp.zeros((2, 64, 96, 3)))
    decoder, images = sizes(LatentDiffusionDecoder((64, 96, 3)), jnp.zeros((2, 8, 12, 4)))
    assert (encoder, decoder) == (34_163_664, 49_490_199) and encoder + decoder == 83_653_863
    assert posterior == ((2, 8, 12, 4), (2, 8, 12, 4)) and images == (2, 64, 96, 3)


def test_four_times_smaller():
    levels = {"multipliers": (1, 2, 4), "width": 8, "blocks": 1}
    assert sizes(LatentDiffusionEncoder(3, **levels), jnp.zeros((1, 32, 48, 1)))[1] == ((1, 8, 12, 3), (1, 8, 12, 3))
    assert sizes(LatentDiffusionDecoder((32, 48, 1), **levels), jnp.zeros((1, 8, 12, 3)))[1] == (1, 32, 48, 1)


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"sides are multiples of 8, not \(64, 60\)"):
        sizes(LatentDiffusionEncoder(4), jnp.zeros((1, 64, 60, 3)))
    with pytest.raises(ValueError, match=r"makes images of \(16, 24\) from latents \(8, 12, 3\), not \(32, 48, 1\)"):
        sizes(LatentDiffusionDecoder((32, 48, 1), 8, (1, 2), 1), jnp.zeros((1, 8, 12, 3)))


def filled(network, x):
    """Parameters by name, none of them 0 or 1."""
    shapes = jax.eval_shape(lambda: network.init(KEY, x))["params"]
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: uniform(jax.tree_util.keystr(path), leaf.shape).astype(np.float32) - 0.4, shapes
    )


def apply(network, params, x):
    return jax.jit(network.apply)({"params": params}, x)


def norm(x, layer, groups):
    """GroupNorm's definition: each image's groups of neighbouring channels get mean 0 and variance 1, up to 1e-6."""
    b, h, w, c = x.shape
    x = np.asarray(x, np.float64).reshape(b, h * w, groups, c // groups)
    x = (x - x.mean((1, 3), keepdims=True)) / np.sqrt(x.var((1, 3), keepdims=True) + 1e-6)
    return x.reshape(b, h, w, c) * layer["scale"] + layer["bias"]


def convolve(x, layer, stride=1, margin=((1, 1), (1, 1))):
    """Correlation of each zero-padded image with each kernel, by scipy."""
    x = np.pad(x, ((0, 0), *margin, (0, 0)))
    kernels = np.moveaxis(np.asarray(layer["kernel"], np.float64), -1, 0)
    made = [[correlate(image, kernel, "valid")[::stride, ::stride, 0] for kernel in kernels] for image in x]
    return np.stack([np.stack(maps, -1) for maps in made]) + layer["bias"]


def swish(x):
    return x / (1 + np.exp(-x))


X = (2 * uniform("features", (2, 4, 6, 8)) - 1).astype(np.float32)


@pytest.mark.parametrize("features", [8, 12])
def test_a_residual_block_by_hand(features):
    """Groups of four channels, as 8 and 12 are too few for 32 groups; a shortcut if the channels change."""
    block = ResnetBlock(features)
    p = filled(block, X)
    y = convolve(swish(norm(X, p["norm1"], 2)), p["conv1"])
    y = convolve(swish(norm(y, p["norm2"], features // 4)), p["conv2"])
    x = X @ p["shortcut"]["kernel"] + p["shortcut"]["bias"] if features != 8 else X
    np.testing.assert_allclose(apply(block, p, X), x + y, rtol=1e-4, atol=1e-5)


def test_attention_by_hand():
    attention = Attention()
    p = filled(attention, X)
    y = norm(X, p["norm"], 2).reshape(2, 24, 8)
    q, k, v = (y @ p[name]["kernel"] + p[name]["bias"] for name in ("query", "key", "value"))
    weights = np.exp(np.einsum("bic,bjc->bij", q, k) / np.sqrt(8))
    y = np.einsum("bij,bjc->bic", weights / weights.sum(2, keepdims=True), v)
    y = (y @ p["out"]["kernel"] + p["out"]["bias"]).reshape(X.shape)
    np.testing.assert_allclose(apply(attention, p, X), X + y, rtol=1e-4, atol=1e-5)


def test_the_encoder_by_hand():
    """Images become [-1, 1]; a 3x3 convolution, padded at the bottom and on the right only, halves the size."""
    encoder, images = LatentDiffusionEncoder(2, 8, (1, 1), 0), uniform("images", (2, 4, 6, 3)).astype(np.float32)
    p = filled(encoder, images)
    x = convolve(convolve(2 * images - 1, p["conv_in"]), p["down1"], 2, ((0, 1), (0, 1)))
    assert x.shape == (2, 2, 3, 8)
    for part in (ResnetBlock(8), "middle1"), (Attention(), "attention"), (ResnetBlock(8), "middle2"):
        x = apply(part[0], p[part[1]], x)
    moments = convolve(swish(norm(x, p["norm_out"], 2)), p["conv_out"]) @ p["moments"]["kernel"] + p["moments"]["bias"]
    mean, logvar = apply(encoder, p, images)
    np.testing.assert_allclose(np.concatenate([mean, logvar], -1), moments, rtol=1e-4, atol=1e-4)


def test_the_decoder_by_hand():
    """Repetition and a zero-padded 3x3 convolution double the size; [-1, 1] becomes [0, 1], without bounds.

    With -1 blocks there are none after the middle.
    """
    decoder, z = LatentDiffusionDecoder((4, 6, 3), 8, (1, 1), -1), uniform("z", (2, 2, 3, 2)).astype(np.float32)
    p = filled(decoder, z)
    x = convolve(z @ p["latents"]["kernel"] + p["latents"]["bias"], p["conv_in"])
    for part in (ResnetBlock(8), "middle1"), (Attention(), "attention"), (ResnetBlock(8), "middle2"):
        x = apply(part[0], p[part[1]], x)
    x = convolve(np.asarray(x).repeat(2, 1).repeat(2, 2), p["up1"])
    expected = (1 + convolve(swish(norm(x, p["norm_out"], 2)), p["image"])) / 2
    assert np.abs(expected - 0.5).max() > 0.5
    np.testing.assert_allclose(apply(decoder, p, z), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_names_the_layer_that_makes_the_image(name):
    """That layer has two channels if the image has two."""
    z = (
        jnp.zeros((1, 4, 4, 3))
        if name in ("deepsim", "deepsim_conv_generator", "latent_diffusion")
        else jnp.zeros((1, 3))
    )
    options = {"scale": 1 / 16} if name.startswith("deepsim") else {}
    decoder = DECODERS[name]((32, 32, 2), **options)
    params = jax.eval_shape(lambda: decoder.init(KEY, z))["params"]
    assert 2 in params[decoder.last_layer]["kernel"].shape[2:]
