"""The variational autoencoder: one player, any reconstruction terms.

With a pixel term (bce, l1, l2) it is the plain VAE; with the feature term it is the DFC-VAE, with lpips the LPIPS-VAE,
with a pixel term and sharpness the sharpness VAE, with the term adaptive Barron's. If the loss is an ELBO
(`likelihoods.py`), evaluation reports it, with `elbo_samples` samples of z per image, and of several the
importance-weighted bound.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.losses import kl
from vae_jax.models import DECODERS, ENCODERS
from vae_jax.systems.contract import System, term_weight
from vae_jax.systems.image_terms import make_image_terms
from vae_jax.systems.likelihoods import LEARNT_TERMS, elbo, make_likelihoods, sampled_nll
from vae_jax.systems.networks import Codec, draw, init_networks, make_network


def vae(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """The terms are kl, any PERCEPTUAL_TERMS and IMAGE_TERMS of `losses`, and LEARNT_TERMS."""
    image_terms = make_image_terms(config, own=("kl", *LEARNT_TERMS))
    likelihoods = make_likelihoods(config)
    encoder = make_network(ENCODERS, "encoder", config, config.latents)
    decoder = make_network(DECODERS, "decoder", config, image_shape)
    codec = Codec(encoder, decoder, "vae")

    def init(key, batch):
        z = jnp.zeros((batch["image"].shape[0], config.latents))
        params, stats = init_networks(key, encoder=(encoder, batch["image"]), decoder=(decoder, z))
        learnt = likelihoods.init(image_shape)
        return {"vae": params | ({"likelihood": learnt} if learnt else {})}, stats

    def terms(params, stats, frozen, batch, key, step):
        images, learnt = batch["image"], params["vae"].get("likelihood")
        mean, logvar, stats = codec.posterior(params, stats, images, train=True)
        recon, stats = codec.reconstruct(params, stats, draw(key, mean, logvar))
        values = image_terms.values(frozen, batch, recon)
        values |= likelihoods.values(learnt, images, recon)
        if "kl" in config.terms:
            values["kl"] = kl(mean, logvar)
        return {name: jnp.mean(value) for name, value in values.items()}, stats

    def evaluate(params, stats, frozen, batch):
        images, learnt = batch["image"], params["vae"].get("likelihood")
        mean, logvar = codec.encode(params, stats, frozen, images)
        recon = codec.decode(params, stats, mean)
        values = {"kl": kl(mean, logvar)} | image_terms.feature(frozen, batch, recon)
        values |= likelihoods.values(learnt, images, recon)
        if (nll := likelihoods.nll) is not None:
            of_z = lambda z: nll(learnt, images, codec.decode(params, stats, z))  # noqa: E731
            cost, bounds = sampled_nll(of_z, mean, logvar, batch["index"], config.elbo_samples)
            values |= elbo(cost, values["kl"], image_shape) | bounds
        return recon, values

    rule = {name: term_weight(term) for name, term in config.terms.items()}
    return System(
        rules={"vae": rule},
        frozen=image_terms.frozen,
        init=init,
        terms=terms,
        evaluate=evaluate,
        encode=codec.encode,
        decode=codec.decode,
        latent_shape=(config.latents,),
        prior=True,
        targets=image_terms.targets,
        has_elbo=likelihoods.nll is not None,
    )
