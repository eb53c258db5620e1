"""Reconstruction terms as densities: by scipy's distributions, by quadrature, and the ELBO of a VAE by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import value_and_gradient
from jax.sharding import AxisType
from scipy.integrate import quad
from scipy.special import logit
from scipy.stats import laplace, multivariate_normal, norm

from vae_jax.config import image_shape
from vae_jax.data import load_dataset
from vae_jax.data.contract import in_memory
from vae_jax.errors import UserError
from vae_jax.evaluate import make_evaluate
from vae_jax.experiment import make_experiment
from vae_jax.losses.densities import continuous_bernoulli_nll, gaussian_nll, laplace_nll
from vae_jax.losses.kl import kl
from vae_jax.runtime.sharding import replicated
from vae_jax.systems import make_system
from vae_jax.systems.likelihoods import elbo, make_likelihoods, sampled_nll
from vae_jax.systems.networks import noise_by_index


def summed(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).sum(axis=1)


def weighted(gradient: np.ndarray) -> np.ndarray:
    """The gradient of the sum that `value_and_gradient` takes."""
    return gradient * np.arange(1, len(gradient) + 1).reshape(-1, 1, 1, 1)


def test_gaussian_by_scipy(images):
    target, recon = images
    value, gradient = value_and_gradient(lambda x, y: gaussian_nll(x, y, 0.04), target, recon)
    np.testing.assert_allclose(value, -summed(norm.logpdf(target, recon, 0.2)), rtol=1e-5)
    np.testing.assert_allclose(gradient, weighted((recon - target) / 0.04), rtol=1e-5, atol=1e-5)


def test_laplace_by_scipy(images):
    target, recon = images
    value, gradient = value_and_gradient(lambda x, y: laplace_nll(x, y, 0.3), target, recon)
    np.testing.assert_allclose(value, -summed(laplace.logpdf(target, recon, 0.3)), rtol=1e-5)
    np.testing.assert_allclose(gradient, weighted(np.sign(recon - target) / 0.3), rtol=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 3.0])
def test_continuous_bernoulli_by_quadrature(images, ratio):
    """exp(-ratio bce) over its integral; the gradient by the mean, which is quadrature's as well. In float64."""
    target, recon = (np.float64(x[:1, :2, :3]) for x in images)
    recon[0, 0, 0] = [0.5, 0.5 + 1e-4, 0.501]  # where the closed form is 0 / 0, and close to it
    expected, slope = np.empty_like(target), np.empty_like(target)
    for index in np.ndindex(*target.shape):
        x, eta = target[index], ratio * logit(recon[index])
        mass = quad(lambda t: np.exp(eta * t), 0, 1)[0]  # noqa: B023
        mean = quad(lambda t: t * np.exp(eta * t), 0, 1)[0] / mass  # noqa: B023
        expected[index] = np.log(mass) - eta * x
        slope[index] = (mean - x) * ratio / (recon[index] * (1 - recon[index]))
    with jax.enable_x64(True):
        value, gradient = value_and_gradient(lambda x, y: continuous_bernoulli_nll(x, y, ratio), target, recon)
    np.testing.assert_allclose(value, summed(expected), rtol=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7)


def test_continuous_bernoulli_at_the_ends():
    ends = np.array([0.0, 1.0, 0.0, 1.0], np.float32).reshape(1, 2, 2, 1)
    for recon in (ends, 1 - ends, np.full_like(ends, 0.5)):
        value, gradient = value_and_gradient(continuous_bernoulli_nll, ends, recon)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()


TERMS = {
    "l2": {"weight": 3.0, "reduction": "sum"},
    "l1": {"weight": 3.0},
    "bce": {"weight": 1.0},
    "gaussian": {"weight": 1.0, "sigma": 0.3},
    "adaptive": {"weight": 1.0, "representation": "wavelet", "scale": 0.2},
}


def config_with(smoke, name: str, kl_weight: float = 1.0, **options):
    config = smoke("vae_mnist")
    del config.terms.bce
    config.terms.kl.weight = kl_weight
    config.terms[name] = {"start": 0, "warmup": 0} | TERMS[name] | options
    return config


