"""The variational autoencoder: one player, any reconstruction terms.

With a pixel term (bce, l1, l2) it is the plain VAE; with the feature term it is the DFC-VAE.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import IMAGE_TERMS, TERMS, feature, kl
from vae_jax.models import DECODERS, ENCODERS
from vae_jax.systems.contract import System, weight_schedule

LOGVAR_RANGE = (-30.0, 20.0)  # an untrained encoder can overflow exp(logvar)


def vae(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """-ELBO with the reconstruction terms that the config names: kl and any of feature and the image terms."""
    options = {name: _term_options(name, term) for name, term in config.terms.items()}
    encoder = _network(ENCODERS, "encoder.name", config.encoder, config.latents)
    decoder = _network(DECODERS, "decoder.name", config.decoder, image_shape)
    if "feature" in options:
        taps = tuple(options["feature"].pop("taps"))
        backbone = get_backbone(config.backbone.name, taps, config.image_size)

    def frozen():
        if "feature" not in options:
            return {}
        return {"backbone": load_backbone(config.backbone.name, config.backbone.weights, taps)}

    def init(key, batch):
        encoder_key, decoder_key = jax.random.split(key)
        z = jnp.zeros((batch["image"].shape[0], config.latents))
        params = {
            "encoder": encoder.init(encoder_key, batch["image"])["params"],
            "decoder": decoder.init(decoder_key, z)["params"],
        }
        return {"vae": params}, {}

    def encode(params, stats, images):
        mean, logvar = encoder.apply({"params": params["vae"]["encoder"]}, images)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE)

    def decode(params, stats, z):
        return decoder.apply({"params": params["vae"]["decoder"]}, z)

    def values(frozen, images, mean, logvar, recon):
        """Every term of the config, per example [B]."""
        result = {}
        for name, term in options.items():
            if name == "kl":
                result[name] = kl(mean, logvar)
            elif name == "feature":
                target_features = backbone.apply(frozen["backbone"], images, taps)
                recon_features = backbone.apply(frozen["backbone"], recon, taps)
                result[name] = feature(target_features, recon_features, **term)
            else:
                result[name] = IMAGE_TERMS[name](images, recon, **term)
        return result

    def terms(params, stats, frozen, batch, key, step):
        mean, logvar = encode(params, stats, batch["image"])
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
        per_example = values(frozen, batch["image"], mean, logvar, decode(params, stats, z))
        return {name: jnp.mean(value) for name, value in per_example.items()}, stats

    def evaluate(params, stats, frozen, batch):
        mean, logvar = encode(params, stats, batch["image"])
        recon = decode(params, stats, mean)
        per_example = {"kl": kl(mean, logvar), **values(frozen, batch["image"], mean, logvar, recon)}
        return recon, {name: value for name, value in per_example.items() if name not in IMAGE_TERMS}

    rule = {name: weight_schedule(term.weight, term.start, term.warmup) for name, term in config.terms.items()}
    return System({"vae": rule}, frozen, init, terms, evaluate, encode, decode)


def _network(table: Mapping, what: str, config: ConfigDict, size):
    options = dict(config)
    name = options.pop("name")
    return call_with_options(look_up(table, name, what), f"The network {name} ({what})", size, **options)


def _term_options(name: str, term: ConfigDict) -> dict:
    """What goes to the loss itself: all but when and how much it counts."""
    look_up(TERMS, name, "term")
    if name not in ("kl", "feature", *IMAGE_TERMS):
        raise UserError(f"The term {name!r} has no place in a vae: it takes kl, feature, {', '.join(IMAGE_TERMS)}.")
    options = {key: value for key, value in term.items() if key not in ("weight", "start", "warmup")}
    if name == "feature" and not options["taps"]:
        raise UserError("terms.feature.taps is empty: name at least one tap of the backbone.")
    return options
