"""Makes facenet.npz: facenet-pytorch's results for an image, all widths divided by 8, weights by formula.py.

    python tests/golden/make_facenet.py

With widths divided by 16, a branch would be dead under the formula, and its weights untested.

Made with facenet-pytorch 2.6.0 and PyTorch 2.13.0. It holds:

    keys, shapes   every entry of the state dict
    images         [1, 107, 139, 3] in [0, 1]; the last blocks see 2x3
    Conv2d_...     every third row and column of the first three layers, [1, h, w, c]
    embedding      [1, 64]
    cotangent      [1, 64]
    gradient       of (embedding * cotangent).sum() with respect to every third row and column of images
"""

import types
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch.models import inception_resnet_v1
from formula import fill
from torch import nn

LAYERS = {"Conv2d_1a_3x3": "conv2d_1a", "Conv2d_2a_3x3": "conv2d_2a", "Conv2d_2b_3x3": "conv2d_2b"}


def narrow(layer: type[nn.Module]):
    """A constructor of `layer` with every channel count except RGB divided by 8."""

    def make(*channels: int, **options) -> nn.Module:
        return layer(*(n if n == 3 else n // 8 for n in channels), **options)

    return make


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x.detach().permute(0, 2, 3, 1).numpy()[:, ::3, ::3]


layers = {name: narrow(getattr(nn, name)) for name in ("Conv2d", "BatchNorm1d", "BatchNorm2d", "Linear")}
inception_resnet_v1.nn = types.SimpleNamespace(**{**vars(nn), **layers})
model = inception_resnet_v1.InceptionResnetV1().eval()
state = model.state_dict()
filled = {key: torch.from_numpy(fill(key, value.shape)) for key, value in state.items() if value.is_floating_point()}
model.load_state_dict(filled, strict=False)  # without the batch counters

images = (np.random.default_rng(0).integers(0, 256, (1, 107, 139, 3)) / 255).astype(np.float32)
cotangent = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
x = torch.from_numpy(images).permute(0, 3, 1, 2).requires_grad_()
features = {}
for tap, layer in LAYERS.items():
    getattr(model, layer).register_forward_hook(lambda *call, tap=tap: features.update({tap: nhwc(call[-1])}))
embedding = model((255 * x - 127.5) / 128)
(embedding * torch.from_numpy(cotangent)).sum().backward()
np.savez_compressed(
    Path(__file__).with_name("facenet.npz"),
    keys=list(state),
    shapes=[" ".join(map(str, value.shape)) for value in state.values()],
    images=images,
    cotangent=cotangent,
    gradient=nhwc(x.grad),
    embedding=embedding.detach().numpy(),
    **features,
)
