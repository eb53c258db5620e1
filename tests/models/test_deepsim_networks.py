"""The networks of DeePSiM against the paper's tables, layer by layer: InSize, OutCh, Kernel, Stride."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.models.deepsim import (
    AlexNetEncoder,
    DeepsimConvGenerator,
    DeepsimDecoder,
    DeepsimDiscriminator,
    DeepsimEncoder,
    DeepsimGenerator,
)

KEY = jax.random.key(0)


def layers(network: nn.Module, *inputs, **more) -> dict[str, tuple]:
    """{layer: (input height, kernel shape, output height)} of a network, in order; a height of 1 is a vector."""
    seen = {}

    def watch(call, args, kwargs, context):
        made = call(*args, **kwargs)
        if "kernel" in context.module.variables.get("params", {}) and context.method_name == "__call__":
            heights = [x.shape[1] if x.ndim == 4 else 1 for x in (args[0], made)]
            kernel = context.module.variables["params"]["kernel"].shape
            seen[context.module.name] = (heights[0], kernel, heights[1])
        return made

    def run():
        with nn.intercept_methods(watch):
            return network.init_with_output(KEY, *inputs, **more)[0]

    jax.eval_shape(run)
    return seen


def shape_of(network: nn.Module, *inputs, **more):
    return jax.tree.map(lambda x: x.shape, jax.eval_shape(lambda: network.init_with_output(KEY, *inputs, **more)[0]))


def test_table_1_the_discriminator():
    network, images = DeepsimDiscriminator(), jnp.zeros((2, 64, 64, 3))
    assert layers(network, images) == {
        "conv1": (64, (7, 7, 3, 32), 29),
        "conv2": (29, (5, 5, 32, 64), 25),
        "conv3": (25, (3, 3, 64, 128), 12),
        "conv4": (12, (3, 3, 128, 256), 10),
        "conv5": (10, (3, 3, 256, 256), 4),
        "dense6": (1, (256, 512), 1),
        "dense7": (1, (512, 2), 1),
    }
    large = layers(DeepsimDiscriminator(stride=4), jnp.zeros((2, 227, 227, 3)))
    assert [large[f"conv{i}"][2] for i in range(1, 6)] == [56, 52, 25, 23, 11]  # the released average pools 11x11
    with_features = layers(network, images, features=jnp.zeros((2, 6, 6, 256)))
    assert with_features["features1"][1] == (9216, 1024) and with_features["features2"][1] == (1024, 512)
    assert with_features["dense6"][1] == (256 + 512, 512)
    assert shape_of(network, images) == {"logits": (2,)}
    with pytest.raises(ValueError, match="conv5 of the deepsim discriminator needs 3x3 pixels"):
        shape_of(network, jnp.zeros((2, 32, 32, 3)))


def test_table_2_the_autoencoder():
    images = jnp.zeros((2, 64, 96, 3))
    encoder = layers(DeepsimEncoder(8), images)
    assert list(encoder.values()) == [
        (64, (5, 5, 3, 32), 32),
        (32, (3, 3, 32, 32), 32),
        (32, (5, 5, 32, 64), 16),
        (16, (3, 3, 64, 64), 16),
        (16, (3, 3, 64, 128), 8),
        (8, (3, 3, 128, 128), 8),
        (8, (3, 3, 128, 64), 8),
        (8, (3, 3, 64, 8), 8),
    ]
    code = shape_of(DeepsimEncoder(8), images)
    assert code == (2, 8, 12, 8)
    decoder = layers(DeepsimDecoder((64, 96, 3)), jnp.zeros(code))
    assert list(decoder.values()) == [  # transposed kernels are [h, w, out, in]
        (8, (3, 3, 8, 64), 8),
        (8, (3, 3, 64, 128), 8),
        (8, (4, 4, 64, 128), 16),
        (16, (3, 3, 64, 64), 16),
        (16, (4, 4, 32, 64), 32),
        (32, (3, 3, 32, 32), 32),
        (32, (4, 4, 16, 32), 64),
        (64, (3, 3, 16, 3), 64),
    ]
    with pytest.raises(ValueError, match="multiples of 8, not 60x64"):
        shape_of(DeepsimEncoder(8), jnp.zeros((2, 60, 64, 3)))


UP_FROM_8 = [
    (8, (3, 3, 256, 512), 8),
    (8, (4, 4, 256, 512), 16),
    (16, (3, 3, 256, 256), 16),
    (16, (4, 4, 128, 256), 32),
    (32, (3, 3, 128, 128), 32),
    (32, (4, 4, 64, 128), 64),
    (64, (4, 4, 32, 64), 128),
    (128, (4, 4, 3, 32), 256),
]


def test_table_5_the_generator():
    network = DeepsimGenerator((227, 227, 3))
    assert list(layers(network, jnp.zeros((2, 4096))).values()) == [
        *[(1, (4096, 4096), 1)] * 3,
        (4, (4, 4, 256, 256), 8),
        *UP_FROM_8,
    ]
    assert shape_of(network, jnp.zeros((2, 1000))) == (2, 227, 227, 3)
    assert shape_of(DeepsimGenerator((64, 96, 3)), jnp.zeros((2, 9))) == (2, 64, 96, 3)


def test_the_generator_from_conv5():
    network = DeepsimConvGenerator((227, 227, 3))
    assert list(layers(network, jnp.zeros((2, 6, 6, 256))).values()) == [
        (6, (3, 3, 256, 256), 8),
        *[(8, (3, 3, 256, 256), 8)] * 2,
        *UP_FROM_8,
    ]
    for pixels, pooled in ((64, 1), (96, 2), (227, 6)):
        assert shape_of(DeepsimConvGenerator((pixels, pixels, 3)), jnp.zeros((1, pooled, pooled, 256)))[1] == pixels
    with pytest.raises(ValueError, match="makes images of 96x96, smaller than 100x90"):
        shape_of(DeepsimConvGenerator((100, 90, 3)), jnp.zeros((1, 1, 1, 256)))


def test_the_encoder_of_the_vae():
    seen = layers(AlexNetEncoder(100), jnp.zeros((1, 227, 227, 3)))
    assert seen["fc6"][1] == (9216, 4096) and seen["mean"][1] == seen["logvar"][1] == (4096, 100)


@pytest.mark.parametrize("network", [DeepsimGenerator((64, 64, 3)), DeepsimConvGenerator((64, 64, 3))])
def test_he_keeps_the_scale(network):
    """Through some ten layers, unit inputs make images whose spread (of 2x - 1) neither vanishes nor explodes."""
    shape = (2, 512) if isinstance(network, DeepsimGenerator) else (2, 6, 6, 256)
    images = jax.jit(lambda: network.init_with_output(KEY, jax.random.normal(KEY, shape))[0])()
    assert 0.2 < np.std(2 * images) < 2.5


def test_the_centre_is_kept():
    """The image of 64 + 2 n pixels is that of 64 with a border of n, by the same weights."""
    z = jax.random.normal(KEY, (1, 1, 1, 4))
    make = lambda size: DeepsimConvGenerator((size, size, 3), 1 / 32)  # noqa: E731
    params = make(96).init(KEY, z)
    np.testing.assert_array_equal(make(64).apply(params, z), make(96).apply(params, z)[:, 16:80, 16:80])


def test_dropout_only_while_training():
    network, images = DeepsimDiscriminator(scale=0.1), jax.random.uniform(KEY, (3, 64, 64, 3))
    params = network.init(KEY, images)
    a, b = (network.apply(params, images, True, rngs={"dropout": jax.random.key(i)})["logits"] for i in (0, 1))
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(network.apply(params, images)["logits"], network.apply(params, images)["logits"])
