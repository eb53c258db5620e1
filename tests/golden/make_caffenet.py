"""Makes caffenet.npz: PyTorch's results for Caffe's one-column AlexNet, widths divided by 16, weights by formula.py.

    python tests/golden/make_caffenet.py

Made with torch 2.13.0, on CPU. The layers and their order are those of BVLC/caffe's models/bvlc_reference_caffenet/
deploy.prototxt: torch's pooling in ceil mode and its LocalResponseNorm have Caffe's formulas. It holds:

    shapes        of Caffe's blobs: "conv1.0 6,3,11,11", the weights of conv1, then its biases, "conv1.1"
    small/TAP     of an image [1, 71, 51, 3] in [0, 1]; the poolings see 16x11, 8x5 and 4x2
    small/gradient  of the sum of squares of pool5 with respect to that image
    whole/TAP     pool5, fc6, fc7 and fc8 of an image [1, 203, 227, 3]
    whole/gradient  of the sum of squares of fc8 with respect to every seventh row and column of that image
"""

from pathlib import Path

import numpy as np
import torch
from formula import fill, uniform
from torch import nn

MEAN = torch.tensor((104.0, 117.0, 123.0)).reshape(1, 3, 1, 1)
LAYERS = {
    "conv1": nn.Conv2d(3, 6, 11, stride=4),
    "conv2": nn.Conv2d(6, 16, 5, padding=2, groups=2),
    "conv3": nn.Conv2d(16, 24, 3, padding=1),
    "conv4": nn.Conv2d(24, 24, 3, padding=1, groups=2),
    "conv5": nn.Conv2d(24, 16, 3, padding=1, groups=2),
    "fc6": nn.Linear(16 * 6 * 6, 256),
    "fc7": nn.Linear(256, 256),
    "fc8": nn.Linear(256, 62),
}
BLOBS = {f"{name}.{i}": blob for name, layer in LAYERS.items() for i, blob in enumerate((layer.weight, layer.bias))}


def features(images: torch.Tensor, dense: bool) -> dict[str, torch.Tensor]:
    """{tap: [B, c, h, w] or [B, c]} of RGB [B, 3, H, W] in [0, 1]."""
    pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    taps, x = {}, 255 * images.flip(1) - MEAN
    for i in range(1, 6):
        taps[f"relu{i}"] = x = torch.relu(LAYERS[f"conv{i}"](x))
        if i in (1, 2):
            x = norm(pool(x))
    taps["pool5"] = x = pool(x)
    if dense:
        taps["fc6"] = x = torch.relu(LAYERS["fc6"](torch.flatten(x, 1)))
        taps["fc7"] = x = torch.relu(LAYERS["fc7"](x))
        taps["fc8"] = LAYERS["fc8"](x)
    return taps


def nhwc(x: torch.Tensor) -> np.ndarray:
    x = x.detach()
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy()


with torch.no_grad():
    for key, blob in BLOBS.items():
        blob.copy_(torch.from_numpy(fill(key, tuple(blob.shape))))
arrays = {"shapes": np.array([f"{key} {','.join(map(str, blob.shape))}" for key, blob in BLOBS.items()])}
for case, size, last, step in (("small", (71, 51), "pool5", 1), ("whole", (203, 227), "fc8", 7)):
    images = torch.from_numpy(uniform(f"caffenet {case}", (1, *size, 3)).astype(np.float32))
    x = images.permute(0, 3, 1, 2).requires_grad_()
    taps = features(x, dense=case == "whole")
    taps[last].square().sum().backward()
    arrays[f"{case}/gradient"] = nhwc(x.grad)[:, ::step, ::step]
    kept = taps if case == "small" else ("pool5", "fc6", "fc7", "fc8")
    arrays |= {f"{case}/{tap}": nhwc(taps[tap]) for tap in kept}
np.savez_compressed(Path(__file__).with_name("caffenet.npz"), **arrays)
