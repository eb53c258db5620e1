"""Where weights files are looked up.

Nothing here imports jax, so that a missing file is reported at once.
"""

import os
from pathlib import Path

from vae_jax.errors import UserError
from vae_jax.paths import local_path
from vae_jax.runtime.environment import NO_HOME, has_home
from vae_jax.weights.published import TRAINED, WEIGHTS, how_to_get

SHIPPED = Path(__file__).parent / "shipped"
RANDOM = "random"  # in place of a weights file: untrained
RANDOM_DENSE = "random_dense"  # the same, except the layers that the file in the usual place has
LPIPS_NET = "vgg"  # for training; alex is for judging
LPIPS_FILES = {"alex": ("alexnet", "lpips_alex"), "vgg": ("vgg16", "lpips_vgg")}  # by net: the network, its heads


def weights_dir() -> Path:
    """The folder where weights are looked up and converters write: $VAE_JAX_WEIGHTS, else ~/.cache/vae_jax."""
    folder = _weights_dir()
    if folder is None:
        raise UserError(f"There is no folder for weights, and {NO_HOME}.")
    return folder


def _weights_dir() -> Path | None:
    if given := os.environ.get("VAE_JAX_WEIGHTS"):
        return local_path(given)
    return Path.home() / ".cache" / "vae_jax" if has_home() else None


def has_weights(name: str) -> bool:
    """Whether `find_weights` would find them."""
    return any(file.is_file() for file in _places(name))


def find_weights(name: str) -> Path:
    """`NAME.safetensors` in the weights folder, else among the weights shipped with vae_jax."""
    for file in _places(name):
        if file.is_file():
            return file
    folder = _weights_dir()
    where = f"in neither {folder} nor {SHIPPED}" if folder else f"not in {SHIPPED}, and {NO_HOME}"
    raise UserError(
        f"No weights for {name}: {name}.safetensors is {where}.\n"
        f"{how_to_get(name)}\n"
        "Or set the environment variable VAE_JAX_WEIGHTS to the folder that holds it."
    )


def check_weights_file(name: str, path: str) -> None:
    """UserError if a network's weights file, `path` or the one in the usual place, is missing."""
    if path not in ("", RANDOM, RANDOM_DENSE):
        check_file(local_path(path))
    elif path != RANDOM and name in (*WEIGHTS, *TRAINED):  # unknown names are reported where they are looked up
        check_file(find_weights(name))


def check_file(path: Path) -> None:
    """UserError unless a weights file and its manifest exist."""
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise UserError(
                f"No weights at {path}: the file {file.name} is missing. Weights are a .safetensors file "
                "and its manifest, a .json of the same name; pretrained_converters.convert writes both."
            )


def _places(name: str) -> list[Path]:
    return [folder / f"{name}.safetensors" for folder in (_weights_dir(), SHIPPED) if folder]
