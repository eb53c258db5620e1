"""Training recipes: which players minimise which losses. A new system is one file and one line here.

`SYSTEMS[name](config, image_shape)` gives a `System` for images [H, W, C].
"""

from ml_collections import ConfigDict

from vae_jax.errors import UserError, look_up
from vae_jax.multipliers import held_terms
from vae_jax.systems.blur_vae import blur_vae
from vae_jax.systems.classifier import classifier
from vae_jax.systems.contract import System
from vae_jax.systems.deepsim import deepsim, inversion
from vae_jax.systems.image_terms import WHEN_AND_HOW_MUCH, loss_options
from vae_jax.systems.kl_autoencoder import kl_autoencoder
from vae_jax.systems.super_resolution import super_resolution
from vae_jax.systems.vae import vae
from vae_jax.systems.vae_gan import vae_gan

PLAIN_TERMS = ("kl", "cross_entropy", "adversarial")  # without options, in every system

SYSTEMS = {
    "vae": vae,
    "blur_vae": blur_vae,
    "vae_gan": vae_gan,
    "kl_autoencoder": kl_autoencoder,
    "deepsim": deepsim,
    "inversion": inversion,
    "super_resolution": super_resolution,
    "classifier": classifier,
}


def make_system(config: ConfigDict, image_shape: tuple[int, int, int]) -> System:
    """The system named by `config.system`; UserError if it or its config is invalid."""
    for name, term in config.terms.items():
        if name in PLAIN_TERMS and loss_options(term):
            raise UserError(f"The term {name} has no options besides {', '.join(WHEN_AND_HOW_MUCH)}.")
    system = look_up(SYSTEMS, config.system, "system")(config, image_shape)
    for name, term in config.terms.items():
        if term.get("target") and name not in held_terms(system.rules):
            raise UserError(
                f"terms.{name}.target: no player of {config.system} weighs {name} by itself, so it cannot be held."
            )
    return system
