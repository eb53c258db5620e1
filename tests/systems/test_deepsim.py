"""DeePSiM: each player's own rule, the balance rules on scripted losses, all three applications."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.checks import ROOT, assert_gradients, convolutions

from vae_jax.backbones import BACKBONES
from vae_jax.cli import load_config
from vae_jax.errors import UserError
from vae_jax.models.deepsim import DeepsimConvGenerator, DeepsimDecoder, DeepsimDiscriminator, DeepsimEncoder
from vae_jax.state import flatten, init_state
from vae_jax.systems import make_system
from vae_jax.systems.deepsim import balance
from vae_jax.train_step import make_train_step
from vae_jax.weights.files import save_weights

KEY = jax.random.key(3)
BATCH, SCALE = 3, 1 / 16
RULES = {
    "generator": {"adversarial": 0.7, "feature": 0.01, "l2": 0.3},
    "discriminator": {"discrimination": 0.7},
}


def config_of(name: str):
    """A smoke config with narrow networks and other weights, nothing trained, no gate."""
    config = load_config(f"{ROOT}/configs/{name}")
    config.decoder.scale = config.discriminator.scale = SCALE
    if "encoder" in config and "scale" in config.encoder:
        config.encoder.scale = SCALE
    for term, weight in RULES["generator"].items():
        config.terms[term].weight = weight
    config.gate.stop = 0.0
    return config


@functools.cache
def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(BATCH, height, width, 3)).astype(np.float32).astype(np.float64)


def in_float64(tree):
    return jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, jax.device_get(tree))


def by_hand(params, frozen, inverting: bool, shape):
    """A jax.grad per player of the paper's equations (1), (3), (4), (5), with half of no sum: squared norms."""
    y, (_, dropout_key) = images(*shape[:2]), jax.random.split(jax.random.fold_in(KEY, 0))
    encoder, discriminator = DeepsimEncoder(8, SCALE), DeepsimDiscriminator(scale=SCALE)
    decoder = DeepsimConvGenerator(shape, SCALE) if inverting else DeepsimDecoder(shape, SCALE)
    tap = "pool5" if inverting else "relu3"
    phi = lambda x: BACKBONES["alexnet"].apply(frozen["backbone"], x, (tap,))[tap].astype("float64")  # noqa: E731
    inverted = lambda x: BACKBONES["alexnet"].apply(frozen["inverted"], x, ("pool5",))["pool5"]  # noqa: E731

    def loss(own, player):
        networks = params | {player: own}
        generator = networks["generator"]
        x = inverted(y) if inverting else encoder.apply({"params": generator["encoder"]}, y, True)
        g = decoder.apply({"params": generator["decoder"]}, x, True)
        real, fake = (
            jax.nn.sigmoid(discriminator.apply(
                {"params": networks["discriminator"]}, seen, True, x if inverting else None, rngs={"dropout": key}
            )["logits"])
            for seen, key in zip((y, g), jax.random.split(dropout_key), strict=True)
        )  # fmt: skip
        if player == "discriminator":
            return 0.7 * jnp.mean(-jnp.log(real) - jnp.log(1 - fake))
        features, pixels = jnp.sum((phi(g) - phi(y)) ** 2) / BATCH, jnp.sum((g - y) ** 2) / BATCH
        return 0.01 * features + 0.7 * jnp.mean(-jnp.log(fake)) + 0.3 * pixels

    return {player: jax.grad(loss)(params[player], player) for player in params}


@pytest.mark.parametrize(
    ("name", "shape"),
    [("deepsim_ae_stl10.py:smoke", (64, 72, 3)), ("deepsim_invert_alexnet.py:conv5,smoke", (64, 64, 3))],
)
def test_every_player_descends_on_its_own_loss(name, shape):
    """To 1e-6 of the largest entry, in float64; backbones compute in float32, which the test's tolerance allows for."""
    config, batch = config_of(name), {"image": images(*shape[:2])}
    system, optimizers = make_system(config, shape), dict.fromkeys(RULES, optax.sgd(1.0))
    assert system.rules == RULES
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), batch, ema=False))()
    frozen = system.frozen()
    with jax.enable_x64(True):
        state, frozen = in_float64(state), in_float64(frozen)
        after, scalars = jax.jit(make_train_step(system, optimizers))(state, frozen, batch, KEY)
        expected = jax.jit(lambda p, f: by_hand(p, f, config.system == "inversion", shape))(state.params, frozen)
        after, expected = jax.device_get((after.params, expected))
    assert float(scalars["finite"]) == 1
    for player in RULES:
        moved = jax.tree.map(lambda old, new: old - new, state.params[player], after[player])
        assert_gradients(moved, expected[player], rtol=0, atol=1e-6)


