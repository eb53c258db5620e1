"""The train step of dfc_mnist in Keras 3 on TensorFlow: the article's networks, with our layer names.

The learning rate is constant; gradient norms and the check that all values are finite are left out. Keras 3 has
RMSprop's eps under the root, Keras 2 and we outside.
"""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers, ops

SHAPE, LATENTS = (28, 28, 1), 5
WEIGHTS = {"kl": 1.0, "feature": 2.5}


def _conv(filters: int, name: str, strides: int = 1, padding: str = "same", activation: str = "relu"):
    return layers.Conv2D(filters, 3, strides=strides, padding=padding, activation=activation, name=name)


def make_encoder(shape: tuple[int, int, int], latents: int) -> keras.Model:
    """[B, H, W, C] -> mean, log-variance [B, latents]."""
    x = images = keras.Input(shape)
    for layer in (_conv(32, "conv1"), _conv(64, "conv2", strides=2), _conv(64, "conv3"), _conv(64, "conv4")):
        x = layer(x)
    x = layers.Dense(32, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(images, [layers.Dense(latents, name="mean")(x), layers.Dense(latents, name="logvar")(x)])


def make_decoder(shape: tuple[int, int, int], latents: int) -> keras.Model:
    """[B, latents] -> [B, H, W, C]."""
    height, width, channels = shape
    z = keras.Input((latents,))
    x = layers.Dense(height // 2 * (width // 2) * 64, activation="relu", name="dense")(z)
    x = layers.Reshape((height // 2, width // 2, 64))(x)
    x = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu", name="upconv")(x)
    return keras.Model(z, _conv(channels, "image", activation="sigmoid")(x))


def make_classifier(shape: tuple[int, int, int]) -> keras.Model:
    """[B, H, W, C] -> `relu1` and `relu2` of the perceptual network, which ends there; its weights are frozen."""
    images = keras.Input(shape)
    relu1 = _conv(32, "conv1", padding="valid")(images)
    relu2 = _conv(64, "conv2", padding="valid")(layers.MaxPooling2D(2)(relu1))
    model = keras.Model(images, [relu1, relu2])
    model.trainable = False
    return model


def make_networks(shape: tuple[int, int, int] = SHAPE, latents: int = LATENTS) -> dict[str, keras.Model]:
    """The networks by name."""
    encoder, decoder = make_encoder(shape, latents), make_decoder(shape, latents)
    return {"encoder": encoder, "decoder": decoder, "backbone": make_classifier(shape)}


def make_step(networks: dict[str, keras.Model], optimizer: keras.optimizers.Optimizer) -> Callable:
    """The step, meant to be wrapped in `tf.function`: (images [B, H, W, C], noise [B, latents]) -> the terms."""
    encoder, decoder, backbone = (networks[name] for name in ("encoder", "decoder", "backbone"))
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer.build(variables)

    def step(images, noise):
        target = backbone(images, training=False)
        with tf.GradientTape() as tape:
            mean, logvar = encoder(images, training=True)
            logvar = ops.clip(logvar, -30, 20)
            recon = backbone(decoder(mean + ops.exp(logvar / 2) * noise, training=True), training=False)
            kl = -0.5 * ops.mean(ops.sum(1 + logvar - ops.square(mean) - ops.exp(logvar), axis=1))
            feature = sum(
                ops.mean(ops.sum(ops.square(t - r), axis=(1, 2, 3))) for t, r in zip(target, recon, strict=True)
            )
            terms = {"kl": kl, "feature": feature}
            loss = sum(WEIGHTS[name] * term for name, term in terms.items())
        optimizer.apply(tape.gradient(loss, variables), variables)
        return terms

    return step


def make_optimizer() -> keras.optimizers.Optimizer:
    """As the config's rmsprop, except for the place of eps."""
    return keras.optimizers.RMSprop(1e-3, rho=0.9, epsilon=1e-7)
