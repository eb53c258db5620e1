"""Where weights files are looked up.

Nothing here imports jax, so that a missing file is reported at once.
"""

import os
from pathlib import Path

from vae_jax.errors import UserError
from vae_jax.weights.published import TRAINED, WEIGHTS, how_to_get

SHIPPED = Path(__file__).parent / "shipped"
RANDOM = "random"  # in place of a weights file: untrained
RANDOM_DENSE = "random_dense"  # the same, except the layers that the file in the usual place has
LPIPS_NET = "vgg"  # for training; alex is for judging
LPIPS_FILES = {"alex": ("alexnet", "lpips_alex"), "vgg": ("vgg16", "lpips_vgg")}  # by net: the network, its heads


def weights_dir() -> Path:
    """The folder where weights are looked up and converters write: $VAE_JAX_WEIGHTS, else ~/.cache/vae_jax."""
    return Path(os.environ.get("VAE_JAX_WEIGHTS") or Path.home() / ".cache" / "vae_jax")


def has_weights(name: str) -> bool:
    """Whether `find_weights` would find them."""
    return any(file.is_file() for file in _places(name))


def find_weights(name: str) -> Path:
    """`NAME.safetensors` in the weights folder, else among the weights shipped with vae_jax."""
    for file in _places(name):
        if file.is_file():
            return file
    folders = " nor ".join(str(file.parent) for file in _places(name))
    raise UserError(
        f"No weights for {name}: {name}.safetensors is in neither {folders}.\n"
        f"{how_to_get(name)}\n"
        "Or set the environment variable VAE_JAX_WEIGHTS to the folder that holds it."
    )


def check_weights_file(name: str, path: str) -> None:
    """UserError if a network's weights file, `path` or the one in the usual place, is missing."""
    if path not in ("", RANDOM, RANDOM_DENSE):
        check_file(Path(path))
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


def _places(name: str) -> tuple[Path, Path]:
    return weights_dir() / f"{name}.safetensors", SHIPPED / f"{name}.safetensors"