def test_one_forward_pass():
    """Thirteen convolutions of the autoencoder and three times four that double, five of the discriminator, three of
    the comparator for each image."""
    config = config_of("deepsim_ae_stl10.py:smoke")
    batch = {"image": images(64, 64)}
    system = make_system(config, (64, 64, 3))
    params, stats = jax.eval_shape(system.init, KEY, batch)
    frozen = jax.eval_shape(system.frozen)
    jaxpr = jax.make_jaxpr(system.terms)(params, stats, frozen, batch, KEY, 0).jaxpr
    assert len(list(convolutions(jaxpr))) == 13 + 3 * 4 + 2 * 5 + 2 * 3


def test_squares_alone_are_one_player():
    system = make_system(load_config(f"{ROOT}/configs/deepsim_ae_stl10.py:se,smoke"), (64, 64, 3))
    assert list(system.rules) == ["generator"] and list(system.rules["generator"]) == ["l2"]
    assert not system.prior and system.latent_shape == (8, 8, 8) and system.frozen() == {}


LOSSES = [  # discrimination, adversarial: their ratio is 1, 0.05, 0.3, 0.6, 12, 4, 0.09, 0.05, 0.55
    (1.0, 1.0), (0.1, 2.0), (0.6, 2.0), (1.2, 2.0), (6.0, 0.5), (4.0, 1.0), (0.18, 2.0), (0.1, 2.0), (1.1, 2.0),
]  # fmt: skip


def play(gate, state) -> list[str]:
    """Who is updated at each of the losses: 'g', 'd' or both."""
    moved = []
    for discrimination, adversarial in LOSSES:
        scalars = {"discrimination": jnp.float32(discrimination), "adversarial": jnp.float32(adversarial)}
        open_gates, state = gate(scalars, state)
        moved.append("".join(p[0] for p in ("generator", "discriminator") if bool(open_gates.get(p, True))))
    return moved


def test_the_papers_balance_rule():
    """The discriminator rests in every step whose ratio is below 0.1."""
    gate, first = balance(0.1)
    assert play(gate, first()) == ["gd", "g", "gd", "gd", "gd", "gd", "g", "g", "gd"]
    assert play(*[f() if i else f for i, f in enumerate(balance(0.0))]) == ["gd"] * len(LOSSES)


def test_the_released_balance_rule():
    """A step's losses decide the next step: below 0.1 only the generator is updated, until above 0.5; above 10 only the
    discriminator, until below 0.1."""
    gate, first = balance(0.1, 0.5, 10.0)
    assert play(gate, first()) == ["gd", "gd", "g", "g", "gd", "d", "d", "g", "g"]


@pytest.mark.parametrize("numbers", [(-0.1,), (0.5, 0.1, 10.0), (0.1, 0.5, 0.3), (0.1, 0.0, 3.0)])
def test_invalid_balance_rules(numbers):
    with pytest.raises(UserError, match="expected 0 <= stop < resume < rest, or stop alone"):
        balance(*numbers)


def test_a_shut_gate_leaves_the_discriminator_as_it_was():
    """Untrained, the ratio is near 2: below a stop of 100 the discriminator and its optimiser rest, bit for bit."""
    config, batch = config_of("deepsim_ae_stl10.py:smoke"), {"image": images(64, 64).astype(np.float32)}
    config.gate.stop = 100.0
    system, optimizers = make_system(config, (64, 64, 3)), dict.fromkeys(RULES, optax.adam(1e-3))
    state = jax.jit(lambda: init_state(system, optimizers, jax.random.key(0), batch, ema=False))()
    after, scalars = jax.jit(make_train_step(system, optimizers))(state, system.frozen(), batch, KEY)
    assert (float(scalars["updated/discriminator"]), float(scalars["updated/generator"])) == (0.0, 1.0)
    for player in RULES:
        old, new = (jax.tree.leaves((s.params[player], s.opt_state[player])) for s in (state, after))
        assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True)) == (player == "discriminator")


def test_weight_decay_is_a_part_of_the_gradient():
    """Caffe's: Adam of g + decay w, by hand for one step, where Adam's first step is the sign of what it is given."""
    from vae_jax.optim import make_optimizer

    config = load_config(f"{ROOT}/configs/deepsim_ae_stl10.py").optimizers.discriminator
    assert config.weight_decay == 4e-4
    optimizer = make_optimizer(config.to_dict() | {"weight_decay": 0.5}, 10)
    w, g = jnp.array([1.0, 1.0, -2.0]), jnp.array([0.1, -0.6, 0.9])
    update, _ = optimizer.update(g, optimizer.init(w), w)
    np.testing.assert_allclose(update, -2e-4 * np.sign(g + 0.5 * w), rtol=1e-4)


