"""The input that published networks were trained on, from images [B, H, W, 1 or 3] in [0, 1], grey ones as RGB."""

import jax
import jax.numpy as jnp
import numpy as np

TORCHVISION_MEAN = np.array((0.485, 0.456, 0.406), np.float32).reshape(1, 1, 1, 3)
TORCHVISION_STD = np.array((0.229, 0.224, 0.225), np.float32).reshape(1, 1, 1, 3)
CAFFE_MEAN = np.array((103.939, 116.779, 123.68), np.float32).reshape(1, 1, 1, 3)  # blue, green, red
CAFFENET_MEAN = np.array((104, 117, 123), np.float32).reshape(1, 1, 1, 3)


def to_rgb(images: jax.Array) -> jax.Array:
    """[B, H, W, 3]: grey repeated three times, colour unchanged."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"a perceptual network takes images [B, H, W, 1 or 3], not {images.shape}")
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def torchvision(images: jax.Array) -> jax.Array:
    """RGB, (x - mean) / std of ImageNet: torchvision's networks, and LPIPS, which writes the same for [-1, 1]."""
    return (to_rgb(images) - TORCHVISION_MEAN) / TORCHVISION_STD


def caffe(images: jax.Array) -> jax.Array:
    """BGR in 0..255 minus the mean of ImageNet: the original VGG networks, which Hou et al. 2017 used."""
    return 255 * to_rgb(images)[..., ::-1] - CAFFE_MEAN


def caffenet(images: jax.Array) -> jax.Array:
    """As `caffe`, with a mean of whole numbers: CaffeNet in the training files of Dosovitskiy and Brox 2016.

    Taken from KamitaniLab/End2EndDeepImageReconstruction, model_training/img_data.prototxt, which builds on them.
    """
    return 255 * to_rgb(images)[..., ::-1] - CAFFENET_MEAN


def facenet(images: jax.Array) -> jax.Array:
    """RGB, (x - 127.5) / 128 of 0..255, interpolated bilinearly to 160x160: FaceNet's faces, as in facenet-pytorch."""
    images = to_rgb(images)
    images = jax.image.resize(images, (images.shape[0], 160, 160, 3), "linear", antialias=False)
    return (255 * images - 127.5) / 128
