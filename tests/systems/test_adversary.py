"""What keeps a discriminator from winning: the formula of each option, written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.models.deepsim import DeepsimDiscriminator
from vae_jax.models.larsen import LarsenDiscriminator
from vae_jax.models.patchgan import PatchDiscriminator
from vae_jax.systems.adversary import AUGMENT, DECAY, Adversary, color, cutout, translation

KEY = jax.random.key(3)
NONE = Adversary(lecam=0.0, r1=0.0, r1_step=0.0, augment=(), head_start=0)
IMAGES = np.random.default_rng(0).uniform(size=(64, 12, 20, 3)).astype(np.float32)


def test_color_by_hand():
    brightness, saturation, contrast = jax.random.uniform(KEY, (3, 64, 1, 1, 1))
    x = IMAGES + np.asarray(brightness) / 2 - 0.25
    grey = x.mean(3, keepdims=True)
    x = grey + (x - grey) * 2 * np.asarray(saturation)
    mean = x.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(
        color(KEY, IMAGES), mean + (x - mean) * (np.asarray(contrast) + 0.5), rtol=1e-5, atol=1e-5
    )


def test_translation_moves_by_up_to_an_eighth():
    """12x20 pixels: up to 2 rows (12 / 8 + 1/2) and 3 columns either way, all of them among 64 images' draws."""
    seen, shifts = np.asarray(translation(KEY, IMAGES)), set()
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (3, 3), (0, 0)), constant_values=0.5)
    for image, wide in zip(seen, padded, strict=True):
        found = [
            (i, j) for i in range(5) for j in range(7) if np.array_equal(image, wide[i : i + 12, j : j + 20])
        ]  # fmt: skip
        assert len(found) == 1
        shifts.add(found[0])
    assert {i for i, _ in shifts} == set(range(5)) and {j for _, j in shifts} == set(range(7))


def test_cutout_hides_a_box_of_half_the_sides():
    """6x10 of 12x20 pixels where it is inside; centred at an edge, half of it; everything else stays."""
    changed = np.asarray(cutout(KEY, IMAGES)) != IMAGES
    sizes = set()
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any((1, 2))), np.flatnonzero(mask.any((0, 2)))
        assert mask.sum() == 3 * len(rows) * len(columns)
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (6, 10) and min(i for i, _ in sizes) >= 3 and min(j for _, j in sizes) >= 5
    assert (np.asarray(cutout(KEY, IMAGES))[changed] == 0.5).all()


@pytest.mark.parametrize("name", AUGMENT)
def test_real_and_fake_are_augmented_alike_and_with_a_gradient(name):
    """The draws are the key's, whatever the images: each augmentation is affine in them."""
    adversary = NONE._replace(augment=(AUGMENT[name],))
    other = IMAGES[::-1]
    between = (adversary.view(KEY, IMAGES) + adversary.view(KEY, other)) / 2
    np.testing.assert_allclose(adversary.view(KEY, (IMAGES + other) / 2), between, atol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(adversary.view(KEY, x)))(IMAGES)
    assert 0.5 * IMAGES.size < np.count_nonzero(gradient) <= IMAGES.size


def test_lecam_by_hand():
    """Anchors 1/2 and -1, logits (1, 3) and (0, -2): (2^2 + 4^2) / 2 + ((1/2)^2 + (5/2)^2) / 2."""
    stats = {"lecam": {"real": jnp.float32(0.5), "fake": jnp.float32(-1.0)}, "decoder": 1}
    real, fake = jnp.array([1.0, 3.0]), jnp.array([0.0, -2.0])
    scalars, new = NONE._replace(lecam=1.0).compare(real, fake, stats)
    assert scalars["lecam"] == 10 + 3.25 and new["decoder"] == 1
    np.testing.assert_allclose(new["lecam"]["real"], DECAY * 0.5 + (1 - DECAY) * 2, rtol=1e-6)
    np.testing.assert_allclose(new["lecam"]["fake"], -DECAY - (1 - DECAY), rtol=1e-6)
    assert NONE.compare(real, fake, stats) == ({}, stats)


