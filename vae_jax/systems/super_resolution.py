"""The super-resolution VAE: the low-resolution image goes in, the high-resolution one comes out.

The images of a batch are the high-resolution targets; the low-resolution images are computed from them on the device
(`observe`). The encoder sees only low-resolution images, losses and metrics compare only with the targets, and
evaluation decodes the mean of q(z | low). One player, `vae`: kl and any image terms, as in section 3 of the document
*Perceptual Loss in (Variational) Autoencoder*, with the standard deviation exp(logvar / 2).

If the latents are a map over the low-resolution image, the last channels of the code hold that image: this part is
deterministic (log-variance -inf), and the upscaler adds to it. KL covers the random part only.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.data.degrade import bicubic, degrade, nearest_neighbour
from vae_jax.errors import UserError
from vae_jax.losses import kl
from vae_jax.models import ENCODERS, UPSCALERS
from vae_jax.systems.contract import System, term_weight
from vae_jax.systems.image_terms import make_image_terms
from vae_jax.systems.networks import Codec, deterministic, draw, init_networks, latent_shape, make_network


def super_resolution(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """Images of `image_shape` from ones `config.factor` times smaller, blurred by `config.sigma` pixels first."""
    factor, sigma = config.factor, config.sigma
    _check_degradation(config)
    image_terms = make_image_terms(config, own=("kl",))
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    upscaler = make_network(UPSCALERS, "decoder", config, image_shape, factor)
    codec = Codec(encoder, upscaler, "vae")

    def observe(images):
        return degrade(images, factor, sigma)

    def whole(mean, logvar, low):
        if mean.ndim == 2:
            return mean, logvar
        low, minus_inf = deterministic(low)
        return jnp.concatenate((mean, low), -1), jnp.concatenate((logvar, minus_inf), -1)

    def init(key, batch):
        z = jnp.zeros((batch["image"].shape[0], *code_shape))
        params, stats = init_networks(key, encoder=(encoder, observe(batch["image"])), decoder=(upscaler, z))
        return {"vae": params}, stats

    def encode(params, stats, frozen, low):
        return whole(*codec.encode(params, stats, frozen, low), low)

    def terms(params, stats, frozen, batch, key, step):
        low = observe(batch["image"])
        mean, logvar, stats = codec.posterior(params, stats, low, train=True)
        recon, stats = codec.reconstruct(params, stats, draw(key, *whole(mean, logvar, low)))
        values = image_terms.values(frozen, batch, recon)
        if "kl" in config.terms:
            values["kl"] = kl(mean, logvar)
        return {name: jnp.mean(value) for name, value in values.items()}, stats

    def evaluate(params, stats, frozen, batch):
        mean, logvar = encode(params, stats, frozen, observe(batch["image"]))
        recon = codec.decode(params, stats, mean)
        random = mean[..., : config.latents], logvar[..., : config.latents]
        return recon, {"kl": kl(*random)} | image_terms.feature(frozen, batch, recon)

    baselines = {
        "nearest": lambda batch: nearest_neighbour(observe(batch["image"]), factor),
        "bicubic": lambda batch: jnp.clip(bicubic(observe(batch["image"]), factor), 0, 1),
    }

    def untrained(images):
        low = observe(images)
        (mean, logvar), _ = encoder.init_with_output(jax.random.key(0), low, False)
        return whole(mean, logvar, low)[0]

    code_shape = latent_shape(untrained, image_shape)
    rule = {name: term_weight(term) for name, term in config.terms.items()}
    radius = encoder.receptive_radius + upscaler.receptive_radius if len(code_shape) == 3 else None
    return System(
        rules={"vae": rule},
        frozen=image_terms.frozen,
        init=init,
        terms=terms,
        evaluate=evaluate,
        encode=encode,
        decode=codec.decode,
        latent_shape=code_shape,
        prior=radius is None,
        observe=observe,
        factor=factor,
        receptive_radius=radius,
        targets=image_terms.targets,
        baselines=baselines,
    )


def _check_degradation(config: ConfigDict) -> None:
    if config.factor < 2 or config.image_size % config.factor:
        raise UserError(
            f"factor is {config.factor}; it must be at least 2 and divide image_size ({config.image_size}), the "
            "high-resolution size."
        )
    if not config.sigma > 0:
        raise UserError(f"sigma is {config.sigma}; expected a standard deviation above 0, in pixels.")
