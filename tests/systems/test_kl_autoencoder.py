"""Latent diffusion's autoencoder: each player's own rule, with an adaptive weight, in one forward pass."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.checks import ROOT, assert_gradients, convolutions
from ml_collections import ConfigDict

from vae_jax.backbones import BACKBONES
from vae_jax.cli import load_config
from vae_jax.config import to_json
from vae_jax.errors import UserError
from vae_jax.inference import Model, load_workdir
from vae_jax.losses.lpips import LPIPS
from vae_jax.models import DECODERS, ENCODERS
from vae_jax.models.latent_diffusion import LatentDiffusionDecoder, LatentDiffusionEncoder
from vae_jax.models.patchgan import PatchDiscriminator
from vae_jax.state import init_state
from vae_jax.systems import make_system
from vae_jax.systems.kl_autoencoder import adaptive_weight, with_gradient
from vae_jax.train import train
from vae_jax.train_step import make_train_step

KEY = jax.random.key(3)
BATCH, START = 3, 4
PLAYERS = ("autoencoder", "discriminator")
SHAPE = (32, 36, 3)


def config_of() -> ConfigDict:
    """The smoke config with other weights."""
    config = load_config(f"{ROOT}/configs/kl_autoencoder.py:smoke")
    config.terms.l1.weight, config.terms.lpips.weight, config.terms.kl.weight = 0.17, 0.06, 0.03
    config.terms.adversarial.update(weight=0.8, start=START)
    return config


class Step:
    """A system whose players move by SGD at rate 1, in float64: `at` (step, params) is compiled once."""

    def __init__(self):
        images = np.random.default_rng(0).uniform(size=(BATCH, *SHAPE)).astype(np.float32)
        self.batch = {"image": images.astype(np.float64)}
        self.system = make_system(config_of(), SHAPE)
        optimizers = dict.fromkeys(PLAYERS, optax.sgd(1.0, momentum=0.9))
        state = jax.eval_shape(lambda: init_state(self.system, optimizers, KEY, self.batch, ema=False))
        params, stats, self.frozen = filled((state.params, state.stats, jax.eval_shape(self.system.frozen)))
        params["autoencoder"]["logvar"] = np.float64(1.3)
        rested = jax.tree.map(lambda leaf: np.zeros(leaf.shape), state.opt_state)
        self.state = state._replace(params=params, stats=stats, opt_state=rested, skipped=np.int32(0))
        self.step = jax.jit(make_train_step(self.system, optimizers))

    def at(self, step: int, params=None):
        with jax.enable_x64(True):
            state = self.state._replace(step=np.int32(step), params=params or self.state.params)
            return jax.device_get(self.step(state, self.frozen, self.batch, KEY))


def filled(shapes):
    """Numbers that keep activations alive: kernels by their inputs, everything else near 0, scales and heads near 1."""
    rng = np.random.default_rng(1)

    def fill(path, leaf):
        values = rng.uniform(-1, 1, leaf.shape) * np.sqrt(6 / max(1, np.prod(leaf.shape[:-1])))
        near_one = leaf.ndim == 1 and ("heads" in str(path) or str(path[-1].key) in ("scale", "var"))
        return values if leaf.ndim > 1 else near_one + rng.uniform(0, 0.2, leaf.shape)

    return jax.tree_util.tree_map_with_path(fill, shapes)


first = functools.cache(Step)


def lpips_by_hand(frozen, x, xhat):
    """The taps' means over pixels of the heads' weighted squared differences of unit vectors, summed: [B, 1, 1, 1]."""
    taps, total = LPIPS["alex"].taps, 0.0
    unit = lambda f: f / (jnp.linalg.norm(f, axis=-1, keepdims=True) + 1e-10)  # noqa: E731
    a, b = (BACKBONES["alexnet"].apply(frozen["lpips"]["backbone"], images, taps) for images in (x, xhat))
    for tap in taps:
        total += jnp.mean((unit(a[tap]) - unit(b[tap])) ** 2 @ frozen["lpips"]["heads"][tap], axis=(1, 2))
    return total.reshape(-1, 1, 1, 1).astype("float64")


def by_hand(s: Step, params, frozen):
    """The losses of the released code, written out, and a jax.grad of each: {player: gradients}, lambda, nll."""
    x, small = s.batch["image"], {"width": 4, "multipliers": (1, 1), "blocks": 0}
    encoder, decoder = LatentDiffusionEncoder(4, **small), LatentDiffusionDecoder(SHAPE, **small)
    discriminator = PatchDiscriminator(4, layers=1)

    def apply(network, part, tree, *inputs):
        variables = {"params": tree, **s.state.stats.get(part, {})}
        return network.apply(variables, *inputs, True, mutable=["batch_stats"])[0]

    def forward(own):
        mean, logvar = apply(encoder, "encoder", own["encoder"], x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(jax.random.fold_in(KEY, START), mean.shape)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1 - logvar) / BATCH
        return apply(decoder, "decoder", own["decoder"], z), kl

    def logits(own, images):
        return apply(discriminator, "discriminator", own, images)["logits"]

    def losses(own):
        xhat, kl = forward(own)
        rec = 0.17 * jnp.abs(x - xhat) + 0.06 * lpips_by_hand(frozen, x, xhat)  # LPIPS is spread over [B, H, W, C]
        nll = jnp.sum(rec / jnp.exp(own["logvar"]) + own["logvar"]) / BATCH
        return jnp.stack([nll, -jnp.mean(logits(params["discriminator"], xhat)), kl])

    def of_kernel(kernel):
        tree = params["autoencoder"]["decoder"]
        tree = tree | {"image": tree["image"] | {"kernel": kernel}}
        return losses(params["autoencoder"] | {"decoder": tree})[:2]

    of_nll, of_g = jax.jacrev(of_kernel)(params["autoencoder"]["decoder"]["image"]["kernel"])
    d_weight = jnp.clip(jnp.sqrt(jnp.sum(of_nll**2)) / (jnp.sqrt(jnp.sum(of_g**2)) + 1e-4), 0, 1e4)
    fakes = forward(params["autoencoder"])[0]

    def hinge(own):
        real, fake = logits(own, x), logits(own, fakes)
        return 0.5 * (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake)))

    weighted = lambda own: losses(own) @ jnp.stack([1.0, 0.8 * d_weight, 0.03])  # noqa: E731
    gradients = {"autoencoder": jax.grad(weighted)(params["autoencoder"])}
    return (
        gradients | {"discriminator": jax.grad(hinge)(params["discriminator"])},
        d_weight,
        losses(params["autoencoder"])[0],
    )


def test_every_player_descends_on_its_own_loss():
    """To 1e-6 of the largest entry, in float64; backbones compute in float32, which the tolerance allows for."""
    s = first()
    after, scalars = s.at(START)
    with jax.enable_x64(True):
        oracle = jax.jit(functools.partial(by_hand, s))
        expected, d_weight, nll = jax.device_get(oracle(s.state.params, s.frozen))
    assert scalars["finite"] == 1 and scalars["discriminator_enters"] == 1
    assert 0 < d_weight < 1e4
    np.testing.assert_allclose(scalars["adaptive_weight"], d_weight, rtol=1e-6)
    np.testing.assert_allclose(scalars["nll"], nll, rtol=1e-6)
    for player in PLAYERS:
        moved = jax.tree.map(lambda old, new: old - new, s.state.params[player], after.params[player])
        assert_gradients(moved, expected[player], rtol=0, atol=1e-6)


def same(old, new) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))


@pytest.mark.parametrize("step", [0, START - 1, START])
def test_the_discriminator_before_and_after_it_enters(step):
    """Before, it and its optimiser rest, and the autoencoder's update does not depend on it, bit for bit."""
    s = first()
    other = s.state.params | {"discriminator": jax.tree.map(lambda w: 1.5 * w, s.state.params["discriminator"])}
    (after, scalars), (changed, theirs) = s.at(step), s.at(step, other)
    assert scalars["adversarial"] != theirs["adversarial"] and scalars["adaptive_weight"] != theirs["adaptive_weight"]
    early = step < START
    assert same(after.params["autoencoder"], changed.params["autoencoder"]) == early
    assert same(after.opt_state["autoencoder"], changed.opt_state["autoencoder"]) == early
    assert same(s.state.params["discriminator"], after.params["discriminator"]) == early
    assert same(s.state.opt_state["discriminator"], after.opt_state["discriminator"]) == early
    assert scalars["updated/discriminator"] == (not early) and scalars["updated/autoencoder"] == 1
    assert not same(s.state.params["autoencoder"], after.params["autoencoder"])


