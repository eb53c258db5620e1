"""The networks of vaegan_celeba, those of Larsen et al. (2016) at 64x64, in PyTorch; see `torch_networks.py`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.peers.torch_networks import flatten, unflatten


def _scaled(widths: tuple[int, ...], scale: float) -> list[int]:
    return [max(1, round(width * scale)) for width in widths]


def _half(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=False)


def _double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1, bias=False)


class LarsenEncoder(nn.Module):
    """[B, C, H, W] -> mean, log-variance [B, latents]."""

    def __init__(self, shape: tuple[int, int, int], latents: int, channels_last: bool, scale: float = 1.0):
        super().__init__()
        self.channels_last = channels_last
        first, second, third, hidden = _scaled((64, 128, 256, 1024), scale)
        self.conv1, self.norm1 = _half(shape[2], first), nn.BatchNorm2d(first, eps=1e-6, momentum=0.1)
        self.conv2, self.norm2 = _half(first, second), nn.BatchNorm2d(second, eps=1e-6, momentum=0.1)
        self.conv3, self.norm3 = _half(second, third), nn.BatchNorm2d(third, eps=1e-6, momentum=0.1)
        self.dense = nn.Linear(shape[0] // 8 * (shape[1] // 8) * third, hidden, bias=False)
        self.norm_dense = nn.BatchNorm1d(hidden, eps=1e-6, momentum=0.1)
        self.mean, self.logvar = nn.Linear(hidden, latents), nn.Linear(hidden, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = 2 * x - 1
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = F.relu(norm(conv(x)), inplace=True)
        x = F.relu(self.norm_dense(self.dense(flatten(x, self.channels_last))), inplace=True)
        return self.mean(x), self.logvar(x)


class LarsenDecoder(nn.Module):
    """[B, latents] -> [B, C, H, W]."""

    def __init__(self, shape: tuple[int, int, int], latents: int, channels_last: bool, scale: float = 1.0):
        super().__init__()
        first, second, third, fourth = _scaled((256, 256, 128, 32), scale)
        self.channels_last, self.small = channels_last, (shape[0] // 8, shape[1] // 8, first)
        self.dense = nn.Linear(latents, math.prod(self.small), bias=False)
        self.norm_dense = nn.BatchNorm1d(math.prod(self.small), eps=1e-6, momentum=0.1)
        self.upconv1, self.norm1 = _double(first, second), nn.BatchNorm2d(second, eps=1e-6, momentum=0.1)
        self.upconv2, self.norm2 = _double(second, third), nn.BatchNorm2d(third, eps=1e-6, momentum=0.1)
        self.upconv3, self.norm3 = _double(third, fourth), nn.BatchNorm2d(fourth, eps=1e-6, momentum=0.1)
        self.image = nn.Conv2d(fourth, shape[2], 5, padding=2)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.norm_dense(self.dense(z)), inplace=True)
        x = unflatten(x, self.small, self.channels_last)
        for up, norm in ((self.upconv1, self.norm1), (self.upconv2, self.norm2), (self.upconv3, self.norm3)):
            x = F.relu(norm(up(x)), inplace=True)
        return (1 + torch.tanh(self.image(x))) / 2


class LarsenDiscriminator(nn.Module):
    """[B, C, H, W] -> `conv4`, by which images are compared, and the logits [B]."""

    def __init__(self, shape: tuple[int, int, int], channels_last: bool, scale: float = 1.0):
        super().__init__()
        self.channels_last = channels_last
        first, second, third, fourth, hidden = _scaled((32, 128, 256, 256, 512), scale)
        self.conv1 = nn.Conv2d(shape[2], first, 5, padding=2)
        self.conv2, self.norm2 = _half(first, second), nn.BatchNorm2d(second, eps=1e-6, momentum=0.1)
        self.conv3, self.norm3 = _half(second, third), nn.BatchNorm2d(third, eps=1e-6, momentum=0.1)
        self.conv4, self.norm4 = _half(third, fourth), nn.BatchNorm2d(fourth, eps=1e-6, momentum=0.1)
        self.dense = nn.Linear(shape[0] // 8 * (shape[1] // 8) * fourth, hidden, bias=False)
        self.norm_dense = nn.BatchNorm1d(hidden, eps=1e-6, momentum=0.1)
        self.logit = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.conv1(2 * x - 1), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        x = F.relu(self.norm3(self.conv3(x)), inplace=True)
        conv4 = self.conv4(x)
        x = F.relu(self.norm4(conv4), inplace=True)
        x = F.relu(self.norm_dense(self.dense(flatten(x, self.channels_last))), inplace=True)
        return conv4, self.logit(x)[:, 0]
