"""The command line's --config.KEY=VALUE: any key, also of terms, optimisers and options that a config leaves out."""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import flat, hint
from vae_jax.errors import UserError
from vae_jax.keys import DATA, OPTIMIZER, OPTIMIZER_OPTIONS, TERM, declared, set_key

ENTRIES = {"terms": TERM, "optimizers": OPTIMIZER | OPTIMIZER_OPTIONS}  # tables of tables, each entry's keys


def take_values(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(other arguments, {dotted key: text}) of --config.KEY=VALUE, --config.KEY VALUE and --[no]config.KEY."""
    others, values = [], {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        flag, equals, text = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or not flag.removeprefix("no").startswith("config."):
            others.append(argument)
        elif equals:
            values[flag.removeprefix("config.")] = text
        elif left and not left[0].startswith("--"):
            values[flag.removeprefix("config.")] = left.pop(0)
        else:
            values[flag.removeprefix("no").removeprefix("config.")] = str(flag.startswith("config."))
    return others, values


def make_room(config: ConfigDict, values: Mapping[str, str], name: str) -> None:
    """Adds to the config `name` the keys that `values` set and it lacks; UserError for a key that does not exist.

    A term or an optimiser gets the defaults of `keys`. A network or an optimiser of another name loses the options of
    the previous one, and another data set its keys. Whoever takes an option checks it.
    """
    with config.unlocked():
        for table, own in _open_tables(config, values):
            if table not in _tables(config):
                set_key(config, table, {option: key.default for option, key in own.items()})
            entry = _at(config, table)
            given = {key.removeprefix(f"{table}."): text for key, text in values.items() if key.startswith(f"{table}.")}
            if given.get("name", entry.get("name")) != entry.get("name"):
                for option in set(entry) - {"name", *own}:
                    del entry[option]
            for option in given.keys() - set(entry):
                entry[option] = _literal(given[option])
        _fit_data(config, values.get("data.name", config.data.name))
    known = flat(config.to_dict())
    for key in values.keys() - known.keys():
        raise UserError(f"Unknown config key {key!r} in {name}. {hint(key, known)}")


def split_lists(config: ConfigDict, values: Collection[str]) -> None:
    """Makes two entries of a,b in the lists of text that `values` set."""
    for key in values:
        table, _, last = key.rpartition(".")
        owner = _at(config, table)
        if isinstance(owner[last], tuple) and all(isinstance(entry, str) for entry in owner[last]):
            owner[last] = tuple(part.strip() for entry in owner[last] for part in entry.split(",") if part.strip())


def _open_tables(config: ConfigDict, values: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted table, the keys that it always has) of the tables whose other keys are options of what they name."""
    named = {".".join(key.split(".")[:2]): ENTRIES[key.split(".")[0]] for key in values
             if key.split(".")[0] in ENTRIES and key.count(".") == 2}  # fmt: skip
    yield from named.items()
    for name, key in declared(config.system, config.data.name, config.terms).items():
        if isinstance(key.default, dict) and "name" in key.default and name in _tables(config):
            yield name, {}


def _fit_data(config: ConfigDict, name: str) -> None:
    """Drops the keys of another data set, and adds those of the one called `name`."""
    if name == config.data.name:
        return
    for key in DATA.get(config.data.name, {}):
        del _at(config, key.rpartition(".")[0])[key.rpartition(".")[2]]
    for key, its in DATA.get(name, {}).items():
        set_key(config, key, its.default)


def _tables(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield prefix + key
            yield from _tables(value, f"{prefix}{key}.")


def _at(config: ConfigDict, table: str) -> ConfigDict:
    for part in filter(None, table.split(".")):
        config = config[part]
    return config


def _literal(text: str) -> Any:
    """A number, truth value or tuple; words separated by commas; or else the text itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return tuple(filter(None, text.split(","))) if "," in text else text
    return tuple(value) if isinstance(value, list) else value
