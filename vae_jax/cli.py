"""Shared by the commands: flags, devices and error messages."""

import contextlib
import importlib.util
import inspect
import io
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from vae_jax import configs
from vae_jax.config import flat
from vae_jax.errors import UserError, did_you_mean, mistakes_told
from vae_jax.keys import declared
from vae_jax.overrides import make_room, split_lists, take_values
from vae_jax.paths import is_address, local_path
from vae_jax.runtime.devices import initialise, keep_freed_memory
from vae_jax.runtime.environment import prepare_environment
from vae_jax.runtime.interrupt import end_without_threads

flags.disclaim_key_flags()  # those that are defined here are the commands'
HELP = ("help", "h", "helpshort")
KINDS = {  # what a flag wants, by Python's words for a value that is none
    "Non-boolean argument": "True or False",
    "invalid literal for int": "a whole number",
    "could not convert string to float": "a number",
}
_VALUES: dict[str, str] = {}  # --config.KEY=VALUE of a command that takes --configs


def run(main: Callable[..., None], takes: str = "") -> None:
    """Runs a command: a user error becomes one message and exit code 2, without a traceback.

    takes: `config` if the command takes --config=NAME with --config.KEY=VALUE and is called as main(config), with None
    if there is none; `configs` if it takes --configs=NAME,NAME with them, see `load_configs`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.set_verbosity(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # paths may hold any bytes

    given: list[ConfigDict | None] = []

    def parse(argv: list[str]) -> list[str]:
        argv, config = parse_flags(argv, takes)
        given[:] = [config] if takes == "config" else []
        return argv

    def checked(argv: list[str]) -> None:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is not a flag: flags begin with --.")
        prepare_environment()
        initialise()
        keep_freed_memory()
        main(*given)

    try:
        with mistakes_told():
            app.run(checked, flags_parser=parse)
    except SystemExit as end:
        end_without_threads(end.code)
        raise


# ---- flags -------------------------------------------------------------------------------------------------------


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return str(local_path(argument))


class _WorkdirParser(_PathParser):
    def parse(self, argument: str) -> str:
        return argument if is_address(argument) else super().parse(argument)


def workdir_flag(what: str) -> flags.FlagHolder:
    """--workdir of a run: a path with ~ expanded, or an address for `runs.bucket.at_hand`."""
    return flags.DEFINE(_WorkdirParser(), "workdir", None, what, required=True)


def path_flag(name: str, what: str, required: bool = False) -> flags.FlagHolder:
    """A flag that is a path, with ~ expanded; None by default."""
    return flags.DEFINE(_PathParser(), name, None, what, required=required)


class _PathsParser(flags.ListParser):
    def parse(self, argument: str | list[str]) -> list[str]:
        return [str(local_path(path)) for path in super().parse(argument)]


def paths_flag(name: str, what: str, required: bool = False) -> flags.FlagHolder:
    """A flag that is a list of paths, separated by commas."""
    return flags.DEFINE(_PathsParser(), name, None, what, serializer=flags.CsvListSerializer(","), required=required)


def parse_flags(argv: list[str], takes: str = "") -> tuple[list[str], ConfigDict | None]:
    """Parses flags by absl; returns what is left, and the config of --config=NAME[:variant] with --config.KEY=VALUE.

    takes: as in `run`. UserError for a wrong flag.
    """
    try:
        program, *arguments = flags.FLAGS.read_flags_from_files(argv)
    except flags.Error as error:
        raise UserError(str(error).removeprefix("ERROR:: ")) from None
    arguments, values = take_values(arguments)
    arguments, name = _take_config(arguments)
    if not takes and (name is not None or values):
        command = Path(program).stem if Path(program).stem != "__main__" else Path(program).parent.name
        raise UserError(f"{command} takes no config: it reads that of the run. Leave out --config and --config.KEY.")
    if name is None and values and takes == "config":
        raise UserError(f"--config.{next(iter(values))} needs --config=NAME.")
    config = None if name is None else _with_values(load_config(name), values, name)
    if any(argument.lstrip("-").partition("=")[0] in HELP and argument[0] == "-" for argument in arguments):
        print(_help(takes, config), flush=True)
        sys.exit(0)
    _VALUES.clear()
    _VALUES.update(values)
    try:
        return flags.FLAGS([program, *arguments]), config
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"{_told(error)}\nSee --help.") from None


def _take_config(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """(other arguments, NAME of --config=NAME)."""
    rest, name, left = [], None, iter(arguments)
    for argument in left:
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == "config":
            name = value if equals else next(left, "")
        else:
            rest.append(argument)
    return rest, name


def _told(error: Exception) -> str:
    """absl's message, but for a missing flag and for a value of the wrong type, which it leaves to Python."""
    text = str(error)
    if missing := re.search(r"[Ff]lag --(\w+) must have a value other than None", text):
        return f"--{missing[1]}=... is missing. {flags.FLAGS[missing[1]].help}"
    wrong = re.match(r"flag --([\w.]+)=(.*?): (.*)", text, re.DOTALL)
    kind = next((kind for words, kind in KINDS.items() if wrong and words in wrong[3]), None)
    return f"--{wrong[1]} is {wrong[2]!r}; expected {kind}." if wrong and kind else text


