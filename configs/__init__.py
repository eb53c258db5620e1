"""The published configs, one file per experiment. `vae_jax.configs` is this folder: other configs can build on them."""

from pathlib import Path

SHARED = ("__init__", "__main__", "common", "deepsim", "losses")  # modules that configs import, not configs
FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The configs that `--config=NAME` takes, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)