def test_the_published_schedule():
    from vae_jax.optim import SCHEDULES

    rate = SCHEDULES["deepsim"](2e-4, 1_000_000)
    steps, halvings = (0, 299_999, 300_001, 500_001, 700_001, 900_001), (0, 0, 1, 2, 3, 4)
    np.testing.assert_allclose([rate(step) for step in steps], 2e-4 * 0.5 ** np.array(halvings), rtol=1e-6)


def test_an_encoder_that_starts_from_imagenet(tmp_path, monkeypatch):
    """Its AlexNet holds the file's numbers, its other layers their own, and two of the three start at random."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    tree = BACKBONES["alexnet"].init(jax.random.key(5), ("relu5",))
    save_weights(tmp_path / "alexnet.safetensors", jax.tree.map(np.asarray, tree), {})
    config = load_config(f"{ROOT}/configs/deepsim_vae_imagenet.py:smoke")
    config.encoder = {"name": "alexnet", "dense": 4096}
    config.pretrained = "random_dense"
    system = make_system(config, (64, 64, 3))
    given = system.pretrained()["generator"]["encoder"]["alexnet"]
    np.testing.assert_array_equal(given["conv5"]["kernel"], tree["conv5"]["kernel"])
    assert given["fc6"]["kernel"].shape == (9216, 4096)
    shapes = jax.eval_shape(system.init, KEY, {"image": images(64, 64)})[0]
    assert {f"generator/encoder/alexnet/{k}" for k in flatten(given)} <= set(flatten(shapes))
    config.pretrained = "random"
    assert make_system(config, (64, 64, 3)).pretrained() == {}


FULL = {"feature", "l2", "adversarial"}
VARIANTS = {
    "deepsim_ae_stl10": dict.fromkeys(("alexnet", "random", "exemplar", "videonet", "caffenet"), FULL)
    | {"se": {"l2"}, "l1": {"l1"}},
    "deepsim_vae_imagenet": dict.fromkeys(("conv5", "videonet", "caffenet,64", "fc6"), FULL | {"kl"})
    | {"se": {"l2", "kl"}},
    "deepsim_invert_alexnet": dict.fromkeys(("conv5", "fc6", "fc7", "fc8,96", "fc6,random_dense"), FULL)
    | {
        "conv5,se": {"l2"},
        "no_feature": {"l2", "adversarial"},
        "no_adversarial": {"l2", "feature"},
        "no_image": FULL - {"l2"},
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    """Each makes a system of its terms and players, under a name of its own."""
    names = set()
    for variant, terms in VARIANTS[name].items():
        config = load_config(f"{ROOT}/configs/{name}.py:{variant},quick")
        system = make_system(config, (config.image_size, config.image_size, 3))
        assert set(config.terms) == terms and set(system.rules) == set(config.optimizers)
        assert ("discriminator" in system.rules) == ("adversarial" in terms) == ("gate" in config)
        names.add(config.name)
    assert len(names) == len(VARIANTS[name])


def test_untrained_dense_layers_are_in_the_name():
    config = load_config(f"{ROOT}/configs/deepsim_invert_alexnet.py:fc7,random_dense,96,quick")
    assert config.inverted.weights == "random_dense" and config.name == "deepsim_invert_alexnet_fc7_random_dense_96"


def test_mistakes_in_the_config():
    def fails(match, name, **changes):
        config = load_config(f"{ROOT}/configs/{name}")
        config.update(changes)
        with pytest.raises(UserError, match=match):
            make_system(config, (config.image_size, config.image_size, 3))

    term = {"weight": 1.0, "start": 0, "warmup": 0}
    fails("inversion does not take the term 'kl'", "deepsim_invert_alexnet.py:smoke", terms={"kl": term})
    fails("adversarial has no options", "deepsim_ae_stl10.py:smoke", terms={"adversarial": {"saturating": True}})
    fails("Images of 60x60 cannot be encoded: .*multiples of 8", "deepsim_ae_stl10.py:smoke", image_size=60)
    fails("at least 63 pixels for pool5, not 40", "deepsim_invert_alexnet.py:conv5,smoke", image_size=40)
    fails("Unknown tap 'conv5'", "deepsim_invert_alexnet.py:smoke", inverted={"tap": "conv5"})
    fails("the encoder deepsim has no AlexNet. Set it to 'random'", "deepsim_ae_stl10.py:smoke", pretrained="")
    fails("The gate has no option 'low'", "deepsim_ae_stl10.py:smoke", gate={"low": 1.0})