@pytest.mark.parametrize("name", ["l2", "l1", "bce"])
def test_the_loss_is_an_elbo(smoke, images, name):
    """kl_weight (KL - log p) and the loss differ by a constant; for bce by a normaliser only."""
    target, recon = images
    config = config_with(smoke, name, kl_weight=0.5)
    nll = make_likelihoods(config).nll(None, target, recon)
    term = {"l2": np.square, "l1": np.abs}.get(name, lambda r: 0 * r)(np.float64(recon - target))
    if name == "bce":
        assert np.all(nll < 2 * summed(-target * np.log(recon) - (1 - target) * np.log(1 - recon)))
        return
    rest = 0.5 * nll - 3.0 * summed(term)
    np.testing.assert_allclose(rest, rest[0], rtol=1e-4)
    mean = config_with(smoke, name, kl_weight=0.5, weight=3.0 * target[0].size, reduction="mean")
    np.testing.assert_allclose(make_likelihoods(mean).nll(None, target, recon), nll, rtol=1e-5)


def test_losses_that_are_not_an_elbo(smoke):
    """Two terms, features, and squared errors without KL."""
    config = config_with(smoke, "l2")
    config.terms.l1 = TERMS["l1"] | {"start": 0, "warmup": 0}
    assert make_likelihoods(config).nll is None
    assert make_likelihoods(config_with(smoke, "l2", kl_weight=0.0)).nll is None
    assert make_likelihoods(smoke("dfc_celeba")).nll is None


def test_bits_per_dimension():
    """The uniform density over [0, 1] takes 8 bits; one that is twice as dense takes 7."""
    values = elbo(jnp.array([0.0, -60 * np.log(2)]), jnp.zeros(2), (4, 5, 3))
    np.testing.assert_allclose(values["bits_per_dimension"], [8, 7], rtol=1e-6)
    np.testing.assert_allclose(values["elbo"], [0, 60 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("name", list(TERMS))
def test_a_vae_is_judged_by_its_elbo(smoke, name):
    """log p of an image decoded from one draw, minus KL, from the system's own pieces; learnt parameters move."""
    config = config_with(smoke, name)
    shape = image_shape(config)
    system = make_system(config.lock(), shape)
    batch = {"image": np.random.default_rng(0).uniform(size=(3, *shape)).astype(np.float32)}
    params, stats = jax.jit(system.init)(jax.random.key(0), batch)
    index = np.array([7, 0, 41], np.int32)
    _, values = jax.jit(system.evaluate)(params, stats, {}, batch | {"index": index})
    mean, logvar = jax.jit(system.encode)(params, stats, {}, batch["image"])
    z = mean + jnp.exp(logvar / 2) * noise_by_index(index, 0, mean.shape[1:])
    recon = jax.jit(system.decode)(params, stats, z)
    learnt = params["vae"].get("likelihood")
    expected = -make_likelihoods(config).nll(learnt, batch["image"], recon) - kl(mean, logvar)
    np.testing.assert_allclose(values["elbo"], expected, rtol=1e-4)
    assert (learnt is None) == (name in ("l2", "l1", "bce"))
    if name == "gaussian":
        by_hand = summed(norm.logpdf(batch["image"], recon, 0.3)) - kl(mean, logvar)
        np.testing.assert_allclose(values["elbo"], by_hand, rtol=1e-4)
    if learnt is not None:
        key = jax.random.key(1)
        cost = lambda p: system.terms(p, stats, {}, batch, key, 0)[0][name]  # noqa: E731
        gradient = jax.jit(jax.grad(cost))(params)["vae"]["likelihood"]
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


W = np.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1]])  # of a linear model: x = W z + noise of standard deviation NOISE
NOISE, X = 0.7, np.array([0.4, -1.2, 0.9])


def linear(samples: int, examples: int):
    """(mean nll, bounds, mean, logvar) of one x, judged as so many examples, with a q that is not the posterior."""
    mean, logvar = (np.tile(row, (examples, 1)) for row in ([0.3, -0.6], [-0.4, -1.0]))
    nll = lambda z: -jnp.sum(jax.scipy.stats.norm.logpdf(X, z @ W.T, NOISE), axis=1)  # noqa: E731
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        found = sampled_nll(nll, jnp.asarray(mean), jnp.asarray(logvar), jnp.arange(examples), samples)
    return *jax.device_get(found), mean, logvar


