"""The networks of dfc_mnist, dfc_celeba and vaegan_celeba in PyTorch, layer by layer, with the same layer names.

Images are [B, C, H, W] in [0, 1]. `channels_last` is their memory layout, in whose order dense layers see them:
flattening is then a view in either layout.

A 3x3 or 5x5 kernel at stride 2 cannot be centred on even sizes. PyTorch's padding shifts it to the other side than
`SAME` does, so that the MNIST networks and Larsen's decoder are mirror images of ours; nothing else differs.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG19 = (2, 2, 4, 4, 4)  # convolutions by block
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def flatten(x: Tensor, channels_last: bool) -> Tensor:
    """[B, C, H, W] -> [B, C H W] in memory order."""
    return (x.permute(0, 2, 3, 1) if channels_last else x).flatten(1)


def unflatten(x: Tensor, shape: tuple[int, int, int], channels_last: bool) -> Tensor:
    """The inverse of `flatten`, for images of `shape` (H, W, C)."""
    height, width, channels = shape
    if channels_last:
        return x.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return x.view(-1, channels, height, width)


class MnistEncoder(nn.Module):
    """[B, C, H, W] -> mean, log-variance [B, latents]."""

    def __init__(self, shape: tuple[int, int, int], latents: int, channels_last: bool):
        super().__init__()
        height, width, channels = shape
        self.channels_last = channels_last
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1)
        self.dense = nn.Linear(height // 2 * (width // 2) * 64, 32)
        self.mean, self.logvar = nn.Linear(32, latents), nn.Linear(32, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x), inplace=True)
        x = F.relu(self.dense(flatten(x, self.channels_last)), inplace=True)
        return self.mean(x), self.logvar(x)


class MnistDecoder(nn.Module):
    """[B, latents] -> [B, C, H, W]."""

    def __init__(self, shape: tuple[int, int, int], latents: int, channels_last: bool):
        super().__init__()
        height, width, channels = shape
        self.channels_last, self.small = channels_last, (height // 2, width // 2, 64)
        self.dense = nn.Linear(latents, math.prod(self.small))
        self.upconv = nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1)
        self.image = nn.Conv2d(32, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = unflatten(F.relu(self.dense(z), inplace=True), self.small, self.channels_last)
        return torch.sigmoid(self.image(F.relu(self.upconv(x), inplace=True)))


class MnistClassifier(nn.Module):
    """[B, 1, H, W] -> `relu1` and `relu2` of the perceptual network, which ends there."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        relu1 = F.relu(self.conv1(x), inplace=True)
        return [relu1, F.relu(self.conv2(self.pool(relu1)), inplace=True)]


class CelebaEncoder(nn.Module):
    """[B, C, H, H] -> mean, log-variance [B, latents]."""

    def __init__(self, shape: tuple[int, int, int], latents: int, channels_last: bool):
        super().__init__()
        self.channels_last, self.halvings = channels_last, int(math.log2(shape[0] // 4))
        widths = [shape[2], *(min(32 * 2**i, 256) for i in range(self.halvings))]
        for i in range(self.halvings):
            self.add_module(f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1, bias=False))
            self.add_module(f"norm{i + 1}", nn.BatchNorm2d(widths[i + 1], eps=1e-5, momentum=0.1))
        self.mean, self.logvar = (nn.Linear(4 * 4 * widths[-1], latents) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for i in range(1, self.halvings + 1):
            conv, norm = self.get_submodule(f"conv{i}"), self.get_submodule(f"norm{i}")
            x = F.leaky_relu(norm(conv(x)), 0.2, inplace=True)
        x = flatten(x, self.channels_last)
        return self.mean(x), self.logvar(x)


class CelebaDecoder(nn.Module):
    """[B, latents] -> [B, C, H, H], without an output activation."""

    def __init__(self, shape: tuple[int, int, int], latents: int, channels_last: bool):
        super().__init__()
        self.channels_last, self.doublings = channels_last, int(math.log2(shape[0] // 4))
        width = min(16 * 2**self.doublings, 512)
        self.small = (4, 4, width)
        self.dense = nn.Linear(latents, math.prod(self.small))
        for i in range(1, self.doublings):
            self.add_module(f"conv{i}", _edge_conv(width, width // 2, bias=False))
            self.add_module(f"norm{i}", nn.BatchNorm2d(width // 2, eps=1e-5, momentum=0.1))
            width //= 2
        self.image = _edge_conv(width, shape[2], bias=True)

    def forward(self, z: Tensor) -> Tensor:
        x = unflatten(self.dense(z), self.small, self.channels_last)
        for i in range(1, self.doublings):
            conv, norm = self.get_submodule(f"conv{i}"), self.get_submodule(f"norm{i}")
            x = F.leaky_relu(norm(conv(F.interpolate(x, scale_factor=2.0))), 0.2, inplace=True)
        return self.image(F.interpolate(x, scale_factor=2.0))


def _edge_conv(inputs: int, outputs: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=bias)


class Vgg(nn.Module):
    """[B, 3, H, W] -> the named taps of torchvision's VGG19, computed no further than the last of them."""

    def __init__(self, taps: Sequence[str]):
        super().__init__()
        self.taps, self.names, self.pool = taps, [], nn.MaxPool2d(2)
        inputs = 3
        for block, count in enumerate(VGG19, 1):
            for i in range(1, count + 1):
                if not set(taps) <= {f"relu{name}" for name in self.names}:
                    width = 64 * min(2 ** (block - 1), 8)
                    self.add_module(f"conv{block}_{i}", nn.Conv2d(inputs, width, 3, padding=1))
                    self.names.append(f"{block}_{i}")
                    inputs = width
        for name, values in (("center", TORCHVISION_MEAN), ("spread", TORCHVISION_STD)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, features = (x - self.center) / self.spread, {}
        for name in self.names:
            if name.endswith("_1") and features:
                x = self.pool(x)
            features[f"relu{name}"] = x = F.relu(self.get_submodule(f"conv{name}")(x), inplace=True)
        return [features[tap] for tap in self.taps]
