"""The train steps of dfc_mnist, dfc_celeba and vaegan_celeba in PyTorch, eager.

A system has its networks by name, its optimisers by player, the shape of the noise of one step, and the step: (images
[B, C, H, W], noise) -> the terms, means over the batch. Learning rates are constant. Gradient norms, the check that all
values are finite and the VAE-GAN's gate, which can pause a player, are left out: here every player moves in every step.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.peers.torch_larsen import LarsenDecoder, LarsenDiscriminator, LarsenEncoder
from tests.peers.torch_networks import CelebaDecoder, CelebaEncoder, MnistClassifier, MnistDecoder, MnistEncoder, Vgg

SIMILARITY = 1e-6  # gamma of Larsen et al.: similarity against the discriminator, for the decoder


class System(NamedTuple):
    """A system, as described above."""

    networks: nn.ModuleDict
    optimizers: dict[str, Optimizer]
    noise_shape: Callable[[int], tuple[int, ...]]  # for a batch of this many images
    step: Callable[[Tensor, Tensor], dict[str, Tensor]]


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp logvar) || N(0, I)): a sum over the latents, a mean over the batch."""
    return -0.5 * torch.sum(1 + logvar - mean.square() - logvar.exp()) / mean.shape[0]


def draw(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z ~ N(mean, exp logvar)."""
    return mean + torch.exp(logvar / 2) * noise


def feature_sum(target: Sequence[Tensor], recon: Sequence[Tensor]) -> Tensor:
    """Squared differences of the taps: sums over an image, a mean over the batch."""
    return sum(F.mse_loss(r, t, reduction="sum") / len(t) for t, r in zip(target, recon, strict=True))


def feature_mean(target: Sequence[Tensor], recon: Sequence[Tensor]) -> Tensor:
    """Squared differences of the taps: means over an image and over the batch, summed over the taps."""
    return sum(F.mse_loss(r, t) for t, r in zip(target, recon, strict=True))


def rmsprop(parameters, learning_rate: float) -> Optimizer:
    """The configs' rmsprop: eps outside the root."""
    return torch.optim.RMSprop(parameters, learning_rate, alpha=0.9, eps=1e-7)


def adam(parameters, learning_rate: float) -> Optimizer:
    """The Adam of dfc_celeba."""
    return torch.optim.Adam(parameters, learning_rate, betas=(0.5, 0.999), eps=1e-8, fused=True)


def dfc_mnist(channels_last: bool, shape: tuple[int, int, int] = (28, 28, 1), latents: int = 5) -> System:
    """configs/dfc_mnist.py."""
    encoder, decoder = (network(shape, latents, channels_last) for network in (MnistEncoder, MnistDecoder))
    vae = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizers = {"vae": rmsprop(vae.parameters(), 1e-3)}
    return _dfc(vae, MnistClassifier(), optimizers, latents, feature_sum, {"kl": 1.0, "feature": 2.5})


def dfc_celeba(channels_last: bool, shape: tuple[int, int, int] = (64, 64, 3), latents: int = 100) -> System:
    """configs/dfc_celeba.py: VAE-123 at 64x64 pixels."""
    encoder, decoder = (network(shape, latents, channels_last) for network in (CelebaEncoder, CelebaDecoder))
    vae = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizers = {"vae": adam(vae.parameters(), 5e-4)}
    backbone = Vgg(("relu1_1", "relu2_1", "relu3_1"))
    return _dfc(vae, backbone, optimizers, latents, feature_mean, {"kl": 5e-4, "feature": 0.5})


def _dfc(vae, backbone, optimizers, latents, feature, weights) -> System:
    """The DFC-VAE: the feature loss of a frozen network, and KL."""
    backbone.requires_grad_(False)

    def step(images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            target = backbone(images)
        mean, logvar = vae["encoder"](images)
        logvar = logvar.clamp(-30, 20)
        recon = vae["decoder"](draw(mean, logvar, noise))
        terms = {"kl": kl(mean, logvar), "feature": feature(target, backbone(recon))}
        optimizers["vae"].zero_grad()
        sum(weights[name] * term for name, term in terms.items()).backward()
        optimizers["vae"].step()
        return terms

    networks = nn.ModuleDict({**vae, "backbone": backbone})
    return System(networks, optimizers, lambda batch_size: (batch_size, latents), step)


def vae_gan(
    channels_last: bool, shape: tuple[int, int, int] = (64, 64, 3), latents: int = 128, scale: float = 1.0
) -> System:
    """configs/vaegan_celeba.py without its gate.

    One forward pass, and no matrix product of the backward passes is computed twice. The discriminator's gradients are
    propagated back to the decoded images once for similarity and once for the GAN, which also yields the
    discriminator's own gradient. Each player then weights both and propagates them further: through the decoder to its
    weights, and through it to the encoder's.
    """
    encoder, decoder = (network(shape, latents, channels_last, scale) for network in (LarsenEncoder, LarsenDecoder))
    discriminator = LarsenDiscriminator(shape, channels_last, scale)
    networks = nn.ModuleDict({"encoder": encoder, "decoder": decoder, "discriminator": discriminator})
    players = {player: list(network.parameters()) for player, network in networks.items()}
    optimizers = {player: rmsprop(parameters, 3e-4) for player, parameters in players.items()}

    def step(images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        n = len(images)
        mean, logvar = encoder(images)
        logvar = logvar.clamp(-30, 20)
        decoded = decoder(torch.cat([draw(mean, logvar, noise[0]), noise[1]]))
        seen = decoded.detach().requires_grad_()
        conv4, logits = discriminator(torch.cat([images, seen]))
        terms = {
            "kl": kl(mean, logvar),
            "similarity": F.mse_loss(conv4[n : 2 * n], conv4[:n], reduction="sum") / (2 * n),
            "gan": F.softplus(-logits[:n]).mean() + F.softplus(logits[n:]).sum() / n,
        }
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        terms["gan"].backward(inputs=[seen, *players["discriminator"]], retain_graph=True)
        gan, seen.grad = seen.grad, None
        terms["similarity"].backward(inputs=[seen])
        similarity = seen.grad
        towards = SIMILARITY * similarity - (1 - SIMILARITY) * gan
        decoded.backward(towards, inputs=players["decoder"], retain_graph=True)
        torch.autograd.backward([terms["kl"], decoded], [None, similarity], inputs=players["encoder"])
        for optimizer in optimizers.values():
            optimizer.step()
        return terms

    return System(networks, optimizers, lambda batch_size: (2, batch_size, latents), step)


SYSTEMS = {"dfc_mnist": dfc_mnist, "dfc_celeba": dfc_celeba, "vae_gan": vae_gan}
SHAPES = {"dfc_mnist": (28, 28, 1), "dfc_celeba": (64, 64, 3), "vae_gan": (64, 64, 3)}