def test_r1_by_hand():
    """D is the mean of two patches, w . x^2 and 3 w . x^2: its gradient is 4 w x. By differences: right on average."""
    w = np.random.default_rng(1).uniform(size=(12, 20, 3)).astype(np.float32)

    def logits(x):
        patch = jnp.sum(w[None] * x**2, axis=(1, 2, 3))
        return jnp.stack([patch, 3 * patch], axis=1)

    expected = np.mean(np.sum((4 * w * IMAGES) ** 2, axis=(1, 2, 3))) / 2
    exact = NONE._replace(r1=1.0).smoothness(logits, IMAGES, KEY)["r1"]
    np.testing.assert_allclose(exact, expected, rtol=1e-5)
    about = NONE._replace(r1=1.0, r1_step=1e-2).smoothness
    found = [about(logits, IMAGES, key)["r1"] for key in jax.random.split(KEY, 40)]  # 2,560 normal numbers, squared
    np.testing.assert_allclose(np.mean(found), expected, rtol=4 * np.sqrt(2 / 2560))
    assert NONE.smoothness(logits, IMAGES, KEY) == {}


DISCRIMINATORS = {
    "patchgan": PatchDiscriminator(4, layers=1),
    "larsen": LarsenDiscriminator(0.03),
    "deepsim": DeepsimDiscriminator(scale=1 / 16),
}


@pytest.mark.parametrize("name", ["patchgan", pytest.param("larsen", marks=pytest.mark.slow), "deepsim"])
def test_the_gradient_of_r1_is_that_of_its_values(name):
    """Second derivatives of our own convolutions: the penalty's slope along a random direction, by central
    differences in float64."""
    network, adversary = DISCRIMINATORS[name], NONE._replace(r1=1.0)
    x = np.random.default_rng(0).uniform(size=(2, 48, 40, 3))
    variables = jax.device_get(network.init(KEY, x.astype(np.float32), False))
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        rng, params = np.random.default_rng(1), variables["params"]
        way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)

        @jax.jit
        def penalty(t):
            moved = {**variables, "params": jax.tree.map(lambda p, d: p + t * d, params, way)}
            train, rngs = "batch_stats" in variables, {"dropout": KEY}

            def logits(seen):
                return network.apply(moved, seen, train, mutable=["batch_stats"], rngs=rngs)[0]["logits"]

            return adversary.smoothness(logits, jnp.asarray(x), KEY)["r1"]

        slope, h = float(jax.jit(jax.grad(penalty))(0.0)), 1e-6
        np.testing.assert_allclose(slope, (penalty(h) - penalty(-h)) / (2 * h), rtol=1e-4)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("name", ["patchgan", "larsen", "deepsim"])
def test_spectral_norm(name):
    """After enough power iterations, every kernel as a matrix acts with its largest singular value divided out; no
    BatchNorm is left; evaluation changes no statistics."""
    network = DISCRIMINATORS[name].clone(spectral_norm=True)
    x = np.random.default_rng(0).uniform(size=(2, 48, 40, 3)).astype(np.float32)
    variables = network.init(KEY, x, False)
    params, stats = variables["params"], variables["batch_stats"]
    assert not any("norm" in layer for layer in params) and all("bias" in layer for layer in params.values())
    step = jax.jit(
        lambda stats: network.apply(
            {"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"], rngs={"dropout": KEY}
        )[1]["batch_stats"]
    )
    for _ in range(300):
        stats = step(stats)
    for layer, leaves in params.items():
        matrix = np.asarray(leaves["kernel"]).reshape(-1, leaves["kernel"].shape[-1])
        sigma = next(v for k, v in stats[f"spectral_{layer}"].items() if k.endswith("sigma"))
        np.testing.assert_allclose(sigma, np.linalg.norm(matrix, 2), rtol=1e-2)
    logits, after = network.apply({"params": params, "batch_stats": stats}, x, False, mutable=["batch_stats"])
    assert (
        jax.tree.all(jax.tree.map(np.array_equal, after["batch_stats"], stats)) and np.isfinite(logits["logits"]).all()
    )
