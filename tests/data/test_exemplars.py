"""Surrogate classes: where their patches come from, and the views taken of them."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from vae_jax.data import exemplar_views as views
from vae_jax.data import load_dataset
from vae_jax.data.augment import make_augmentation
from vae_jax.data.contract import in_memory
from vae_jax.data.exemplars import cut_patch, draw_place, exemplars, gradient_energy
from vae_jax.errors import UserError

KEYS = jax.random.split(jax.random.key(0), 2000)


def uniform(*shape) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(size=shape).astype(np.float32)


def test_bilinear_sampling_is_scipys():
    """Between pixels, on them, on the last ones and beyond the edges."""
    image, rng = uniform(9, 12, 3), np.random.default_rng(1)
    rows, columns = rng.uniform(-2, 10, (40, 30)), rng.uniform(-2, 13, (40, 30))
    rows[0], columns[0], rows[1], columns[1] = 8, 11, 3, 7
    ours = views.sample_bilinear(jnp.asarray(image), jnp.float32(rows), jnp.float32(columns))
    for channel in range(3):
        expected = ndimage.map_coordinates(image[..., channel], [rows, columns], order=1, mode="nearest")
        np.testing.assert_allclose(ours[..., channel], expected, atol=1e-5)


def test_movements_fill_their_ranges():
    """Translation, scale and angle, recovered from the positions of 2,000 views, which all lie in the image."""
    size, held = 32, views.context_size(32)
    assert held == 70
    positions = jax.jit(jax.vmap(lambda key: jnp.stack(views.view_positions(key, (held, held), size))))(KEYS)
    positions = np.asarray(positions, np.float64)  # [N, row and column, 32, 32]
    assert positions.min() >= 0 and positions.max() <= held - 1
    move = positions.mean(axis=(2, 3)) - (held - 1) / 2
    down, right = positions[:, :, 1, 0] - positions[:, :, 0, 0], positions[:, :, 0, 1] - positions[:, :, 0, 0]
    np.testing.assert_allclose(down[:, 0], right[:, 1], atol=1e-4)  # a rotation times a scale
    np.testing.assert_allclose(down[:, 1], -right[:, 0], atol=1e-4)
    scale, angle = np.hypot(*down.T), np.degrees(np.arctan2(down[:, 1], down[:, 0]))
    for values, low, high in ((move, -6.4, 6.4), (np.log(scale), np.log(0.7), np.log(1.4)), (angle, -20, 20)):
        assert values.min() >= low - 1e-3 and values.max() <= high + 1e-3
        counts = np.histogram(values, 4, (low, high))[0] / values.size
        np.testing.assert_allclose(counts, 0.25, atol=0.05)


def test_the_context_is_as_large_as_needed_and_no_larger():
    """By hand, the farthest corner of all views of 32 lies within 70 pixels but not within 68."""
    corner = 15.5 * 1.4 * (np.cos(np.pi / 9) + np.sin(np.pi / 9)) + 0.2 * 32
    assert 67 / 2 < corner <= 69 / 2


def test_hsv_is_pythons():
    """Random colours, greys, black, white, and colours with two equal largest components."""
    colours = np.concatenate([uniform(500, 3), np.eye(3), 1 - np.eye(3), np.ones((1, 3)), np.zeros((1, 3))])
    colours = np.concatenate([colours, np.full((1, 3), 0.4)]).astype(np.float32)
    hsv = np.asarray(views.rgb_to_hsv(jnp.asarray(colours)))
    expected = np.array([colorsys.rgb_to_hsv(*map(float, colour)) for colour in colours])
    turned = np.abs(hsv[:, 0] - expected[:, 0])
    assert np.minimum(turned, 1 - turned).max() < 1e-5
    np.testing.assert_allclose(hsv[:, 1:], expected[:, 1:], atol=1e-6)
    random = uniform(500, 3)
    back = [colorsys.hsv_to_rgb(*map(float, colour)) for colour in random]
    np.testing.assert_allclose(views.hsv_to_rgb(jnp.asarray(random)), back, atol=2e-6)
    np.testing.assert_allclose(views.hsv_to_rgb(jnp.asarray(hsv)), colours, atol=1e-5)


def test_contrast_along_the_components():
    """Orthogonal axes; the mean is kept; half the brightness and twice the rest by hand; ones change nothing."""
    np.testing.assert_allclose(views.COMPONENTS @ views.COMPONENTS.T, np.eye(3), atol=1e-6)
    patch = uniform(5, 6, 3)
    np.testing.assert_allclose(views.scale_components(jnp.asarray(patch), jnp.ones(3)), patch, atol=1e-6)
    ours = views.scale_components(jnp.asarray(patch), jnp.array([0.5, 2, 2]))
    difference = patch - patch.mean((0, 1))
    brightness = difference.mean(-1, keepdims=True)
    np.testing.assert_allclose(ours, patch.mean((0, 1)) + 0.5 * brightness + 2 * (difference - brightness), atol=1e-6)


def test_colours_stay_colours():
    """In [0, 1] even from black and white; equal pixels of a patch stay equal; patches change differently."""
    patch = jnp.concatenate([jnp.zeros((1, 4, 3)), jnp.ones((1, 4, 3)), jnp.asarray(uniform(1, 4, 3))])
    changed = np.asarray(jax.jit(jax.vmap(views.recolour, (0, None)))(KEYS[:500], patch))
    assert np.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
    for row in (0, 1):
        np.testing.assert_array_equal(changed[:, row], changed[:, row, :1].repeat(4, 1))
    assert len(np.unique(changed[:, 2], axis=0)) == 500


def test_views_of_a_batch():
    """A pure function of the key, different for each image, of the size of the patch."""
    images = jnp.broadcast_to(uniform(70, 70, 3), (4, 70, 70, 3))
    view = jax.jit(views.exemplar_views, static_argnums=2)
    once, again, other = (np.asarray(view(jax.random.key(seed), images, 32)) for seed in (1, 1, 2))
    assert once.shape == (4, 32, 32, 3) and once.dtype == np.float32
    np.testing.assert_array_equal(once, again)
    assert (once != other).mean() > 0.9 and (once[0] != once[1]).mean() > 0.9


def test_places_are_drawn_in_proportion():
    """By hand: of eight equal parts of [0, 1), the first is the upper left's, the next three are the lower left's."""
    energy = np.array([[1.0, 0.0], [3.0, 4.0]])
    drawn = [draw_place(energy, eighth / 8) for eighth in range(8)]
    assert drawn == [(0, 0)] + 3 * [(1, 0)] + 4 * [(1, 1)]
    assert draw_place(energy, 1 - 2**-53) == (1, 1) and draw_place(energy, 1 / 8 - 2**-53) == (0, 0)
    flat = [draw_place(np.zeros((2, 2)), quarter / 4) for quarter in range(4)]
    assert flat == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_gradient_energy_by_brute_force():
    image = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    image[:6, :6] = 7
    energy = gradient_energy(image, 4)
    down, right = np.gradient(image.astype(float), axis=0), np.gradient(image.astype(float), axis=1)
    assert energy.shape == (8, 10) and energy[0, 0] == 0
    for row, column in np.ndindex(energy.shape):
        window = np.s_[row : row + 4, column : column + 4]
        assert energy[row, column] == (down[window] ** 2 + right[window] ** 2).sum()


def test_a_patch_is_in_the_middle_of_its_surroundings():
    """They are the image's, mirrored beyond its edge; also with an odd number of pixels."""
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for held in (8, 13, 26):
        before = (held - 8) // 2
        for row, column in ((0, 0), (5, 7), (12, 16)):
            cut = cut_patch(image, row, column, 8, held)
            assert cut.shape == (held, held, 3)
            mirrored = image[np.ix_(*(_mirror(start - before, held, n) for start, n in ((row, 20), (column, 24))))]
            np.testing.assert_array_equal(cut, mirrored)
            middle = cut[before : before + 8, before : before + 8]
            np.testing.assert_array_equal(middle, image[row : row + 8, column : column + 8])


