"""Where weights files are looked for, and which a config needs.

Nothing here needs jax, so that a missing file is told at once.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.weights.published import TRAINED, WEIGHTS, how_to_get

SHIPPED = Path(__file__).parent / "shipped"
RANDOM = "random"  # in place of a weights file: untrained
RANDOM_DENSE = "random_dense"  # the same, but for the layers that the file in the usual place has
LPIPS_NET = "vgg"  # which is for training, alex for judging
LPIPS_FILES = {"alex": ("alexnet", "lpips_alex"), "vgg": ("vgg16", "lpips_vgg")}  # by net: the network, its heads


def weights_dir() -> Path:
    """Where weights are looked for and converters write: $VAE_JAX_WEIGHTS, else ~/.cache/vae_jax."""
    return Path(os.environ.get("VAE_JAX_WEIGHTS") or Path.home() / ".cache" / "vae_jax")


def has_weights(name: str) -> bool:
    """Whether `find_weights` would find them."""
    return any(file.is_file() for file in _places(name))


def find_weights(name: str) -> Path:
    """`NAME.safetensors` in the weights folder, else among those that come with vae_jax."""
    for file in _places(name):
        if file.is_file():
            return file
    folders = " or ".join(str(file.parent) for file in _places(name))
    raise UserError(
        f"The weights of {name} are not there: no {name}.safetensors in {folders}.\n"
        f"{how_to_get(name)}\n"
        "Or point the environment variable VAE_JAX_WEIGHTS at the folder that holds it."
    )


def check_weights(config: ConfigDict) -> None:
    """UserError where a weights file that the config needs is nowhere to be found."""
    used = []  # (network, its weights file or what stands in its place)
    if "feature" in config.terms:
        used.append((config.backbone.name, config.backbone.weights))
    if "inverted" in config:
        used.append((config.inverted.name, config.inverted.weights))
    if "pretrained" in config:
        used.append(("alexnet", config.pretrained))
    if "lpips" in config.terms and config.backbone.weights != RANDOM:
        used += [(name, "") for name in LPIPS_FILES.get(config.terms.lpips.get("net", LPIPS_NET), ())]
    for name, path in used:
        if path not in ("", RANDOM, RANDOM_DENSE):
            check_file(Path(path))
        elif path != RANDOM and name in (*WEIGHTS, *TRAINED):  # an unknown name is told where it is looked up
            check_file(find_weights(name))


def check_file(path: Path) -> None:
    """UserError unless a weights file and its manifest are there."""
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise UserError(
                f"No weights at {path}: the file {file.name} is missing. Weights are a .safetensors file "
                "with its manifest, a .json of the same name, as pretrained_converters.convert writes."
            )


def _places(name: str) -> tuple[Path, Path]:
    return weights_dir() / f"{name}.safetensors", SHIPPED / f"{name}.safetensors"
