"""What the commands share: flags, devices, and errors that speak to people."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from vae_jax.config import flat
from vae_jax.errors import UserError, mistakes_told, nearest


def initialise() -> None:
    """Before the first use of a device: jax up to 0.10.2 deadlocks with more virtual devices than cores."""
    if "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("PJRT_NPROC", str(max(32, os.cpu_count() or 1)))


def run(main: Callable) -> None:
    """Runs a command: a user's mistake is one message and exit code 2, never a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.set_verbosity(logging.WARNING)

    def checked(argv: list[str]) -> None:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is no flag: flags begin with --.")
        initialise()
        main()

    with mistakes_told():
        app.run(checked, flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """Flags as absl reads them, with --config=FILE.py[:variant] loaded first and --config.KEY=VALUE checked."""
    argv = _define_config(argv)
    try:
        return flags.FLAGS(argv)
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"{error}\nSee --help.") from None


def load_config(name: str) -> ConfigDict:
    """The config of FILE.py or FILE.py:variant."""
    file, _, variant = name.partition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        there = sorted(map(str, path.parent.glob("*.py"))) if path.parent.is_dir() else []
        raise UserError(f"There is no config {file}. {nearest(file, there) if there else ''}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{file} is not a config: it has no function get_config.")
    return module.get_config(variant) if variant else module.get_config()


def _define_config(argv: list[str]) -> list[str]:
    """Takes --config out of the arguments and makes its content the flag `config`."""
    rest, name = [], None
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == "config":
            name = value if equals else next(arguments, "")
        else:
            rest.append(argument)
    keys = [a.lstrip("-").partition("=")[0] for a in rest if a.lstrip("-").startswith("config.")]
    if name is None:
        if keys:
            raise UserError(f"--{keys[0]} needs --config=configs/NAME.py before it.")
        return rest
    config = load_config(name)
    known = flat(config.to_dict())
    for key in keys:
        key = key.removeprefix("config.")
        if key not in known:
            raise UserError(f"Unknown config key {key!r} in {name}. {nearest(key, known)}")
    config_flags.DEFINE_config_dict("config", config, lock_config=True, sys_argv=rest)
    return rest
