"""The networks of Larsen et al. (2016): their sizes. The operations of a step are counted in test_efficiency.py."""

import jax
import jax.numpy as jnp

from vae_jax.models.larsen import LarsenDecoder, LarsenDiscriminator, LarsenEncoder

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