def test_adaptive_weight_by_hand():
    """Kernel [1, 1, 2, 1] of a layer k . h = 3 k1 + 4 k2 of one pixel: where the loss of the pixel has slope 2 and g
    slope -0.5, the gradients are (6, 8) and (-1.5, -2) with norms 10 and 2.5."""
    h = jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(adaptive_weight(2 * h, -0.5 * h, 1e4), 10 / (2.5 + 1e-4), rtol=1e-6)
    np.testing.assert_allclose(adaptive_weight(2 * h, 0 * h, 1e4), 1e4)  # 10 / 1e-4 is cut off
    np.testing.assert_allclose(adaptive_weight(0.01 * h, 0 * h, 1e4), 0.05 / 1e-4, rtol=1e-6)
    assert adaptive_weight(0 * h, h, 1e4) == 0
    np.testing.assert_allclose(adaptive_weight(2 * h, -0.5 * h, 3.0), 3)
    assert not jax.grad(lambda h: adaptive_weight(2 * h, h, 1e4))(h).any()


def test_a_value_with_a_known_gradient():
    """x y^2 of x = 2, y = 3, said to be 5 with the gradient 7 with respect to x and none with respect to y."""
    value, gradients = jax.value_and_grad(lambda x, y: 10 * with_gradient(5 + 0 * y, 7 + 0 * x, x), (0, 1))(2.0, 3.0)
    assert value == 50 and gradients == (70, 0)


