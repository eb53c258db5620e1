"""Which part of an image is used."""

import re

from ml_collections import ConfigDict

from vae_jax.errors import UserError

OWN = {"celeb_a": "40,30,138,138"}  # by data set, where not square: of 218x178 pixels the face (Hou et al. 2017)


def crop_of(config: ConfigDict) -> str:
    """`data.crop`, or if that is '' the data set's own."""
    name = config.data.get("source", config.data.name)  # of exemplars, the data set that they are cut from
    return config.data.crop or own_crop(name)


def own_crop(name: str) -> str:
    """That of a data set of this name."""
    return OWN.get(re.split("[:/]", name)[0], "square")


def with_crop(config: ConfigDict) -> ConfigDict:
    """A copy of a config in which `data.crop` is written out."""
    written = ConfigDict(config.to_dict())
    written.data.crop = crop_of(config)
    return written.lock()


def crop_box(crop: str, width: int, height: int) -> tuple[int, int, int, int] | None:
    """(left, upper, right, lower) for `data.crop`: 'square', 'none', 'pad' or 'TOP,LEFT,HEIGHT,WIDTH'."""
    if crop in ("none", "pad"):
        return None
    if crop == "square":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
    top, left, box_height, box_width = map(int, crop.split(","))
    if min(box_height, box_width) < 1 or top + box_height > height or left + box_width > width:
        raise UserError(f"data.crop {crop!r} does not fit in an image of height {height} and width {width}.")
    return left, top, left + box_width, top + box_height
