"""The networks of Larsen et al. (2016): their sizes, and the operations of a step of three players."""

import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import ROOT

from vae_jax.cli import load_config
from vae_jax.models.larsen import LarsenDecoder, LarsenDiscriminator, LarsenEncoder
from vae_jax.state import init_state
from vae_jax.systems import make_system
from vae_jax.train_step import make_train_step

KEY = jax.random.key(3)


def test_networks_are_the_authors():
    """Widths and sizes of the released code at 64x64 and 32x32, and the layer of comparison: 256 channels at 8x8."""
    for size, up, down in (
        (64, (256, 256, 128, 32), (32, 128, 256, 256)),
        (32, (256, 192, 128, 32), (32, 128, 192, 256)),
    ):
        images, z = jnp.zeros((2, size, size, 3)), jnp.zeros((2, 128))
        encoder = jax.eval_shape(lambda: LarsenEncoder(128).init(KEY, images))["params"]  # noqa: B023
        decoder = jax.eval_shape(lambda: LarsenDecoder((size, size, 3)).init(KEY, z))["params"]  # noqa: B023
        discriminator = LarsenDiscriminator()
        variables = jax.eval_shape(lambda: discriminator.init(KEY, images))  # noqa: B023
        layers = jax.eval_shape(discriminator.apply, variables, images)
        shapes = lambda tree, *names: [tree[name]["kernel"].shape for name in names]  # noqa: E731
        assert shapes(encoder, "conv1", "conv2", "conv3", "dense", "mean", "logvar") == [
            (5, 5, 3, 64), (5, 5, 64, 128), (5, 5, 128, 256), (256 * (size // 8) ** 2, 1024), (1024, 128), (1024, 128)
        ]  # fmt: skip
        assert shapes(decoder, "dense", "upconv1", "upconv2", "upconv3", "image") == [
            (128, 256 * (size // 8) ** 2), *((5, 5, o, i) for i, o in zip(up, up[1:], strict=False)), (5, 5, 32, 3)
        ]  # fmt: skip
        assert shapes(variables["params"], "conv1", "conv2", "conv3", "conv4", "dense", "logit") == [
            *((5, 5, i, o) for i, o in zip((3, *down), down, strict=False)), (256 * (size // 8) ** 2, 512), (512, 1)
        ]  # fmt: skip
        assert layers["conv4"].shape == (2, size // 8, size // 8, 256) and layers["logits"].shape == (2,)
        assert "bias" not in encoder["conv1"] and "bias" in variables["params"]["conv1"]


def taps(size: int, kernel: int, stride: int, before: int) -> int:
    """Products of one square channel with a kernel: those that fall on padding are none."""
    starts = range(-before, size - before, stride)
    return sum(sum(0 <= start + k < size for k in range(kernel)) for start in starts) ** 2


def hand_count(size: int, channels: int, scale: float, latents: int) -> float:
    """Multiplications and additions of a three-player step per image, from the sizes of the layers, in GFLOP.

    Forward: one image through the encoder, two latents through the decoder, three images through the discriminator.
    Backward, as much again per product: the encoder's rule back through discriminator (from conv4) and decoder to all
    of the encoder's weights; the decoder's back through the discriminator to its weights; the discriminator's to its
    own. Up-sampling has the products of the `SAME` convolution of stride 2 that it is the gradient of.
    """

    def layers(widths, sizes, kernel, stride, before=2):
        pairs = zip(widths, widths[1:], sizes, strict=False)
        return [taps(at, kernel, stride, before) * i * o for i, o, at in pairs]

    def w(*widths):
        return [round(width * scale) for width in widths]

    small = (size // 8) ** 2
    *enc, dense = w(64, 128, 256, 1024)
    encoder = [*layers([channels, *enc], (size, size // 2, size // 4), 5, 2)]
    encoder += [small * enc[-1] * dense, 2 * dense * latents]
    third = 256 if size > 32 else 192
    dec = w(256, third, 128, 32)
    up = layers(dec, (size // 4, size // 2, size), 5, 2, before=1)
    decoder = [latents * small * dec[0], *up, *layers([dec[-1], channels], (size,), 5, 1)]
    *dis, dense = w(32, 128, third, 256, 512)
    discriminator = layers([channels, dis[0]], (size,), 5, 1) + layers(dis, (size, size // 2, size // 4), 5, 2)
    to_conv4, discriminator = sum(discriminator), [*discriminator, small * dis[-1] * dense]

    forward = sum(encoder) + 2 * sum(decoder) + 3 * sum(discriminator)
    encoders = 3 * to_conv4 + 2 * sum(decoder) + 2 * sum(encoder) - encoder[0]
    decoders = 3 * sum(discriminator) + 2 * (2 * sum(decoder) - decoder[0])
    discriminators = 3 * (2 * sum(discriminator) - discriminator[0])
    return 2 * (forward + encoders + decoders + discriminators) / 1e9


@pytest.mark.parametrize(
    ("name", "size", "channels"), [("vaegan_mnist", 32, 1), ("vaegan_sharp_mnist", 32, 1), ("vaegan_celeba", 64, 3)]
)
def test_operations_of_a_step(name, size, channels):
    """What XLA counts in the compiled step against the hand count."""
    config = load_config(f"{ROOT}/configs/{name}.py")
    system = make_system(config, (size, size, channels))
    optimizers = dict.fromkeys(system.rules, optax.sgd(1.0))
    batch = {"image": jax.ShapeDtypeStruct((8, size, size, channels), "float32")}
    state = jax.eval_shape(lambda b: init_state(system, optimizers, KEY, b, ema=False), batch)
    step = jax.jit(make_train_step(system, optimizers)).lower(state, {}, batch, jax.eval_shape(lambda: KEY))
    counted = step.compile().cost_analysis()["flops"] / 8 / 1e9
    expected = hand_count(size, channels, config.encoder.scale, config.latents)
    print(f"{name}: {counted:.3f} GFLOP per image, {expected:.3f} by hand")
    assert 0.9 * expected < counted < 1.1 * expected
