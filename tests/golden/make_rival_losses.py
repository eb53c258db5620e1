"""Makes rival_losses.npz: published packages' results for the losses that perceptual losses are compared with.

    python tests/golden/make_rival_losses.py

Made with torch 2.13.0 on CPU, in float64, with pytorch-msssim 1.0.0, focal-frequency-loss 0.3.0 and PyWavelets 1.9.0.
Images in [0, 1] come from formula.py. For every loss: its value for each image, and the gradient of the values' sum
with respect to the second images; of large gradients, the elements at 500 places that the test draws too.
"""

from pathlib import Path

import numpy as np
import pytorch_msssim
import pywt
import torch
from focal_frequency_loss import FocalFrequencyLoss
from formula import rival_images, uniform

HERE = Path(__file__).parent
arrays = {}


def record(name: str, loss, size: tuple[int, int]) -> None:
    """Values and gradient of loss(target, recon) -> [B] of NCHW tensors."""
    target, recon = (torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2) for x in rival_images(size))
    recon.requires_grad_()
    values = loss(target, recon)
    values.sum().backward()
    gradient = recon.grad.permute(0, 2, 3, 1).numpy()
    if gradient.size > 3000:
        gradient = gradient.ravel()[(uniform("gradient", (500,)) * gradient.size).astype(int)]
    arrays[name] = values.detach().numpy()
    arrays[f"{name}/gradient"] = gradient


# The package's own window is float32, whose errors its differences of squares magnify: the same window in float64.
WINDOW = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
WINDOW = (WINDOW / WINDOW.sum()).repeat(3, 1, 1, 1)
SSIM = {"data_range": 1.0, "size_average": False, "win": WINDOW}
record("ssim", lambda x, y: 1 - pytorch_msssim.ssim(x, y, **SSIM), (20, 26))
record("ms_ssim", lambda x, y: 1 - pytorch_msssim.ms_ssim(x, y, **SSIM), (176, 192))

for name, options in (
    ("focal_frequency", {}),
    ("focal_frequency_patches", {"patch_factor": 2, "alpha": 0.5}),
    ("focal_frequency_log", {"log_matrix": True, "alpha": 2.0}),
):
    package = FocalFrequencyLoss(**options)  # a mean over the batch: one image at a time
    record(name, lambda x, y, f=package: torch.stack([f(y[i : i + 1], x[i : i + 1]) for i in range(2)]), (12, 18))


def bior44(images: np.ndarray, levels: int) -> np.ndarray:
    """CDF 9/7 coefficients of [B, H, W, C]: low frequencies first, which the next level transforms.

    PyWavelets also returns coefficients of the extension beyond a line's ends: those from the third on belong to the
    line. Its high frequencies have the opposite sign.
    """
    result = images.astype(np.float64)
    height, width = images.shape[1:3]
    for _ in range(levels):
        for axis, length in ((1, height), (2, width)):
            low, high = pywt.dwt(result[:, :height, :width], "bior4.4", "reflect", axis=axis)
            low, high = (x.take(range(2, 2 + n), axis=axis) for x, n in ((low, (length + 1) // 2), (high, length // 2)))
            result[:, :height, :width] = np.concatenate([low, -high], axis=axis)
        height, width = (height + 1) // 2, (width + 1) // 2
    return result


arrays["wavelet"] = bior44(rival_images((13, 22))[0], 4)

np.savez_compressed(HERE / "rival_losses.npz", **arrays)
