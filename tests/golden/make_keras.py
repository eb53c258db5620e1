"""Makes keras.zip: the article's networks, all narrow, as every kind of file that Keras 2 and 3 write.

    python tests/golden/make_keras.py

Made with tf_keras (Keras 2) and Keras 3.15.1, TensorFlow 2.21.0. It holds

    keras2_VAE.h5, keras2_CLASSIFIER.h5                    save_weights
    keras2_VAE.weights.h5, keras3_..., and classifiers     save_weights
    keras2_saved_VAE.h5, keras3_saved_..., .keras          save
    keras3_subclass_vae.weights.h5                         save_weights of a subclass of Model that has both networks

Layers of `vae` are called as in the article's DFC-VAE, conv2d_5, conv2d_6_1, ..., those of `numbered_vae` as Keras does
itself when other layers were made before. The weight `encoder/conv1/kernel` of ours is `fill` of that name.
"""

import os
import tempfile
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tf_keras
from formula import fill

CONVOLUTIONS, IMAGE, LATENTS = ("conv2d_5", "conv2d_6_1", "conv2d_7_1", "conv2d_8_1"), "image_3", 2
ENCODER = ("conv1", "conv2", "conv3", "conv4", "dense", "mean", "logvar")
DECODER, CLASSIFIER = ("dense", "upconv", "image"), ("conv1", "conv2", "conv3", "dense", "logits")
SAME = {"padding": "same", "activation": "relu"}


def vae(k, numbered: bool):
    """8x8 images, widths 2, 3, 3, 3, 4; decoder 3, 2. `numbered`: with Keras's own names for its layers."""
    names = (None,) * 4 if numbered else CONVOLUTIONS
    images = k.Input((8, 8, 1))
    x = k.layers.Conv2D(2, 3, name=names[0], **SAME)(images)
    x = k.layers.Conv2D(3, 3, strides=2, name=names[1], **SAME)(x)
    for name in names[2:]:
        x = k.layers.Conv2D(3, 3, name=name, **SAME)(x)
    x = k.layers.Dense(4, activation="relu")(k.layers.Flatten()(x))
    posterior = [k.layers.Dense(LATENTS, name=None if numbered else name)(x) for name in ("t_mean", "t_log_var")]
    encoder = k.Model(images, posterior, name="encoder")
    z = k.Input((LATENTS,))
    x = k.layers.Reshape((4, 4, 3))(k.layers.Dense(48, activation="relu")(z))
    x = k.layers.Conv2DTranspose(2, 3, strides=2, **SAME)(x)
    recon = k.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name=None if numbered else IMAGE)(x)
    decoder = k.Model(z, recon, name="decoder")
    images = k.Input((8, 8, 1))
    return k.Model(images, decoder(encoder(images)[0]), name="vae")


def classifier(k):
    """20x20 images, widths 2, 3, 3, 4, 10."""
    layers = [k.Input((20, 20, 1))]
    for width in (2, 3):
        layers += [k.layers.Conv2D(width, 3, activation="relu"), k.layers.MaxPooling2D()]
    layers += [k.layers.Conv2D(3, 3, activation="relu"), k.layers.Flatten(), k.layers.Dense(4), k.layers.Dense(10)]
    return k.Sequential(layers)


class Subclass(keras.Model):
    """A VAE whose networks are attributes."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def call(self, images):
        return self.decoder(self.encoder(images)[0])


def filled(model, names):
    leaves = [f"{name}/{leaf}" for name in names for leaf in ("kernel", "bias")]
    model.set_weights([fill(name, w.shape) for name, w in zip(leaves, model.get_weights(), strict=True)])
    return model


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    vae_names = [f"encoder/{name}" for name in ENCODER] + [f"decoder/{name}" for name in DECODER]
    for version, k in (("keras2", tf_keras), ("keras3", keras)):
        for _ in range(8):  # Keras's own numbers start at 8: conv2d_8, ..., conv2d_10
            for layer in (k.layers.Conv2D, k.layers.Conv2DTranspose):
                layer(1, 1)
            k.layers.Dense(1)
        models = {
            "vae": filled(vae(k, numbered=False), vae_names),
            "numbered_vae": filled(vae(k, numbered=True), vae_names),
            "classifier": filled(classifier(k), CLASSIFIER),
        }
        for name, model in models.items():
            model.save_weights(folder / f"{version}_{name}.weights.h5")
            model.save(folder / f"{version}_saved_{name}.h5")
            model.save(folder / f"{version}_saved_{name}.keras")
            if version == "keras2":
                model.save_weights(folder / f"{version}_{name}.h5")
    subclass = Subclass(*(models["vae"].get_layer(part) for part in ("encoder", "decoder")))
    subclass(keras.ops.zeros((1, 8, 8, 1)))
    subclass.save_weights(folder / "keras3_subclass_vae.weights.h5")
    target = Path(__file__).with_name("keras.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)
            print(file.name, file.stat().st_size)
    print(target.stat().st_size)


if __name__ == "__main__":
    main()
