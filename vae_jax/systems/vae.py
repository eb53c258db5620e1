"""The variational autoencoder: one player, any reconstruction terms.

With a pixel term (bce, l1, l2) it is the plain VAE; with the feature term it is the DFC-VAE, with lpips the LPIPS-VAE.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.backbones import get_backbone, load_backbone
from vae_jax.errors import UserError, call_with_options, look_up
from vae_jax.losses import IMAGE_TERMS, TERMS, feature, kl
from vae_jax.losses.lpips import LPIPS, load_lpips
from vae_jax.models import DECODERS, ENCODERS
from vae_jax.systems.contract import System, weight_schedule
from vae_jax.weight_files import LPIPS_NET, RANDOM

LOGVAR_RANGE = (-30.0, 20.0)  # an untrained encoder can overflow exp(logvar)
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def vae(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """-ELBO with the reconstruction terms that the config names: kl and any of feature and the image terms."""
    options = {name: _term_options(name, term) for name, term in config.terms.items()}
    encoder = _network(ENCODERS, "encoder.name", config.encoder, config.latents)
    decoder = _network(DECODERS, "decoder.name", config.decoder, image_shape)
    dtype = look_up(DTYPES, config.backbone.dtype, "backbone.dtype")
    if "feature" in options:
        taps = tuple(options["feature"].pop("taps", ()))
        backbone = get_backbone(config.backbone.name, taps, config.image_size)
    if "lpips" in options:
        net = options["lpips"].get("net", LPIPS_NET)
        get_backbone(look_up(LPIPS, net, "terms.lpips.net").backbone, LPIPS[net].taps, config.image_size)

    def frozen():
        trees = {}
        if "feature" in options:
            trees["backbone"] = _cast(load_backbone(config.backbone.name, config.backbone.weights, taps), dtype)
        if "lpips" in options:
            lpips = load_lpips(net, RANDOM if config.backbone.weights == RANDOM else "")
            trees["lpips"] = lpips | {"backbone": _cast(lpips["backbone"], dtype)}
        return trees

    def init(key, batch):
        encoder_key, decoder_key = jax.random.split(key)
        z = jnp.zeros((batch["image"].shape[0], config.latents))
        variables = {"encoder": encoder.init(encoder_key, batch["image"]), "decoder": decoder.init(decoder_key, z)}
        params = {name: tree.pop("params") for name, tree in variables.items()}
        return {"vae": params}, {name: tree for name, tree in variables.items() if tree}

    def posterior(params, stats, images, train):
        (mean, logvar), stats = _run(encoder, "encoder", params, stats, images, train)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE), stats

    def encode(params, stats, images):
        return posterior(params, stats, images, train=False)[:2]

    def decode(params, stats, z):
        return jnp.clip(_run(decoder, "decoder", params, stats, z, train=False)[0], 0, 1)

    def feature_value(frozen, images, recon):
        target_features, recon_features = (backbone.apply(frozen["backbone"], x, taps) for x in (images, recon))
        return feature(target_features, recon_features, **options["feature"])

    def terms(params, stats, frozen, batch, key, step):
        images = batch["image"]
        mean, logvar, stats = posterior(params, stats, images, train=True)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
        recon, stats = _run(decoder, "decoder", params, stats, z, train=True)
        values = {}
        for name, term in options.items():
            if name == "kl":
                values[name] = kl(mean, logvar)
            elif name == "feature":
                values[name] = feature_value(frozen, images, recon)
            elif name == "lpips":
                values[name] = IMAGE_TERMS[name](images, recon, weights=frozen["lpips"], **term)
            else:
                values[name] = IMAGE_TERMS[name](images, recon, **term)
        return {name: jnp.mean(value) for name, value in values.items()}, stats

    def evaluate(params, stats, frozen, batch):
        mean, logvar = encode(params, stats, batch["image"])
        recon = decode(params, stats, mean)
        values = {"kl": kl(mean, logvar)}
        if "feature" in options:
            values["feature"] = feature_value(frozen, batch["image"], recon)
        return recon, values

    rule = {name: weight_schedule(term.weight, term.start, term.warmup) for name, term in config.terms.items()}
    return System({"vae": rule}, frozen, init, terms, evaluate, encode, decode)


def _run(network: nn.Module, name: str, params, stats, x: jax.Array, train: bool) -> tuple[Any, dict]:
    """What one of the two networks says, and the statistics of both after it."""
    variables = {"params": params["vae"][name], **stats.get(name, {})}
    if not train or name not in stats:
        return network.apply(variables, x, train), stats
    output, new = network.apply(variables, x, train, mutable=list(stats[name]))
    return output, stats | {name: new}


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


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
    if name == "feature" and not options.get("taps"):
        raise UserError("terms.feature.taps is empty: name at least one tap of the backbone.")
    return options
