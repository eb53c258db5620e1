"""The PyTorch peer of the benchmark does the work of our train steps: equal terms, gradients, statistics, optimisers.

Our parameters go into PyTorch's networks, the noise of z goes in beside the images, and both sides make one step by
plain gradient descent at rate 1, so that what moves is the gradient. In float64.
"""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.one_step import BATCH, LATENTS, SCALE, SHAPES, config_of, our_networks, our_step

from tests.peers.from_flax import state_dict
from vae_jax.optim import make_optimizer
from vae_jax.state import State

DENSE = {  # by network: (H, W, C) of its small image, the layers that see it flattened, those that come before it
    "dfc_mnist": {
        "encoder": ((8, 10, 64), ("dense",), ()),
        "decoder": ((8, 10, 64), (), ("dense",)),
        "backbone": ((), (), ()),
    },
    "dfc_celeba": {
        "encoder": ((4, 4, 64), ("mean", "logvar"), ()),
        "decoder": ((4, 4, 64), (), ("dense",)),
        "backbone": ((), (), ()),
    },
    "vae_gan": {
        "encoder": ((5, 6, 8), ("dense",), ()),
        "decoder": ((5, 6, 8), (), ("dense", "norm_dense")),
        "discriminator": ((5, 6, 8), ("dense",), ()),
    },
}
MIRRORED = {"dfc_mnist": ("encoder", "decoder", "backbone"), "dfc_celeba": (), "vae_gan": ("decoder",)}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="needs tests/peers/requirements.txt")


def peer(torch, name: str, channels_last: bool):
    """The system of the peer with the sizes of these tests, and images [B, C, H, W], both in float64."""
    from tests.peers.torch_steps import SYSTEMS

    layout = torch.channels_last if channels_last else torch.contiguous_format
    options = {"scale": SCALE} if name == "vae_gan" else {}
    system = SYSTEMS[name](channels_last, SHAPES[name], LATENTS, **options)
    system.networks.to(torch.float64, memory_format=layout)
    height, width, channels = SHAPES[name]
    return system, torch.rand((BATCH, channels, height, width), dtype=torch.float64).to(memory_format=layout)


def in_torch(name: str, state: State, frozen, channels_last: bool) -> dict[str, np.ndarray]:
    """Our parameters and statistics as the state dict of the peer's networks."""
    return {
        f"{network}.{key}": value
        for network, leaves in our_networks(name, state, frozen).items()
        for key, value in state_dict(
            leaves, *DENSE[name][network], channels_last=channels_last, mirrored=network in MIRRORED[name]
        ).items()
    }


def watch(torch, networks) -> dict:
    """The next outputs of each convolution and BatchNorm, by name."""
    said = {}
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
    for name, module in networks.named_modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _, x, y, name=name: said.__setitem__(name, y))
    return said


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_step_is_ours(torch, name, channels_last):
    """Terms and running statistics to 1e-6, gradients to 1e-6 of the largest entry in their network.

    Our features are rounded to float32; without a backbone (VAE-GAN) all are equal to 1e-10. PyTorch's running variance
    is the unbiased one. Every image stays in its layout.
    """
    system, images = peer(torch, name, channels_last)
    ours = our_step(name)
    before, after = (in_torch(name, state, ours.frozen, channels_last) for state in (ours.before, ours.after))
    theirs = system.networks.state_dict()
    assert {key for key in theirs if not key.endswith("num_batches_tracked")} == before.keys()
    for key, value in before.items():
        theirs[key].copy_(torch.tensor(value))
    images.copy_(torch.tensor(ours.images).permute(0, 3, 1, 2))
    if name == "dfc_mnist":  # its networks mirror ours, see torch_networks.py
        images.copy_(images.flip(2, 3))
    if name == "vae_gan":
        system.networks["decoder"].register_forward_hook(lambda module, z, image: image.flip(2, 3))
    for player, optimizer in system.optimizers.items():
        system.optimizers[player] = torch.optim.SGD(optimizer.param_groups[0]["params"], lr=1.0)
    said, tolerance = watch(torch, system.networks), 1e-10 if name == "vae_gan" else 1e-6

    terms = system.step(images, torch.tensor(ours.noise))

    for term, value in terms.items():
        np.testing.assert_allclose(value.item(), ours.scalars[term], rtol=tolerance, err_msg=term)
    trained = {key for key, p in system.networks.named_parameters() if p.requires_grad}
    largest = {
        network: max((np.abs(before[key] - after[key]).max() for key in trained if key.startswith(network)), default=0)
        for network in DENSE[name]
    }
    assert all((size > 1e-4) == (network != "backbone") for network, size in largest.items())
    for key, value in theirs.items():
        layer, _, kind = key.rpartition(".")
        if kind == "running_var":
            n = said[layer].numel() // said[layer].shape[1]
            value = 0.9 + (value - 0.9) * (n - 1) / n
        if kind != "num_batches_tracked":
            atol = tolerance * (largest[key.partition(".")[0]] if key in trained else 1)
            np.testing.assert_allclose(value, after[key], rtol=1e-14, atol=atol, err_msg=key)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert all(y.is_contiguous(memory_format=layout) for y in said.values() if y.ndim == 4)


