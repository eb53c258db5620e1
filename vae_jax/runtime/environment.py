"""What the environment of a command may lack or ask for: matplotlib, a home folder, and numbers of 64 bits.

Nothing here imports jax.
"""

import atexit
import importlib.util
import os
import shutil
import tempfile

from vae_jax.errors import UserError

NO_HOME = "this user has no home folder: set HOME, or VAE_JAX_WEIGHTS to a folder with weights"
TRUE = ("y", "yes", "t", "true", "on", "1")  # as jax reads them


def has_home() -> bool:
    """Whether HOME, or else the system, names the user's home folder: not for an unknown user id, as in containers."""
    return os.path.expanduser("~") != "~"


def prepare_environment() -> None:
    """UserError if JAX_ENABLE_X64 is set, or without matplotlib, which a training would miss only at its report.

    Without a home, Keras and matplotlib get a folder that goes with the process: they would make one called ~ in the
    current folder, or warn.
    """
    if os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE:
        raise UserError("JAX_ENABLE_X64 is set, but everything here is computed and saved in 32 bits. Unset it.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("matplotlib, which draws the reports, is not installed: pip install -r requirements.txt")
    if not has_home():
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ.setdefault("KERAS_HOME", folder)
        os.environ.setdefault("MPLCONFIGDIR", folder)
