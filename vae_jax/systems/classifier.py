"""A classifier, such as the perceptual model of the DFC-VAE article: one player, one term."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.losses import cross_entropy
from vae_jax.models import CLASSIFIERS
from vae_jax.systems.contract import System, term_weight
from vae_jax.systems.networks import apply_network, make_network


def classifier(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """Cross-entropy with the labels; evaluation adds the accuracy. UserError if there are no labels."""
    del image_shape
    if list(config.terms) != ["cross_entropy"]:
        raise UserError(f"A classifier takes exactly the term cross_entropy, not {', '.join(config.terms)}.")
    network = make_network(CLASSIFIERS, "network", config, config.classes)

    def init(key, batch):
        if "label" not in batch:
            raise UserError(f"The data set {config.data.name} has no labels, but a classifier needs them.")
        return {"classifier": network.init(key, batch["image"], False)["params"]}, {}

    def logits(params, stats, images, train, key=None):
        layers, stats = apply_network(network, "classifier", params["classifier"], stats, images, train, key)
        return layers["logits"], stats

    def terms(params, stats, frozen, batch, key, step):
        scores, stats = logits(params, stats, batch["image"], train=True, key=key)
        return {"cross_entropy": jnp.mean(cross_entropy(scores, batch["label"]))}, stats

    def evaluate(params, stats, frozen, batch):
        scores, _ = logits(params, stats, batch["image"], train=False)
        return None, {
            "cross_entropy": cross_entropy(scores, batch["label"]),
            "accuracy": (jnp.argmax(scores, axis=1) == batch["label"]).astype(jnp.float32),
        }

    rules = {"classifier": {"cross_entropy": term_weight(config.terms.cross_entropy)}}
    return System(rules=rules, init=init, terms=terms, evaluate=evaluate)
