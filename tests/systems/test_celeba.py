"""The DFC-VAE on colour images: its networks, running statistics, perceptual terms, variants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import ROOT, convolutions

from vae_jax import load_model
from vae_jax.cli import load_config
from vae_jax.config import image_shape
from vae_jax.errors import UserError
from vae_jax.experiment import check_shapes, make_experiment
from vae_jax.inference import load_workdir
from vae_jax.models.celeba import CelebaDecoder, CelebaEncoder
from vae_jax.train import train
from vae_jax.train_step import to_float


def config_of(name: str):
    return load_config(f"{ROOT}/configs/{name}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A smoke run through an untrained VGG16 (32x32 pixels), relu1_1 only."""
    workdir = tmp_path_factory.mktemp("runs") / "dfc"
    config = config_of("dfc_celeba.py:smoke")
    config.backbone.name = "vgg16"
    config.steps_per_call = 1
    config.terms.feature.taps, config.terms.feature.tap_weights = ("relu1_1",), (1.0,)
    return workdir, train(config.lock(), str(workdir))


@pytest.mark.parametrize(("size", "widths"), [(64, (32, 64, 128, 256)), (128, (32, 64, 128, 256, 256))])
def test_networks_are_the_authors(size, widths):
    """Widths and sizes of the authors' code at both sizes; decoder 256 or 512 at 4x4, halved to 32."""
    images, z = jnp.zeros((2, size, size, 3)), jnp.zeros((2, 100))
    encoder = jax.eval_shape(lambda: CelebaEncoder(100).init(jax.random.key(0), images))["params"]
    decoder = jax.eval_shape(lambda: CelebaDecoder((size, size, 3)).init(jax.random.key(0), z))["params"]
    kernels = lambda tree: [tree[name]["kernel"].shape for name in sorted(tree) if name.startswith("conv")]  # noqa: E731
    assert kernels(encoder) == [(4, 4, i, o) for i, o in zip((3, *widths), widths, strict=False)]
    assert encoder["mean"]["kernel"].shape == (4096, 100)
    first = {64: 256, 128: 512}[size]
    assert decoder["dense"]["kernel"].shape == (100, 16 * first)
    down = [first // 2**i for i in range(len(widths))]
    assert kernels(decoder) == [(3, 3, i, o) for i, o in zip(down, down[1:], strict=False)]
    assert decoder["image"]["kernel"].shape == (3, 3, 32, 3)


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"8, 16, 32, 64, 128 \.+ pixels, not 48x48"):
        jax.eval_shape(lambda: CelebaEncoder(5).init(jax.random.key(0), jnp.zeros((1, 48, 48, 3))))
    config = config_of("vae_celeba.py")
    config.image_size = 48
    with pytest.raises(UserError, match="do not fit together.*not 48x48$"):
        experiment = make_experiment(config.lock(), image_shape(config), labelled=False)
        check_shapes(config, experiment, {})