def test_nothing_is_computed_twice():
    """Convolutions of one step: n of encoder, decoder (four where it doubles the image, once) and AlexNet, and of the
    discriminator for either kind of image.

    Forward, and AlexNet for two images; backward for weights and inputs, but for images, and in AlexNet for the
    reconstruction alone; through the discriminator once to the reconstruction, and for its weights from both kinds;
    the last layer's weights twice more for the adaptive weight. Four in place of one back through the encoder's halving
    and through the discriminator's to the reconstruction; none for the weights of the map, a matrix product for either
    kind.
    """
    s, kernels = first(), lambda tree: sum(leaf.ndim == 4 for leaf in jax.tree.leaves(tree))
    encoder, decoder = (kernels(s.state.params["autoencoder"][name]) for name in ("encoder", "decoder"))
    decoder += 3
    discriminator, alexnet = kernels(s.state.params["discriminator"]), kernels(s.frozen["lpips"]["backbone"])
    forward = encoder + decoder + 2 * alexnet + 2 * discriminator
    backward = (2 * encoder - 1) + 2 * decoder + alexnet + discriminator + 2 * (2 * discriminator - 1) + 2
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(s.step)(s.state, s.frozen, s.batch, KEY).jaxpr
    assert len(list(convolutions(jaxpr))) == forward + backward + 2 * 3 - 2


def test_mistakes_in_the_config(monkeypatch):
    def fails(match, change):
        config = load_config(f"{ROOT}/configs/kl_autoencoder.py:smoke")
        with config.unlocked():
            change(config)
        with pytest.raises(UserError, match=match):
            make_system(config, (32, 32, 3))

    fails(
        "needs the term adversarial: it takes kl, adversarial and image", lambda c: c.terms.__delitem__("adversarial")
    )
    fails("needs the term kl", lambda c: c.terms.__delitem__("kl"))
    fails("needs an image term besides kl", lambda c: [c.terms.__delitem__(name) for name in ("l1", "lpips")])
    fails("adversarial has no options", lambda c: c.terms.adversarial.update(ConfigDict({"saturating": True})))
    fails("32x32 cannot be encoded: .*multiples of 64", lambda c: c.encoder.update(multipliers=(1,) * 7))
    monkeypatch.setitem(DECODERS, "celeba", ENCODERS["celeba"])  # a network that names no last layer
    fails("The decoder celeba does not name its `last_layer`", lambda c: c.__setattr__("decoder", {"name": "celeba"}))


@pytest.mark.parametrize(
    ("variant", "latents", "name"),
    [
        ("", (8, 8, 4), "kl_autoencoder"),
        ("f4", (16, 16, 3), "kl_autoencoder_f4"),
        ("celeba,128", (100,), "kl_autoencoder_celeba_128"),
    ],
)
def test_variants(variant, latents, name):
    """Also for a config read back from its JSON, which has no tuples."""
    config = ConfigDict(json.loads(to_json(load_config(f"{ROOT}/configs/kl_autoencoder.py:{variant}"))))
    system = make_system(config, (config.image_size, config.image_size, 3))
    assert (system.latent_shape, config.name, system.prior) == (latents, name, False)
    adversarial = system.rules["autoencoder"]["adversarial"]
    assert [float(adversarial(step)) for step in (0, 50_000, 50_001)] == [0, 0, 0.5]
    assert math.isclose(config.optimizers.autoencoder.learning_rate, 32 * 4.5e-6)


def test_from_training_to_a_model(tmp_path):
    """Four steps with latents in a vector and s held; the discriminator sits out two. The workdir then decodes."""
    config = load_config(f"{ROOT}/configs/kl_autoencoder.py:celeba,smoke")
    config.latents, config.steps_per_call, config.log_every, config.learn_logvar = 5, 1, 1, False
    workdir = tmp_path / "run"
    metrics = train(config.lock(), str(workdir))
    assert np.isfinite([metrics["mse"], metrics["kl"]]).all() and metrics["kl"] > 0
    run = load_workdir(workdir)
    assert run.state.params["autoencoder"]["logvar"] == 0
    model = Model(run)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    mean, logvar = model.encode(images)
    assert mean.shape == logvar.shape == (2, 5) and not model.has_prior
    np.testing.assert_allclose(model.decode(mean), model.reconstruct(images), atol=1e-6)
    lines = [json.loads(line) for line in (workdir / "scalars.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "nll" in line]
    assert [line["updated/discriminator"] for line in steps] == [0, 0, 1, 1]
    assert all(0 < line["adaptive_weight"] <= 1e4 for line in steps)