def test_the_importance_weighted_bound_by_hand():
    """Three samples of two examples by scipy; one sample gives the ELBO's alone, and is the first of three."""
    cost, bounds, mean, logvar = linear(3, 2)
    with jax.enable_x64(True):
        noise = np.stack([noise_by_index(jnp.arange(2), k, (2,)) for k in range(3)])
    z = mean + np.exp(logvar / 2) * noise
    log_p = norm.logpdf(X, z @ W.T, NOISE).sum(axis=2)
    weights = log_p + norm.logpdf(z).sum(axis=2) - norm.logpdf(z, mean, np.exp(logvar / 2)).sum(axis=2)
    np.testing.assert_allclose(cost, -log_p.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(bounds["iwae_3"], np.log(np.exp(weights).mean(axis=0)), rtol=1e-10)
    alone, none, *_ = linear(1, 2)
    np.testing.assert_allclose(alone, -log_p[0], rtol=1e-10)
    assert not none and set(bounds) == {"iwae_3"}


def test_more_samples_bound_log_p_more_tightly():
    """In a linear model log p(x) is known; means over 2,000 draws, whose standard errors are below 0.01 nats."""
    exact = multivariate_normal.logpdf(X, np.zeros(3), W @ W.T + NOISE**2 * np.eye(3))
    cost, _, mean, logvar = linear(1, 2000)
    found = [np.mean(-cost - kl(mean[:1], logvar[:1]))]
    found += [np.mean(linear(samples, 2000)[1][f"iwae_{samples}"]) for samples in (2, 8, 64)]
    assert all(np.diff(found) > 0.03) and found[0] < exact - 0.2
    assert found[-1] == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("name, samples", [("vae_mnist", 2), ("blur_vae_mnist", 1)])
def test_noise_belongs_to_the_example(smoke, name, samples):
    """Any size of the batches and any number of devices give an example the same values; copies of it differ."""
    config = smoke(name)
    config.elbo_samples = samples
    experiment = make_experiment(config.lock(), image_shape(config), labelled=False)
    images = load_dataset(config, "test").arrays["image"][:20]
    dataset = in_memory(np.concatenate([images, images[:1]]))

    def values(batch_size, devices):
        mesh = jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])
        state = jax.device_put(jax.jit(experiment.init)(), replicated(mesh))
        return make_evaluate(experiment.system, dataset, mesh, batch_size, ("mse",))(state, {})

    expected = values(21, 1)
    assert {"elbo", "bits_per_dimension", *(["iwae_2"] if samples == 2 else ["wiener"])} <= set(expected)
    assert abs(expected["elbo"][0] - expected["elbo"][20]) > 1e-3
    assert len(set(expected["elbo"])) == 21
    for batch_size, devices in ((7, 1), (8, 4)):
        found = values(batch_size, devices)
        for metric in expected:
            np.testing.assert_allclose(found[metric], expected[metric], rtol=2e-5, atol=2e-5, err_msg=metric)


def test_mistakes(smoke):
    for name in ("dfc_mnist", "vaegan_mnist"):
        config = smoke(name)
        config.elbo_samples = 5
        with pytest.raises(UserError, match="elbo_samples is 5, but the loss of this vae.* is not an ELBO"):
            make_experiment(config, image_shape(config), labelled=False)
    with pytest.raises(UserError, match="terms.gaussian.sigma is 0.0; expected a standard deviation above 0"):
        make_likelihoods(config_with(smoke, "gaussian", sigma=0.0))
    with pytest.raises(UserError, match="The term adaptive has no option 'scales'"):
        make_likelihoods(config_with(smoke, "adaptive", scales=1.0))
    config = smoke("vaegan_celeba")
    config.terms.gaussian = {"weight": 1.0, "start": 0, "warmup": 0}
    with pytest.raises(UserError, match="Unknown term 'gaussian'|vae_gan does not take the term 'gaussian'"):
        make_system(config, image_shape(config))
