"""What the commands share: flags, devices, and errors that speak to people."""

import os
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from vae_jax.errors import UserError


def define_config():
    """The flag --config=FILE.py[:variant], with --config.KEY=VALUE for every key."""
    return config_flags.DEFINE_config_file("config", None, "Config file, FILE.py or FILE.py:variant.", lock_config=True)


def initialise() -> None:
    """Before the first use of a device: TensorFlow never sees the accelerator, many hosts become one."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("PJRT_NPROC", "32")  # jax <= 0.10.2 deadlocks with more virtual devices than cores
    import jax

    if any(name in os.environ for name in ("JAX_COORDINATOR_ADDRESS", "COORDINATOR_ADDRESS")):
        jax.distributed.initialize()


def run(main: Callable) -> None:
    """Runs a command: a user's mistake is one message and exit code 2, never a traceback."""
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(main, flags_parser=_parse)
    except UserError as error:
        sys.exit(_tell(error))


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except UserError:
        raise
    except (flags.Error, KeyError, AttributeError, TypeError, ValueError, OSError, ImportError) as error:
        raise UserError(explain(argv, error)) from None


def explain(argv: list[str], error: Exception) -> str:
    """An error of flag parsing in words: absl and ml-collections say what is wrong, this adds what to do."""
    text = str(error).strip("'\"")
    return f"{text}\nSee {argv[0]} --help."


def _tell(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
