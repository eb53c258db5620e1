"""The VAE that minimises the blur error: a Gaussian likelihood whose precision undoes a blur.

Bredell et al. 2023. p(x | z) = N(x; xhat(z), Sigma_k) with the Wiener weight of a blur kernel k (losses/wiener.py). A
network predicts a kernel for each image from its latents, or one fixed kernel serves all. Two players share one forward
pass:

    vae       kl + wiener, where wiener is -log p(x | z) with its log-determinant: the loss is -ELBO
    kernel    regression: ||xhat - x * k(z)||^2, the blur that makes the target like the reconstruction;
              or elbo: -log p(x | z) with the most likely sigma of each image, so that the kernel does not replace sigma

Each is updated with the other held fixed. `config.kernel_loss` chooses the loss of the kernel network. If
`config.kernel.name` is gaussian, the kernel is fixed and there is one player. sigma, the noise of the likelihood, is a
number or learnt by `vae`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax.errors import UserError, call_with_options
from vae_jax.losses import kl
from vae_jax.losses.wiener import blur, gaussian_kernel, wiener_nll
from vae_jax.models import DECODERS, ENCODERS, KERNELS
from vae_jax.systems.contract import Params, System, always_open, term_weight
from vae_jax.systems.image_terms import loss_options
from vae_jax.systems.likelihoods import elbo, sampled_nll
from vae_jax.systems.networks import Codec, Network, apply_network, draw, init_networks, make_network

KERNEL_LOSSES = ("regression", "elbo")
FIXED = "gaussian"


def blur_vae(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """The terms are kl and wiener; options of wiener: C, epsilon, sigma (0: learnt, starting from `first_sigma`)."""
    _check(config)
    options, sigma, first_sigma = call_with_options(
        _wiener_options, "The term wiener", **loss_options(config.terms.wiener)
    )
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    decoder = make_network(DECODERS, "decoder", config, image_shape)
    codec = Codec(encoder, decoder, "vae")
    network, kernels = _kernels(config)
    fixed = network is None

    def init(key, batch):
        z = jnp.zeros((batch["image"].shape[0], config.latents))
        networks = {} if fixed else {"kernel": (network, z)}
        params, stats = init_networks(key, encoder=(encoder, batch["image"]), decoder=(decoder, z), **networks)
        players = {} if fixed else {"kernel": params.pop("kernel")}
        learnt = {} if sigma else {"log_sigma": jnp.full((), np.log(first_sigma))}
        return {"vae": params | learnt} | players, stats

    def nll(params, target, recon, kernel):
        noise = sigma or jnp.exp(params["vae"]["log_sigma"])
        return wiener_nll(target, recon, kernel, sigma=noise, **options)

    def kernel_cost(target, recon, kernel):
        if config.kernel_loss == "elbo":
            return wiener_nll(target, recon, kernel, **options)
        return jnp.sum(jnp.square(blur(target, kernel) - recon), axis=(1, 2, 3))

    def terms(params, stats, frozen, batch, key, step):
        images = batch["image"]
        mean, logvar, stats = codec.posterior(params, stats, images, train=True)
        z = draw(key, mean, logvar)
        recon, stats = codec.reconstruct(params, stats, z)
        kernel = kernels(params, z)
        values = {"kl": kl(mean, logvar), "wiener": nll(params, images, recon, kernel)}
        if not fixed:
            values[config.kernel_loss] = kernel_cost(images, recon, kernel)
        return {name: jnp.mean(value) for name, value in values.items()}, stats

    def evaluate(params, stats, frozen, batch):
        images = batch["image"]
        mean, logvar = codec.encode(params, stats, frozen, images)
        of_z = lambda z: nll(params, images, codec.decode(params, stats, z), kernels(params, z))  # noqa: E731
        cost, bounds = sampled_nll(of_z, mean, logvar, batch["index"], config.elbo_samples)
        divergence = kl(mean, logvar)
        values = {"kl": divergence, "wiener": cost} | elbo(cost, divergence, image_shape) | bounds
        return codec.decode(params, stats, mean), values

    rules = {"vae": {name: term_weight(term) for name, term in config.terms.items()}}
    rules |= {} if fixed else {"kernel": {config.kernel_loss: 1.0}}
    gate, init_gate = turns(config.alternate) if config.alternate and not fixed else (always_open, dict)
    return System(
        rules=rules,
        init=init,
        terms=terms,
        evaluate=evaluate,
        encode=codec.encode,
        decode=codec.decode,
        latent_shape=(config.latents,),
        prior=True,
        gate=gate,
        init_gate=init_gate,
        has_elbo=True,
    )


def _kernels(config: ConfigDict) -> tuple[Network | None, Callable[[Params, jax.Array], jax.Array]]:
    """The kernel network, or None if the kernel is fixed, and (params, z) -> kernels [B, k, k]."""
    if config.kernel.name == FIXED:
        shape_of_blur = {key: value for key, value in config.kernel.items() if key != "name"}
        constant = call_with_options(gaussian_kernel, "The fixed kernel", **shape_of_blur)
        return None, lambda params, z: jnp.broadcast_to(constant, (z.shape[0], *constant.shape))
    network = make_network(KERNELS, "kernel", config)

    def kernels(params, z):
        """Without a gradient to z."""
        return apply_network(network, "kernel", params["kernel"], {}, jax.lax.stop_gradient(z), train=False)[0]

    return network, kernels


def turns(steps: int):
    """(gate, init_gate): updates `vae` for `steps` steps, then `kernel` for as many, and so on."""

    def gate(scalars, done):
        vae = done % (2 * steps) < steps
        return {"vae": vae, "kernel": ~vae}, done + 1

    return gate, lambda: jnp.zeros((), jnp.int32)


def _wiener_options(
    C: float = 0.025, epsilon: float = 1.0, sigma: float = 0.0, first_sigma: float = 0.1
) -> tuple[dict[str, float], float, float]:
    if sigma < 0 or first_sigma <= 0:
        raise UserError("terms.wiener.sigma must be above 0, or 0 to learn it starting from a first_sigma above 0.")
    return {"C": C, "epsilon": epsilon}, sigma, first_sigma


def _check(config: ConfigDict) -> None:
    if set(config.terms) != {"kl", "wiener"}:
        raise UserError(f"A blur_vae takes exactly the terms kl and wiener, not {', '.join(config.terms)}.")
    if config.kernel_loss not in KERNEL_LOSSES:
        raise UserError(f"kernel_loss is {config.kernel_loss!r}; expected one of {', '.join(KERNEL_LOSSES)}.")
    if config.alternate < 0:
        raise UserError(f"alternate is {config.alternate}; expected at least 1 step per turn, or 0 for no turns.")
