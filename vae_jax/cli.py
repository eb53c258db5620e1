"""Shared by the commands: flags, devices and error messages."""

import importlib.util
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from vae_jax import configs
from vae_jax.config import flat, hint
from vae_jax.errors import UserError, did_you_mean, mistakes_told
from vae_jax.runtime.devices import initialise, keep_freed_memory
from vae_jax.runtime.interrupt import end_without_threads

_OVERRIDES: list[str] = []  # the --config.KEY=VALUE of a command that takes --configs


def run(main: Callable) -> None:
    """Runs a command: a user error becomes one message and exit code 2, without a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.set_verbosity(logging.WARNING)

    def checked(argv: list[str]) -> None:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is not a flag: flags begin with --.")
        initialise()
        keep_freed_memory()
        main()

    try:
        with mistakes_told():
            app.run(checked, flags_parser=parse_flags)
    except SystemExit as end:
        end_without_threads(end.code)
        raise


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags by absl, loading --config=FILE.py[:variant] first and checking --config.KEY=VALUE.

    With --configs=FILE.py,FILE.py, the --config.KEY=VALUE are kept for `load_configs`. UserError for a wrong flag.
    """
    if any(a.lstrip("-").partition("=")[0] == "configs" for a in argv if a.startswith("-")):
        argv, _OVERRIDES[:] = _take_overrides(argv)
    argv = _define_config(argv)
    try:
        return flags.FLAGS(argv)
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"{error}\nSee --help.") from None


def load_configs(names: Sequence[str]) -> list[ConfigDict]:
    """The configs of ['A.py:one', 'two', 'dfc_mnist'], each with the command line's --config.KEY=VALUE, locked."""
    parts: list[str] = []
    for part in names:
        if not parts or part.partition(":")[0].endswith(".py") or part.partition(":")[0] in configs.names():
            parts.append(part)
        else:
            parts[-1] += f",{part}"  # another variant of the previous config
    loaded = []
    for name in parts:
        config, values = load_config(name), flags.FlagValues()
        _check_keys(_OVERRIDES, config, name)
        arguments = ["", *_OVERRIDES]
        config_flags.DEFINE_config_dict("config", config, flag_values=values, lock_config=True, sys_argv=arguments)
        try:
            values(arguments)
        except (flags.Error, TypeError, ValueError) as error:
            raise UserError(f"{name}: {error}") from None
        loaded.append(values.config)
    return loaded


def _take_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(other arguments, arguments that begin with --config.)."""
    ours = [a.lstrip("-").startswith("config.") for a in argv]
    return [a for a, o in zip(argv, ours, strict=True) if not o], [a for a, o in zip(argv, ours, strict=True) if o]


def _check_keys(arguments: Sequence[str], config: ConfigDict, name: str) -> None:
    known = flat(config.to_dict())
    for argument in arguments:
        key = argument.lstrip("-").partition("=")[0].removeprefix("config.")
        if key not in known:
            raise UserError(f"Unknown config key {key!r} in {name}. {hint(key, known)}")


def load_config(name: str) -> ConfigDict:
    """The config FILE.py[:variant], or the published config NAME[:variant]. UserError if there is none."""
    given, _, variant = name.partition(":")
    file = configs.FOLDER / f"{given}.py" if given in configs.names() else Path(given)
    if not file.is_file() or file.suffix != ".py":
        raise UserError(f"There is no config {given}. {_nearest_config(Path(given))}")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # it is a Python file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{given} is not a config: it has no function get_config.")
    takes_variant = bool(inspect.signature(module.get_config).parameters)
    if variant and not takes_variant:
        raise UserError(f"{given} has no variants: its get_config takes no argument.")
    config = module.get_config(variant) if takes_variant else module.get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config of {given} returns {type(config).__name__}; expected a ConfigDict.")
    return config


def _nearest_config(path: Path) -> str:
    """A hint for a path or name that is not a config."""
    beside = sorted(map(str, path.parent.glob("*.py"))) if path.suffix == ".py" and path.parent.is_dir() else []
    if path.suffix == ".py" and not beside and path.stem in configs.names():
        return f"Give the published config by name: --config={path.stem}."
    return did_you_mean(str(path), beside or configs.names())


def _define_config(argv: list[str]) -> list[str]:
    """Removes --config from the arguments and defines its content as the flag `config`."""
    rest, name = [], None
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == "config":
            name = value if equals else next(arguments, "")
        else:
            rest.append(argument)
    overrides = _take_overrides(rest)[1]
    if name is None:
        if overrides:
            raise UserError(f"{overrides[0].partition('=')[0]} needs --config=NAME.")
        return rest
    config = load_config(name)
    _check_keys(overrides, config, name)
    config_flags.DEFINE_config_dict("config", config, lock_config=True, sys_argv=rest)
    return rest
