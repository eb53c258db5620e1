"""What keeps a discriminator from winning, for every system that has one: the table `adversary` of a config.

    lecam       weight of E (D(x) - a_fake)^2 + E (D(xhat) - a_real)^2 in the discriminator's loss, where a_real and
                a_fake are moving averages, of decay 0.99, of its mean logits (Tseng et al. 2021, section 3; their code
                cuts each difference off at 0): each side is drawn to where the other was
    r1          gamma of gamma / 2 E ||gradient of D with respect to x||^2 in that loss, for real images x in [0, 1]
                (Mescheder et al. 2018, R1). Of images in [-1, 1], as in most papers, that gradient is half as long
    r1_step     0: exact. Otherwise the gradient's squared norm is (D(x + r1_step u) - D(x))^2 / r1_step^2, u ~ N(0, 1),
                which is right on average for small steps, and has no second derivatives
    augment     what every image goes through before the discriminator sees it, real or fake, with the gradient (Zhao et
                al. 2020, DiffAugment): color, translation, cutout, in their order and with their ranges
    head_start  steps for which the discriminator learns before the generator descends on its term

D is the logit of an image, or the mean logit of its patches. Two more means are networks' and optimisers': the option
`spectral_norm` of every discriminator, and `optimizers.discriminator`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.data.augment import random_windows
from vae_jax.errors import look_up
from vae_jax.systems.contract import Scalars, Stats, Weight, weight_schedule

DECAY = 0.99  # of LeCam's moving averages
GREY = 0.5  # what augmentations fill with: 0 in [-1, 1]
ANCHORS = "lecam"  # LeCam's moving averages among the statistics
Augment = Callable[[jax.Array, jax.Array], jax.Array]


class Adversary(NamedTuple):
    """The options, see the module."""

    lecam: float
    r1: float
    r1_step: float
    augment: tuple[Augment, ...]
    head_start: int

    def rule(self, start: int, warmup: int) -> dict[str, Weight]:
        """The discriminator's further terms, which count as soon as it learns."""
        weights = {"lecam": self.lecam, "r1": self.r1}
        return {name: weight_schedule(weight, start, warmup) for name, weight in weights.items() if weight}

    def init_stats(self) -> Stats:
        """LeCam's moving averages before the first step."""
        return {ANCHORS: {"real": jnp.zeros(()), "fake": jnp.zeros(())}} if self.lecam else {}

    def view(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """What the discriminator sees of images [B, H, W, C], real or fake: by the same key, the same draws."""
        for number, augment in enumerate(self.augment):
            images = augment(jax.random.fold_in(key, number), images)
        return images

    def compare(self, real: jax.Array, fake: jax.Array, stats: Stats) -> tuple[Scalars, Stats]:
        """({'lecam': value}, statistics) from the logits [B, ...] of real images and of fakes; none without LeCam."""
        if not self.lecam:
            return {}, stats
        anchors = stats[ANCHORS]
        value = jnp.mean(jnp.square(real - anchors["fake"])) + jnp.mean(jnp.square(fake - anchors["real"]))
        new = {"real": jnp.mean(real), "fake": jnp.mean(fake)}
        new = {name: DECAY * anchors[name] + (1 - DECAY) * jax.lax.stop_gradient(new[name]) for name in anchors}
        return {"lecam": value}, stats | {ANCHORS: new}

    def smoothness(self, logits: Callable[[jax.Array], jax.Array], images: jax.Array, key: jax.Array) -> Scalars:
        """{'r1': half the mean squared norm of the gradient of `logits` [B, ...] at real images}; none without R1."""
        if not self.r1:
            return {}

        def judge(x: jax.Array) -> jax.Array:
            found = logits(x)
            return jnp.mean(found.reshape(len(found), -1), axis=1)

        if self.r1_step:
            moved = images + self.r1_step * jax.random.normal(key, images.shape)
            squared = jnp.square((judge(moved) - judge(images)) / self.r1_step)
        else:
            squared = jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(judge(x)))(images)), axis=(1, 2, 3))
        return {"r1": jnp.mean(squared) / 2}


def make_adversary(config: ConfigDict) -> Adversary:
    """The options of `config.adversary`. UserError for an unknown augmentation."""
    options = config.adversary
    augment = tuple(look_up(AUGMENT, name, "adversary.augment") for name in options.augment)
    return Adversary(options.lecam, options.r1, options.r1_step, augment, options.head_start)


def color(key: jax.Array, images: jax.Array) -> jax.Array:
    """Brightness by U(-1/4, 1/4), saturation times U(0, 2), contrast times U(1/2, 3/2), each drawn for each image."""
    size = (images.shape[0], 1, 1, 1)
    brightness, saturation, contrast = jax.random.uniform(key, (3, *size))
    x = images + (brightness - 0.5) / 2
    x = _spread(x, 2 * saturation, axes=(3,))
    return _spread(x, contrast + 0.5, axes=(1, 2, 3))


def translation(key: jax.Array, images: jax.Array) -> jax.Array:
    """Shifts each image by up to an eighth of its height and width in either direction; grey comes in."""
    height, width = images.shape[1:3]
    rows, columns = (int(side / 8 + 0.5) for side in (height, width))
    padded = jnp.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)), constant_values=GREY)
    return random_windows(key, padded, height, width)


def cutout(key: jax.Array, images: jax.Array) -> jax.Array:
    """A grey box of half the height and width, centred anywhere in each image and cut off at its edges."""
    inside = [
        _box(one, images.shape[0], side) for one, side in zip(jax.random.split(key), images.shape[1:3], strict=True)
    ]
    box = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(box, GREY, images)


AUGMENT: Mapping[str, Augment] = {"color": color, "translation": translation, "cutout": cutout}


def _spread(x: jax.Array, factor: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Deviations from the mean over `axes`, times a factor."""
    mean = jnp.mean(x, axis=tuple(axes), keepdims=True)
    return mean + factor * (x - mean)


def _box(key: jax.Array, batch: int, side: int) -> jax.Array:
    """[batch, side]: whether a position is in an interval of half the side around a random centre."""
    size = int(side / 2 + 0.5)
    first = jax.random.randint(key, (batch, 1), 0, side + 1 - size % 2) - size // 2
    position = jnp.arange(side)[None, :]
    return (position >= first) & (position < first + size)