def test_initialisation_of_the_authors():
    """Convolutions N(0, 0.02^2), BatchNorm scale N(1, 0.02^2) and bias 0, dense U(-1, 1) / sqrt(4096)."""
    params = jax.jit(CelebaEncoder(100).init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    np.testing.assert_allclose(params["conv4"]["kernel"].std(), 0.02, rtol=0.01)
    assert abs(float(params["norm4"]["scale"].mean()) - 1) < 0.01
    np.testing.assert_allclose(params["norm4"]["scale"].std(), 0.02, rtol=0.15)
    assert not params["norm4"]["bias"].any() and "bias" not in params["conv4"]
    np.testing.assert_allclose(np.abs(params["mean"]["kernel"]).max(), 1 / 64, rtol=0.01)


def test_running_statistics_move_and_are_used(finished):
    """After a run they are no longer 0 and 1, and a reconstruction does not depend on its batch."""
    workdir, metrics = finished
    assert np.isfinite(metrics["feature"]) and metrics["kl"] > 0
    stats = load_workdir(workdir).state.stats
    norm = stats["encoder"]["batch_stats"]["norm1"]
    assert np.abs(norm["mean"]).max() > 0 and np.abs(norm["var"] - 1).max() > 0.01
    model = load_model(workdir)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    together = np.asarray(model.reconstruct(images))
    np.testing.assert_allclose(model.reconstruct(images[:1]), together[:1], atol=1e-5)
    assert together.min() >= 0 and together.max() <= 1


def test_momentum_is_torchs():
    """One step: running = 0.9 * 1 + 0.1 * variance of the batch (torch's momentum 0.1)."""
    encoder, images = CelebaEncoder(2), jax.random.uniform(jax.random.key(1), (6, 8, 8, 1))
    variables = encoder.init(jax.random.key(0), images)
    _, new = encoder.apply(variables, images, True, mutable=["batch_stats"])
    kernel = variables["params"]["conv1"]["kernel"]
    y = jax.lax.conv_general_dilated(
        images, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(new["batch_stats"]["norm1"]["var"], 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["norm1"]["mean"], 0.1 * y.mean((0, 1, 2)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["dfc_celeba.py:345,smoke", "lpips_celeba.py:smoke"])
def test_passes_through_the_perceptual_network(name):
    """Forward for target and reconstruction, backward for the reconstruction's input only: no gradient of its weights,
    none through the target; and the weights are arguments, not constants of the program."""
    config = config_of(name).lock()
    experiment = make_experiment(config, image_shape(config), labelled=False)
    frozen = jax.eval_shape(experiment.system.frozen)
    batch = to_float({"image": jnp.zeros((2, 32, 32, 3), jnp.uint8)})
    state = jax.eval_shape(experiment.init)

    def loss(params, stats, frozen):
        values, _ = experiment.system.terms(params, stats, frozen, batch, jax.random.key(0), 0)
        return sum(values.values())

    jaxpr = jax.make_jaxpr(jax.grad(loss))(state.params, state.stats, frozen).jaxpr
    large = (3, 3, 512, 512)  # the kernels of the last two blocks, which no other network has
    kernels = {large, (3 * 3 * 512, 512)}  # of convolutions, and of the products of patches in their place
    found = [e for e in convolutions(jaxpr) if kernels & {v.aval.shape for v in (*e.invars, *e.outvars)}]
    layers = sum(leaf.shape == large for leaf in jax.tree.leaves(frozen))
    assert layers > 0 and len(found) == 3 * layers
    assert not any(leaf.size > 10_000 for leaf in jax.make_jaxpr(loss)(state.params, state.stats, frozen).consts)


def test_bfloat16_is_an_option():
    config = config_of("dfc_celeba.py:smoke")
    config.backbone.dtype = "bfloat16"
    experiment = make_experiment(config.lock(), image_shape(config), labelled=False)
    frozen = jax.eval_shape(experiment.system.frozen)
    assert {leaf.dtype for leaf in jax.tree.leaves(frozen)} == {jnp.dtype("bfloat16")}
    state, batch = jax.eval_shape(experiment.init), {"image": jnp.zeros((2, 32, 32, 3))}
    values, _ = jax.eval_shape(
        lambda p, s, f: experiment.system.terms(p, s, f, batch, jax.random.key(0), 0), state.params, state.stats, frozen
    )
    assert {value.dtype for value in values.values()} == {jnp.dtype("float32")}
    config = config_of("dfc_celeba.py:smoke")
    config.backbone.dtype = "float61"
    with pytest.raises(UserError, match="Unknown backbone.dtype 'float61'"):
        make_experiment(config.lock(), image_shape(config), labelled=False)


def test_configs_that_leave_things_out():
    """lpips has a default net; a feature term needs taps."""
    config = config_of("lpips_celeba.py:smoke")
    del config.terms.lpips.net
    make_experiment(config.lock(), image_shape(config), labelled=False)
    config = config_of("dfc_celeba.py:smoke")
    del config.terms.feature.taps
    with pytest.raises(UserError, match="terms.feature.taps is empty"):
        make_experiment(config.lock(), image_shape(config), labelled=False)


def test_variants():
    assert config_of("dfc_celeba.py").terms.feature.taps == ("relu1_1", "relu2_1", "relu3_1")
    config = config_of("dfc_celeba.py:345,128")
    assert config.terms.feature.taps == ("relu3_1", "relu4_1", "relu5_1")
    assert (config.image_size, config.name) == (128, "dfc_celeba_345")
    assert config_of("facenet_celeba.py").steps == 50_000 and config_of("facenet_celeba.py:quick").steps == 1_000
    with pytest.raises(UserError, match="Unknown variant '346'"):
        config_of("dfc_celeba.py:346")


def test_a_constant_or_halved_rate():
    """Half after each fifth of the run."""
    from vae_jax.optim import SCHEDULES

    rates = [float(SCHEDULES["halving"](8.0, 100)(step)) for step in (0, 19, 20, 59, 60, 99)]
    assert rates == [8.0, 8.0, 4.0, 2.0, 1.0, 0.5]
