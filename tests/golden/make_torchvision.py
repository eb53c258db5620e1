"""Makes torchvision.npz and torch_{zip,legacy}.pth: PyTorch's results for narrow VGG16, VGG19 and AlexNet.

    python tests/golden/make_torchvision.py

Made with torch 2.13.0 and torchvision 0.28.0, on CPU. The networks are torchvision's `vgg16`, `vgg19` and `alexnet`,
every width divided by 32 (VGG) or 16 (AlexNet); weights and images in [0, 1], normalised by torchvision's mean and
standard deviation, come from formula.py. Per tap: its values; per network: the gradient of the sum of squares of its
last tap with respect to the images.
"""

from pathlib import Path

import numpy as np
import torch
from formula import fill, uniform
from torch import nn
from torchvision.models import alexnet, vgg16, vgg19

HERE = Path(__file__).parent
MEAN, STD = ((torch.tensor(v).reshape(1, 3, 1, 1)) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def narrow(model: nn.Module, divisor: int) -> nn.Module:
    """The same network with every width except the input's divided."""
    for parent in (model.features, model.classifier):
        for i, layer in enumerate(parent):
            if isinstance(layer, nn.Conv2d):
                inputs = layer.in_channels if layer.in_channels == 3 else layer.in_channels // divisor
                outputs = layer.out_channels // divisor
                parent[i] = nn.Conv2d(inputs, outputs, layer.kernel_size, layer.stride, layer.padding)
            elif isinstance(layer, nn.Linear):
                parent[i] = nn.Linear(layer.in_features // divisor, layer.out_features // divisor)
    model.load_state_dict({key: torch.tensor(fill(key, tuple(v.shape))) for key, v in model.state_dict().items()})
    return model.eval()


def vgg_taps(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    taps, block, i = {}, 1, 0
    for layer in model.features:
        x = layer(x) if not isinstance(layer, nn.ReLU) else torch.relu(x)
        if isinstance(layer, nn.MaxPool2d):
            block, i = block + 1, 0
        elif isinstance(layer, nn.ReLU):
            i += 1
            taps[f"relu{block}_{i}"] = x
    return taps


def alexnet_taps(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    taps = {}
    for layer in model.features:
        x = layer(x) if not isinstance(layer, nn.ReLU) else torch.relu(x)
        if isinstance(layer, nn.ReLU):
            taps[f"relu{len(taps) + 1}"] = x
    taps["pool5"] = x
    x = torch.flatten(model.avgpool(x), 1)
    for index, name in ((1, "fc6"), (4, "fc7"), (6, "fc8")):
        x = model.classifier[index](x)
        taps[name] = x = torch.relu(x) if name != "fc8" else x
    return taps


NETWORKS = {
    "vgg16": (vgg16, 32, vgg_taps, (32, 41), "relu5_3"),
    "vgg19": (vgg19, 32, vgg_taps, (32, 41), "relu5_4"),
    "alexnet": (alexnet, 16, alexnet_taps, (67, 83), "fc8"),
}

arrays = {}
for name, (make, divisor, taps_of, size, last) in NETWORKS.items():
    torch.manual_seed(0)
    model = narrow(make(weights=None), divisor)
    images = uniform(f"{name} images", (1, *size, 3)).astype(np.float32)
    x = torch.tensor(images).permute(0, 3, 1, 2).requires_grad_()
    taps = taps_of(model, (x - MEAN) / STD)
    taps[last].square().sum().backward()
    arrays[f"{name}/keys"] = np.array([f"{key} {','.join(map(str, v.shape))}" for key, v in model.state_dict().items()])
    arrays[f"{name}/gradient"] = x.grad.permute(0, 2, 3, 1).numpy()
    for tap, value in taps.items():
        value = value.detach()
        arrays[f"{name}/{tap}"] = (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).numpy()
np.savez_compressed(HERE / "torchvision.npz", **arrays)

# A small state dict with every kind of tensor that occurs, in both of torch's formats.
base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
state = {
    "plain.weight": base.clone(),
    "transposed.weight": base.permute(2, 0, 1),  # not contiguous
    "shared.first": base[0],  # views of one storage
    "shared.second": base[1],
    "half": torch.tensor([0.5, -1.5], dtype=torch.float16),
    "bfloat": torch.tensor([0.5, -1.5, 3.0], dtype=torch.bfloat16),
    "double": torch.tensor([[1e-3]], dtype=torch.float64),
    "bn.num_batches_tracked": torch.tensor(7),
    "parameter": nn.Parameter(torch.ones(3)),
}
for file, zipped in (("torch_zip.pth", True), ("torch_legacy.pth", False)):
    torch.save(state, HERE / file, _use_new_zipfile_serialization=zipped)
