"""Shared by tests of super-resolution: photographs, small configs, and the protocol by third-party packages."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from helpers.checks import ROOT
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

from vae_jax.cli import load_config
from vae_jax.experiment import make_experiment
from vae_jax.inference import Run
from vae_jax.runtime.sharding import make_mesh

SIZE = 32
SMALL = {"image_size": SIZE, "data": {"random_crop": 0}}
FEW = {"width": 8, "blocks": 1}


def photographs(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Six windows of the photographs that come with scikit-learn: uint8 [6, height, width, 3]."""
    windows = [
        image[top : top + height, left : left + width]
        for image in load_sample_images().images
        for top, left in ((120, 200), (40, 320), (250, 90))
    ]
    return np.stack(windows)


def config_of(variants: str, **changes):
    config = load_config(f"{ROOT}/configs/sr_vae_pets.py:{variants},smoke")
    config.update(SMALL)
    config.backbone.weights = "random"
    if config.encoder.name == "sr_spatial":
        config.update(encoder=FEW, decoder=FEW, latents=2)
    config.update(changes)
    return config


def drawn(config) -> Run:
    """A run with random nonzero weights, so that the network adds much to bicubic upsampling."""
    experiment = make_experiment(config, (config.image_size, config.image_size, 3), labelled=False)
    rng, state = np.random.default_rng(0), jax.eval_shape(experiment.init)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.15, leaf.shape).astype(np.float32), state.params)
    return Run(config, experiment, make_mesh(4), state._replace(params=params, ema={}, ema_stats={}, stats={}))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w, C] float32 -> [*size, C] by Pillow's bicubic resampling of floats."""
    planes = [Image.fromarray(p).resize(size[::-1], Image.Resampling.BICUBIC) for p in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def low_by_hand(images: np.ndarray, factor: int) -> np.ndarray:
    blurred = ndimage.gaussian_filter(images.astype(np.float64), (0, 1, 1, 0)).astype(np.float32)
    size = images.shape[1] // factor, images.shape[2] // factor
    return np.stack([resized(image, size) for image in blurred]).clip(0, 1)


def judged_by_scikit_image(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """One of `UPSCALING` for two images [H, W, 3]: skimage's colours, PSNR and SSIM with Wang's settings."""
    color, metrics = pytest.importorskip("skimage.color"), pytest.importorskip("skimage.metrics")
    metric, colours, factor = name.split("_")
    border = int(factor[1:])

    def judge(target: np.ndarray, recon: np.ndarray) -> float:
        pair = [image.astype(np.float64)[border:-border, border:-border] for image in (target, recon)]
        if colours == "y":
            pair = [color.rgb2ycbcr(image)[..., :1] / 255 for image in pair]
        if metric == "psnr":
            return metrics.peak_signal_noise_ratio(*pair, data_range=1.0)
        wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        similarity = metrics.structural_similarity(*pair, channel_axis=2, data_range=1.0, full=True, **wang)[1]
        return similarity[5:-5, 5:-5].mean()

    return judge
