"""Makes patchgan.npz: PyTorch's results for a narrow PatchGAN discriminator and the hinge losses.

    python tests/golden/make_patchgan.py

Made with torch 2.13.0 on CPU, in float64. The layers are written here from the papers (Isola et al. 2017, appendix
6.1.2; Esser et al. 2021), with width 4 instead of 64, and three or two layers; weights and images in [0, 1] come from
formula.py. Per network and mode (train: batch statistics): the map of the images, the hinge losses of each image, and
the gradient of the sum of the generator's loss with respect to the images.
"""

from pathlib import Path

import numpy as np
import torch
from formula import fill, rival_images
from torch import nn

WIDTH, SIZE = 4, (26, 35)
arrays = {}


def patchgan(layers: int) -> nn.Sequential:
    modules, channels = [nn.Conv2d(3, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)], WIDTH
    for i in range(1, layers + 1):
        wider = WIDTH * min(2**i, 8)
        modules += [nn.Conv2d(channels, wider, 4, 2 if i < layers else 1, 1, bias=False), nn.BatchNorm2d(wider)]
        modules += [nn.LeakyReLU(0.2)]
        channels = wider
    model = nn.Sequential(*modules, nn.Conv2d(channels, 1, 4, 1, 1))
    state = {key: torch.tensor(fill(key, tuple(v.shape))) for key, v in model.state_dict().items() if v.ndim}
    model.load_state_dict(state, strict=False)
    return model.double()


for layers in (2, 3):
    for mode in ("train", "eval"):
        model = patchgan(layers).train(mode == "train")
        x = torch.tensor(rival_images(SIZE)[0], dtype=torch.float64).permute(0, 3, 1, 2).requires_grad_()
        logits = model(2 * x - 1)[:, 0]
        generator = -logits.mean((1, 2))
        generator.sum().backward()
        name = f"{layers}/{mode}"
        arrays[f"{name}/logits"] = logits.detach().numpy()
        arrays[f"{name}/real"] = torch.relu(1 - logits).mean((1, 2)).detach().numpy()
        arrays[f"{name}/fake"] = torch.relu(1 + logits).mean((1, 2)).detach().numpy()
        arrays[f"{name}/generator"] = generator.detach().numpy()
        arrays[f"{name}/gradient"] = x.grad.permute(0, 2, 3, 1).numpy().astype(np.float32)
np.savez_compressed(Path(__file__).parent / "patchgan.npz", **arrays)