@pytest.mark.parametrize("name", SHAPES)
def test_the_optimizers_are_ours(torch, name):
    """Three steps at the published rate with the same gradients, of many sizes: parameters equal to 1e-12."""
    system, _ = peer(torch, name, channels_last=False)
    rng, config = np.random.default_rng(1), config_of(name)
    assert system.optimizers.keys() == set(config.optimizers)
    for player, theirs in system.optimizers.items():
        config.optimizers[player].update(schedule="constant", warmup_steps=0)
        parameters = theirs.param_groups[0]["params"]
        with jax.enable_x64(True):
            ours = make_optimizer(config.optimizers[player], config.steps)
            params = torch.nn.utils.parameters_to_vector(parameters).detach().numpy()
            opt_state, update = ours.init(params), jax.jit(ours.update)
            for _ in range(3):
                gradient = rng.normal(size=params.shape) * 10.0 ** rng.uniform(-9, 1, params.shape)
                sizes = np.cumsum([p.numel() for p in parameters])[:-1]
                for p, part in zip(parameters, np.split(gradient, sizes), strict=True):
                    p.grad = torch.tensor(part).view_as(p)
                theirs.step()
                updates, opt_state = update(gradient, opt_state)
                params = params + np.asarray(updates)
        np.testing.assert_allclose(torch.nn.utils.parameters_to_vector(parameters).detach(), params, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_the_step_does_nothing_twice(torch, name):
    """The products of a step compared with those of the forward passes: every needed gradient once, and no other.

    None to the backbone's weights, none through its features of the target, none to the images or to the prior's z.
    """
    from torch.utils.flop_counter import FlopCounterMode

    def count(function, *arguments) -> int:
        with FlopCounterMode(display=False) as counter:
            function(*arguments)
        return counter.get_total_flops()

    system, images = peer(torch, name, channels_last=True)
    networks, noise = system.networks, torch.randn(system.noise_shape(BATCH), dtype=torch.float64)
    encoder, first = count(networks["encoder"], images), count(networks["encoder"].conv1, images)
    if name == "vae_gan":
        z, seen = noise.flatten(0, 1), torch.cat([images] * 3)
        decoder, dense = count(networks["decoder"], z), count(networks["decoder"].dense, z)
        discriminator, hidden = count(networks["discriminator"], seen), networks["discriminator"].dense.weight
        behind = 2 * len(seen) * (hidden.numel() + len(hidden))  # of conv4, where images are compared
        expected = (3 * encoder - first) + (4 * decoder - dense) + (4 * discriminator - behind)
    else:
        decoder, backbone = count(networks["decoder"], noise), count(networks["backbone"], images)
        expected = (3 * encoder - first) + 3 * decoder + 3 * backbone
    assert count(system.step, images, noise) == expected


def test_the_program_answers(torch):
    command = [sys.executable, "-m", "tests.peers.torch_peer", "--layout=contiguous"]
    command += ["--system=dfc_mnist", "--batch_size=2"]
    answers = subprocess.run(command, input="1\n2\n", cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said, *seconds = map(json.loads, answers.splitlines())
    assert said["framework"] == "torch" and said["layout"] == "contiguous" and said["version"] == torch.__version__
    assert len(seconds) == 2 and min(seconds) > 0
