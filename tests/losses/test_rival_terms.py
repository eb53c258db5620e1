"""A VAE's config can name every loss that perceptual losses are compared with, options and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import ROOT

from vae_jax import keys
from vae_jax.cli import load_config
from vae_jax.config import image_shape
from vae_jax.configs import losses_celeba, losses_mnist
from vae_jax.configs.common import term
from vae_jax.errors import UserError
from vae_jax.experiment import check_shapes, make_experiment
from vae_jax.losses import PERCEPTUAL_TERMS, bce
from vae_jax.models import DECODERS
from vae_jax.systems import make_system
from vae_jax.systems.image_terms import make_image_terms

TERMS = {
    "ssim": {},
    "ms_ssim": {},
    "focal_frequency": {"alpha": 0.5, "patch_factor": 2, "log_matrix": True},
    "robust": {"alpha": 0.0, "c": 0.1, "representation": "wavelet", "reduction": "mean"},
    "watson": {"transform": "dct", "weights": "", "shift": (0, 7)},
}


@pytest.mark.parametrize("name", TERMS)
def test_a_config_can_name_it(name, smoke):
    """The shapes of a train step on faces match; the term's value is one number per image."""
    config = smoke("vae_celeba")
    config.terms[name] = term(1.0, **TERMS[name])
    shape = (config.image_size, config.image_size, 3)
    experiment = make_experiment(config, shape, labelled=False)
    check_shapes(config, experiment, experiment.system.frozen())
    image_terms = make_image_terms(config, own=("kl",))
    values = jax.eval_shape(lambda x: image_terms.values(image_terms.frozen(), {"image": x}, x), jnp.zeros((2, *shape)))
    assert values[name].shape == (2,)


def test_unknown_options(smoke):
    config = smoke("vae_celeba")
    config.terms.ssim = term(1.0, sigma=2.0)
    experiment = make_experiment(config, (config.image_size, config.image_size, 3), labelled=False)
    with pytest.raises(UserError, match="The term ssim has no option 'sigma'"):
        check_shapes(config, experiment, {})


def test_losses_with_a_weights_file_are_checked_before_compiling():
    assert keys.TERM_WEIGHTS.keys() == PERCEPTUAL_TERMS.keys()


LOSSES = [("losses_celeba", loss) for loss in losses_celeba.LOSSES] + [
    ("losses_mnist", loss) for loss in losses_mnist.LOSSES
]


@pytest.mark.parametrize(("name", "loss"), LOSSES)
def test_the_comparison_of_losses(name, loss):
    """Each is a config of its own name; KL counts once, and networks, data and length are those of squared errors,
    but for the sigmoid of bce."""
    config, plain = (load_config(f"{ROOT}/configs/{name}.py:{loss_},smoke") for loss_ in (loss, "l2"))
    if (name, loss) == ("losses_celeba", "bce"):
        plain.decoder.sigmoid = True
    assert config.name == f"{name}_{loss}" and config.terms.kl.weight == 1
    for key in ("encoder", "decoder", "data", "image_size", "latents", "steps", "batch_size", "metrics"):
        assert config[key] == plain[key], key
    config.backbone.weights = "random" if config.backbone.name == "vgg16" else ""
    system = make_system(config, image_shape(config))
    assert set(system.rules) == set(config.optimizers)


def test_cross_entropy_has_a_gradient_everywhere():
    """Its decoder ends in a sigmoid: also far on the wrong side pixels pull with their whole difference."""
    decoder = load_config(f"{ROOT}/configs/losses_celeba.py:bce").decoder
    assert decoder.sigmoid and "sigmoid" not in load_config(f"{ROOT}/configs/losses_celeba.py:l2").decoder
    z, shape = jax.random.normal(jax.random.key(0), (2, 5)), (16, 16, 3)
    linear, ours = (DECODERS["celeba"](shape, decoder.slope, sigmoid) for sigmoid in (False, True))
    variables = ours.init(jax.random.key(1), z)
    np.testing.assert_allclose(ours.apply(variables, z), jax.nn.sigmoid(linear.apply(variables, z)), rtol=1e-6)
    gradient = jax.grad(lambda logits: bce(jnp.ones((1, *shape)), jax.nn.sigmoid(logits))[0])(
        jnp.full((1, *shape), -9.0)
    )
    np.testing.assert_allclose(gradient, jax.nn.sigmoid(-9.0) - 1, rtol=1e-4)
