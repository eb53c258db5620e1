"""A folder of images made larger by a trained super-resolution VAE.

    python -m vae_jax.upscale --workdir=RUN --images=FOLDER --output=FOLDER

Images of any size and kind at any depth: they are turned upright, 16 bits become 8, transparent parts white, and grey
or colour is what the run learnt from. Each becomes a PNG at the same place below OUTPUT; nothing there is ever
overwritten. Files that are no images are named and left out. A large image is upscaled in overlapping tiles, which see
all that the whole image would show them, so that there are no seams.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from vae_jax import cli
from vae_jax.data.image_folder import EXTENSIONS, files_below, read_image
from vae_jax.data.images import in_colours, to_array
from vae_jax.errors import UserError
from vae_jax.inference import Model, load_model
from vae_jax.reports.grids import save_png

TILE = 256  # low-resolution pixels


def upscale_tiled(model: Model, image: np.ndarray, tile: int = TILE) -> np.ndarray:
    """uint8 [h, w, C] -> uint8 [factor h, factor w, C]; what is larger than `tile` is cut into tiles of that size.

    Pixels of a tile that lie within the model's receptive radius of a cut are dropped; all others equal the whole
    image's.
    """
    factor, (height, width, channels) = model.factor, image.shape
    if model.receptive_radius is None:
        return _upscale(model, image)
    tile = max(tile, 4 * model.receptive_radius)
    large = np.empty((factor * height, factor * width, channels), np.uint8)
    for rows, kept_rows in _tiles(height, tile, model.receptive_radius):
        for columns, kept_columns in _tiles(width, tile, model.receptive_radius):
            made = _upscale(model, image[rows, columns])
            inside = _within(kept_rows, rows, factor), _within(kept_columns, columns, factor)
            large[_times(kept_rows, factor), _times(kept_columns, factor)] = made[inside]
    return large


def _upscale(model: Model, image: np.ndarray) -> np.ndarray:
    return (255 * np.asarray(model.upscale(image[None])[0])).round().astype(np.uint8)


def _tiles(length: int, tile: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """(what a tile sees, what is kept of it) along a side; all kept parts together are the side."""
    starts = [*range(0, length - tile, tile - 2 * radius), max(length - tile, 0)]
    for start in starts:
        stop = min(start + tile, length)
        yield slice(start, stop), slice(start and start + radius, stop if stop == length else stop - radius)


def _times(part: slice, factor: int) -> slice:
    return slice(factor * part.start, factor * part.stop)


def _within(kept: slice, seen: slice, factor: int) -> slice:
    """What is kept of a tile, in its own upscaled pixels."""
    return _times(slice(kept.start - seen.start, kept.stop - seen.start), factor)


def upscale_folder(workdir: str, folder: str, output: str) -> dict[str, str]:
    """Upscales every image below `folder` into `output`; returns {file: reason} of those that were left out."""
    targets, left_out = _targets(Path(folder), Path(output))
    model = load_model(workdir)
    if model.factor == 1:
        raise UserError(f"{workdir} is a {model.config.system}, which does not upscale images; super_resolution does.")

    def convert(picture: Image.Image) -> np.ndarray:
        return to_array(in_colours(picture, model.config.data.grey))

    for number, (path, target) in enumerate(targets.items(), 1):
        name = str(path.relative_to(folder))
        image = read_image(path, convert)
        large = image if isinstance(image, str) else _or_why_not(model, image)
        if isinstance(large, str):
            left_out[name] = large
            continue
        save_png(target, large)
        sizes = " -> ".join(f"{array.shape[1]}x{array.shape[0]}" for array in (image, large))
        print(f"{number} of {len(targets)}: {name}, {sizes}", flush=True)
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}", flush=True)
    if not set(targets) - {Path(folder) / name for name in left_out}:
        raise UserError(f"None of the images in {folder} could be upscaled; the reasons are above.")
    return left_out


def _or_why_not(model: Model, image: np.ndarray) -> np.ndarray | str:
    try:
        return upscale_tiled(model, image)
    except UserError as error:
        return str(error)


def _targets(folder: Path, output: Path) -> tuple[dict[Path, Path], dict[str, str]]:
    """Where each image goes, and {file: reason} of what is no image by its name.

    UserError where something is there already, or two would go to one place.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} (--images).")
    sources: dict[Path, Path] = {}
    left_out = {}
    for path in files_below(folder):
        if path.suffix.lower() not in EXTENSIONS:
            left_out[str(path.relative_to(folder))] = "no image by its name"
            continue
        target = (output / path.relative_to(folder)).with_suffix(".png")
        if target in sources:
            raise UserError(f"{sources[target]} and {path} would both be written to {target}. Rename one of them.")
        if target.exists():
            raise UserError(f"{target} is there already. Name another --output: nothing is overwritten.")
        sources[target] = path
    if not sources:
        raise UserError(f"No images in {folder}: expected files that end in {', '.join(sorted(EXTENSIONS))}.")
    return {path: target for target, path in sources.items()}, left_out


def main() -> None:
    """The command line."""
    left_out = upscale_folder(WORKDIR.value, IMAGES.value, OUTPUT.value)
    print(f"wrote {OUTPUT.value}" + (f", left out {len(left_out)} files" if left_out else ""))


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained super_resolution run.", required=True)
    IMAGES = flags.DEFINE_string("images", None, "Folder of the images to upscale.", required=True)
    OUTPUT = flags.DEFINE_string("output", None, "Folder to write the PNGs to.", required=True)
    cli.run(main)