def _mirror(start, count, length):
    positions = np.abs(np.arange(start, start + count))
    return np.minimum(positions, 2 * (length - 1) - positions)


def test_the_classes_of_a_data_set(smoke):
    """Patches where the images have gradients, from all images in turn, the same for the same seed."""
    config = smoke("exemplar_cnn")
    images = np.zeros((5, 48, 48, 3), np.uint8)
    images[:, 20:, 20:] = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    images[:, :, :, 0] += np.arange(5, dtype=np.uint8)[:, None, None] + 1  # tells the images apart, and is flat
    config.image_size, config.classes, config.data.augment = 8, 400, ""

    def read(source, split):
        assert (source.image_size, source.data.name, source.data.augment, split) == (48, "synthetic", "", "train")
        return in_memory(images, np.full(5, 9))

    dataset = exemplars(config, "train", read)
    assert dataset.image_shape == (8, 8, 3) and dataset.size == 400
    np.testing.assert_array_equal(dataset.arrays["label"], np.arange(400))
    patches = dataset.arrays["image"]
    windows = np.lib.stride_tricks.sliding_window_view(images, (8, 8), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    found = np.array([np.argwhere((windows == patch).all(axis=(3, 4, 5)))[0] for patch in patches])
    np.testing.assert_array_equal(np.bincount(found[:, 0]), 5 * [80])
    assert len({tuple(place[:1]) for place in found[:5]}) == 5
    energy = np.mean([gradient_energy(image, 8) for image in images], axis=0)
    expected = energy.sum(axis=0) / energy.sum()  # by column: the gradients' share of the 400 places
    inside = expected[30:].sum()
    np.testing.assert_allclose((found[:, 2] >= 30).mean(), inside, atol=4 * np.sqrt(inside * (1 - inside) / 400))
    assert (patches.std(axis=(1, 2)).max(axis=1) > 0).mean() > 0.95  # at 12 only the gradient shows
    np.testing.assert_array_equal(exemplars(config, "train", read).arrays["image"], patches)
    config.seed = 1
    assert (exemplars(config, "train", read).arrays["image"] != patches).any()


def test_training_sees_the_surroundings_and_judging_the_patch(smoke):
    config = smoke("exemplar_cnn")
    train, judged = load_dataset(config, "train", augmented=True), load_dataset(config, "train")
    assert train.image_shape == (70, 70, 3) and judged.image_shape == (32, 32, 3)
    np.testing.assert_array_equal(judged.arrays["image"], train.arrays["image"][:, 19:51, 19:51])


def test_configs_that_contradict_themselves(smoke):
    def of(**changes):
        config = smoke("exemplar_cnn")
        config.data.update(changes)
        return config

    for changes, message in (
        ({"random_crop": 40}, r"random_crop \(40\) and data.augment \('exemplar'\) exclude each other"),
        ({"augment": "exemplars"}, "Unknown data.augment 'exemplars'. Did you mean 'exemplar'"),
        ({"grey": True}, "changes colours, but the images are grey: set data.grey to False"),
    ):
        with pytest.raises(UserError, match=message):
            make_augmentation(of(**changes))
    for changes, message in (
        ({"eval": "test"}, "data.train is 'train' and data.eval is 'test', whose patches are different classes"),
        ({"source": "exemplars"}, "data.source is 'exemplars' itself"),
        ({"source_size": 31}, r"source_size is 31, smaller than the patches of image_size \(32\)"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(of(**changes), "train")
    config = smoke("vae_mnist")
    config.data.name = "exemplars"
    with pytest.raises(UserError, match="exemplars needs a system with classes: start from configs/exemplar_cnn.py"):
        load_dataset(config, "train")