def _help(takes: str, config: ConfigDict | None) -> str:
    """What a command does, its flags, and the keys of the config if one is named."""
    own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    lines = [inspect.getdoc(sys.modules["__main__"]) or ""] + (["", "Flags:"] if own else [])
    for flag in own:
        default = "" if flag.default in (None, [], "") else f" Default: {flag.default}."
        lines.append(_entry(f"  --{flag.name}", f"{flag.help}{default}"))
    if takes:
        lines.append(_entry("  --config.KEY", "Sets a key of the config, as --config.steps=100."))
    if takes == "config" and config is None:
        lines.append(_entry("  --config", "NAME or FILE.py, and :VARIANT. With --help: lists its keys."))
    if config is not None:
        values = config.to_dict()
        keys = declared(config.system, config.data.name, values.get("terms", {}))
        lines += ["", "Keys of this config, with its values:"]
        lines += [
            _entry(f"  {key}={value!r}", keys[key].what if key in keys else "") for key, value in flat(values).items()
        ]
    return "\n".join(lines)


def _entry(name: str, what: str) -> str:
    return textwrap.fill(f"{name:26} {what}", 120, subsequent_indent=" " * 27, break_on_hyphens=False)


# ---- configs -----------------------------------------------------------------------------------------------------


def load_configs(names: Sequence[str]) -> list[ConfigDict]:
    """The configs of ['A.py:one', 'two', 'dfc_mnist'], each with the command line's --config.KEY=VALUE, locked."""
    parts: list[str] = []
    for part in names:
        if not parts or part.partition(":")[0].endswith(".py") or part.partition(":")[0] in configs.names():
            parts.append(part)
        else:
            parts[-1] += f",{part}"  # another variant of the previous config
    return [_with_values(load_config(name), _VALUES, name) for name in parts]


def _with_values(config: ConfigDict, values: dict[str, str], name: str) -> ConfigDict:
    """The config with these values of its keys, locked. UserError for an unknown key or a value of the wrong type."""
    make_room(config, values, name)
    holder, arguments = flags.FlagValues(), ["", *(f"--config.{key}={text}" for key, text in values.items())]
    config_flags.DEFINE_config_dict("config", config, flag_values=holder, lock_config=True, sys_argv=arguments)
    try:
        holder(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"{name}: {_told(error)}") from None
    split_lists(holder.config, values)
    return holder.config


def changed(config: ConfigDict, values: str) -> ConfigDict:
    """A copy of the config with 'KEY=VALUE KEY=VALUE', locked. UserError for what is no such list or no such value."""
    pairs = [part.partition("=") for part in values.split()]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise UserError(f"{wrong[0]!r} in {values!r} sets nothing; expected KEY=VALUE, such as dtype=bfloat16.")
    return _with_values(ConfigDict(config.to_dict()), {key: text for key, _, text in pairs}, config.name)


def load_config(name: str) -> ConfigDict:
    """The config FILE.py[:variant], or the published config NAME[:variant]. UserError if there is none."""
    given, _, variant = name.partition(":")
    file = configs.FOLDER / f"{given}.py" if given in configs.names() else local_path(given)
    if not file.is_file() or file.suffix != ".py":
        raise UserError(f"There is no config {given}. {_nearest_config(Path(given))}")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # it is a Python file
    module = importlib.util.module_from_spec(spec)
    with _mistakes_in(file):
        spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{given} is not a config: it has no function get_config.")
    takes_variant = bool(inspect.signature(module.get_config).parameters)
    if variant and not takes_variant:
        raise UserError(f"{given} has no variants: its get_config takes no argument.")
    with _mistakes_in(file):
        config = module.get_config(variant) if takes_variant else module.get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config of {given} returns {type(config).__name__}; expected a ConfigDict.")
    return config


@contextlib.contextmanager
def _mistakes_in(file: Path) -> Iterator[None]:
    """Whatever is wrong in a config file is told with its line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines, told = [error.lineno], error.msg
        raise UserError(f"{file}{f', line {lines[-1]}' if lines else ''}: {told}") from None


def _nearest_config(path: Path) -> str:
    """A hint for a path or name that is not a config."""
    beside = sorted(map(str, path.parent.glob("*.py"))) if path.suffix == ".py" and path.parent.is_dir() else []
    if path.suffix == ".py" and not beside and path.stem in configs.names():
        return f"Give the published config by name: --config={path.stem}."
    return did_you_mean(str(path), beside or configs.names())
