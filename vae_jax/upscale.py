"""Upscales a folder of images with a trained super-resolution VAE.

    python -m vae_jax.upscale --workdir=RUN --images=FOLDER --output=FOLDER

Images may have any size and format and lie at any depth. They are rotated upright, reduced to 8 bits, drawn on white
where transparent, and converted to grey or colour like the training data. Each is saved as a PNG under the same path
in OUTPUT; existing files are never overwritten. Images that cannot be read are skipped and listed; hidden and other
files are counted. Large images are upscaled in tiles that overlap by as much as the model sees, so there are no seams.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vae_jax import cli
from vae_jax.data.image_files import image_files, no_images, read_image, tell
from vae_jax.data.images import in_colours, to_array
from vae_jax.errors import UserError
from vae_jax.inference import Model, load_model
from vae_jax.reports.grids import save_png

TILE = 256  # low-resolution pixels


def upscale_tiled(model: Model, image: np.ndarray, tile: int = TILE) -> np.ndarray:
    """uint8 [h, w, C] -> uint8 [factor h, factor w, C]; images larger than `tile` are cut into tiles of that size.

    Pixels within the model's receptive radius of a cut are dropped; all others equal those of the whole image.
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
            large[_scaled(kept_rows, factor), _scaled(kept_columns, factor)] = made[inside]
    return large


def _upscale(model: Model, image: np.ndarray) -> np.ndarray:
    return (255 * np.asarray(model.upscale(image[None])[0])).round().astype(np.uint8)


def _tiles(length: int, tile: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """(input of a tile, kept part of it) along a side; the kept parts cover the side."""
    starts = [*range(0, length - tile, tile - 2 * radius), max(length - tile, 0)]
    for start in starts:
        stop = min(start + tile, length)
        yield slice(start, stop), slice(start and start + radius, stop if stop == length else stop - radius)


def _scaled(part: slice, factor: int) -> slice:
    return slice(factor * part.start, factor * part.stop)


def _within(kept: slice, seen: slice, factor: int) -> slice:
    """The kept part of a tile, in the upscaled pixels of the tile."""
    return _scaled(slice(kept.start - seen.start, kept.stop - seen.start), factor)


def upscale_folder(workdir: str, folder: str, output: str) -> dict[str, str]:
    """Upscales every image below `folder` into `output`; returns {file: reason} of the images that were skipped."""
    targets, skipped = _targets(Path(folder), Path(output)), {}
    model = load_model(workdir)
    if model.factor == 1:
        raise UserError(f"{workdir} is a {model.config.system}, not a super_resolution run: it does not upscale.")

    def convert(picture: Image.Image) -> np.ndarray:
        return to_array(in_colours(picture, model.config.data.grey))

    for number, (path, target) in enumerate(targets.items(), 1):
        name = str(path.relative_to(folder))
        image = read_image(path, convert)
        large = image if isinstance(image, str) else _upscaled_or_reason(model, image)
        if isinstance(large, str):
            skipped[name] = large
            continue
        save_png(target, large)
        sizes = " -> ".join(f"{large.shape[1] // by}x{large.shape[0] // by}" for by in (model.factor, 1))
        print(f"{number} of {len(targets)}: {name}, {sizes}", flush=True)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", flush=True)
    if not set(targets) - {Path(folder) / name for name in skipped}:
        raise UserError(f"None of the images in {folder} could be upscaled; see the reasons above.")
    return skipped


def _upscaled_or_reason(model: Model, image: np.ndarray) -> np.ndarray | str:
    try:
        return upscale_tiled(model, image)
    except UserError as error:
        return str(error)


def _targets(folder: Path, output: Path) -> dict[Path, Path]:
    """The target of each image; UserError if one exists or belongs to two images, or if there are no images."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} (--images).")
    images, left_out = image_files(folder)
    if not images:
        raise no_images(folder, left_out)
    sources: dict[Path, Path] = {}
    for name in images:
        path, target = folder / name, (output / name).with_suffix(".png")
        if target in sources:
            raise UserError(f"{sources[target]} and {path} would both be written to {target}. Rename one of them.")
        if target.exists():
            raise UserError(f"{target} already exists and is not overwritten. Choose another --output.")
        sources[target] = path
    if left_out:
        print(tell(left_out), flush=True)
    return {path: target for target, path in sources.items()}


def main() -> None:
    """The command line."""
    skipped = upscale_folder(WORKDIR.value, IMAGES.value, OUTPUT.value)
    print(f"wrote {OUTPUT.value}" + (f", skipped {len(skipped)} images" if skipped else ""))


if __name__ == "__main__":
    WORKDIR = cli.workdir_flag("Folder or address of a trained super_resolution run.")
    IMAGES = cli.path_flag("images", "Folder of images to upscale.", required=True)
    OUTPUT = cli.path_flag("output", "Folder to write the PNGs to.", required=True)
    cli.run(main)
