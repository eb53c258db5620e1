"""Configs: checked before compilation, saved as JSON in the workdir, compared with each other."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax import strict_json
from vae_jax.errors import UserError, did_you_mean, look_up
from vae_jax.keys import (
    OF_ONE_OPTIMIZER,
    OPTIMIZER,
    OPTIMIZER_OPTIONS,
    RENAMED,
    SYSTEMS,
    TERM,
    TERM_OPTIONS,
    TERM_WEIGHTS,
    UNSAID,
    Key,
    declared,
    set_key,
)
from vae_jax.weights.finding import RANDOM, check_weights_file

CROPS = ("square", "none", "pad")
KINDS = {
    bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "a tuple", dict: "a table",
}  # fmt: skip
TABLE = Key({}, "a loss term or an optimiser with its options")


def check_config(config: ConfigDict) -> None:
    """UserError if keys are missing or unexpected, or values are out of bounds; names of networks, losses and the like
    are checked when they are looked up."""
    keys, leaves = _check_keys(config)
    for name, key in keys.items():
        check_value(name, key, leaves[name])
    for table, entries, optional in (
        ("terms", TERM, TERM_OPTIONS),
        ("optimizers", OPTIMIZER, OPTIMIZER_OPTIONS | OF_ONE_OPTIMIZER),
    ):
        for owner, options in config[table].items():
            check_value(f"{table}.{owner}", TABLE, options)
            for name, key in entries.items():
                if name not in options:
                    raise UserError(f"{table}.{owner} lacks {name!r}: {key.what}.")
                check_value(f"{table}.{owner}.{name}", key, options[name])
            for name in optional.keys() & set(options):
                check_value(f"{table}.{owner}.{name}", optional[name], options[name])
    for name, term in config.terms.items():
        if term.get("target") and not term.weight:
            raise UserError(f"terms.{name}.target: the weight starts from terms.{name}.weight, which must be above 0.")
    for key in ("steps", "log_every", "eval_every", "checkpoint_every"):
        if config[key] % config.steps_per_call:
            raise UserError(f"{key} ({config[key]}) must be a multiple of steps_per_call ({config.steps_per_call}).")
    if config.data.crop not in ("", *CROPS) and not re.fullmatch(r"\d+,\d+,\d+,\d+", config.data.crop):
        crops = ", ".join(map(repr, CROPS))
        raise UserError(f"data.crop is {config.data.crop!r}; expected {crops} or 'TOP,LEFT,HEIGHT,WIDTH'.")
    if config.data.random_crop and config.data.random_crop < config.image_size:
        raise UserError(
            f"data.random_crop is {config.data.random_crop}, smaller than the windows of image_size "
            f"({config.image_size}) that are cut from it. Make it larger, or 0 for no random crops."
        )
    if not config.terms:
        raise UserError("The config has no loss terms to train on.")
    looks_through = config.backbone.name
    if looks_through and looks_through not in {network for network, _ in _weights(config)}:
        raise UserError(
            f"backbone.name is {looks_through!r}, but no loss term looks through it. Add such a term, as "
            "--config.terms.feature.weight=1 --config.terms.feature.taps=TAP,TAP, or leave backbone.name empty."
        )


def _check_keys(config: ConfigDict) -> tuple[dict[str, Key], dict[str, Any]]:
    """(declared keys, values) by dotted key; UserError if a key is missing or unexpected."""
    tree = config.to_dict()
    system = tree.get("system", "")
    look_up(SYSTEMS, system, "system")
    for table in ("data", "terms"):
        check_value(table, TABLE, tree.get(table, {}))
    keys = declared(system, tree.get("data", {}).get("name", ""), tree.get("terms", {}))
    leaves = _leaves(tree, keys)
    for name in leaves.keys() - keys.keys():
        raise UserError(f"Unknown config key {name!r} of the system {system}. {hint(name, keys)}")
    for name in keys.keys() - leaves.keys():
        raise UserError(
            f"The config lacks the key {name!r}: {keys[name].what}. Start from common.get_config({system!r}), which "
            "has every key."
        )
    return keys, leaves


def check_value(name: str, key: Key, value: Any) -> None:
    """UserError if a value has the wrong type or is out of bounds."""
    kind = type(key.default)
    value = value.to_dict() if isinstance(value, ConfigDict) else value
    fits = {int: int, float: (int, float), tuple: (tuple, list), dict: Mapping}.get(kind, kind)
    if not isinstance(value, fits) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} is {value!r}; expected {KINDS[kind]}.")
    if kind is dict:
        _check_name(name, key, value)
    if key.choices and value not in key.choices:
        raise UserError(f"{name} is {value!r}; expected {' or '.join(map(repr, key.choices))}.")
    for bound, wrong, words in (
        (key.least, lambda v, b: not v >= b, "at least"),
        (key.above, lambda v, b: not v > b, "above"),
        (key.below, lambda v, b: not v < b, "below"),
        (key.most, lambda v, b: not v <= b, "at most"),
    ):
        if bound is not None and (wrong(value, bound) or not math.isfinite(value)):
            raise UserError(f"{name} is {value}; it must be {words} {bound}.")


def _check_name(name: str, key: Key, table: Any) -> None:
    if "name" in key.default and "name" not in table:
        raise UserError(f"{name} lacks 'name': {key.what}.")


def hint(name: str, known: Collection[str]) -> str:
    """A hint for an unknown key: its new name, or the closest known key."""
    return f"It is now called {RENAMED[name]!r}." if name in RENAMED else did_you_mean(name, known)


def _leaves(tree: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key, down to declared keys and to tables without declared keys."""
    leaves = {}
    for key, value in tree.items():
        name = prefix + key
        if name not in keys and isinstance(value, dict) and any(known.startswith(f"{name}.") for known in keys):
            leaves |= _leaves(value, keys, f"{name}.")
        else:
            leaves[name] = value
    return leaves


def check_weights(config: ConfigDict) -> None:
    """UserError if a weights file that the config needs is missing."""
    for network, file in _weights(config):
        check_weights_file(network, file)


def _weights(config: ConfigDict) -> list[tuple[str, str]]:
    """[(network, weights file)] of everything frozen or pretrained in a config."""
    used = [pair for name, term in config.terms.items() if name in TERM_WEIGHTS
            for pair in TERM_WEIGHTS[name](config, term)]  # fmt: skip
    leaves = flat(config.to_dict())
    for name, key in declared(config.system, config.data.name, config.terms).items():
        if key.weights and name in leaves:
            used.append((leaves.get(key.weights, key.weights), leaves[name]))
    return used


def untrained(config: ConfigDict) -> ConfigDict:
    """The same config with random weights in place of every weights file."""
    config = ConfigDict(config.to_dict())
    config.backbone.weights = RANDOM
    for name, key in declared(config.system, config.data.name, config.terms).items():
        if key.weights:
            set_key(config, name, RANDOM)
    return config


def number_of_classes(config: ConfigDict) -> int | None:
    """The number of labels that the system classifies; None if it uses no labels."""
    return config.get("classes")


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the images that networks see."""
    return config.image_size, config.image_size, 1 if config.data.grey else 3


def to_json(config: ConfigDict) -> str:
    """The full config as JSON; an infinite option of a term is text, such as '-inf'."""
    return strict_json.to_json(_of_terms(config.to_dict(), _in_words), indent=2) + "\n"


def read_config(workdir: str | Path) -> ConfigDict:
    """The config that a workdir was trained with.

    In workdirs of earlier versions, renamed keys get their new names and missing keys the value that the earlier
    version used. UserError for a key that no longer exists.
    """
    path = Path(workdir) / "config.json"
    if not Path(workdir).is_dir():
        raise UserError(f"There is no workdir {workdir}. {_nearby(Path(workdir))}")
    if not path.is_file():
        raise UserError(f"{workdir} is not the workdir of a run: it has no config.json.")
    try:
        tree: dict[str, Any] = _of_terms(_tuples(json.loads(path.read_text())), _in_numbers)
        config = ConfigDict({RENAMED.get(name, name): value for name, value in tree.items()})
        keys = declared(config.get("system", ""), config.get("data", {}).get("name", ""), config.get("terms", {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a config: {error}.") from None
    leaves = _leaves(config.to_dict(), keys)
    if unknown := sorted(leaves.keys() - keys.keys()):
        raise UserError(
            f"{path} has the key {unknown[0]!r}, which this version of vae_jax does not know. Use the version that "
            "trained it, or train again."
        )
    for name, value in leaves.items():
        check_value(f"{path}: {name}", keys[name], value)
    for name in keys.keys() - leaves.keys():
        set_key(config, name, keys[name].default if keys[name].before is None else keys[name].before)
    look_up(SYSTEMS, config.system, f"system in {path}:")
    return config.lock()


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """One line per differing key that must not change when a run is resumed."""
    a, b = (UNSAID | flat(config.to_dict()) for config in (old, new))
    free = {name for name, key in declared(new.system, new.data.name, new.terms).items() if key.free}
    scheduled = [optimizer.schedule for optimizer in new.optimizers.values() if optimizer.schedule != "constant"]
    why = {"steps": f"; the learning rate's {scheduled[0]} schedule depends on it"} if scheduled else {}
    return [
        f"  {key}: {a.get(key, 'absent')!r} in the workdir, {b.get(key, 'absent')!r} now{why.get(key, '')}"
        for key in sorted(a.keys() | b.keys())
        if key not in free - why.keys() and a.get(key) != b.get(key)
    ]


def check_same_data(workdirs: Sequence[str], configs: Sequence[ConfigDict]) -> None:
    """UserError if not all workdirs are evaluated on the same images."""
    keys = {name: key for c in configs for name, key in declared(c.system, c.data.name, c.terms).items()}
    check_same_keys(workdirs, configs, [name for name, key in keys.items() if key.data], "cannot be compared")


def check_same_keys(
    workdirs: Sequence[str], configs: Sequence[ConfigDict], keys: Sequence[str], otherwise: str
) -> None:
    """UserError if one of `keys` differs from the first workdir's; `otherwise` completes the message."""
    first, *others = (flat(config.to_dict()) for config in configs)
    for workdir, other in zip(workdirs[1:], others, strict=True):
        for key in keys:
            if other.get(key) != first.get(key):
                raise UserError(
                    f"{workdirs[0]} and {workdir} {otherwise}: {key} is {first.get(key)!r} in one, "
                    f"{other.get(key)!r} in the other."
                )


def row_name(config: ConfigDict, workdir: str | Path, taken: Collection[str]) -> str:
    """A run's name in tables: its config's name, or the shortest end of its workdir that is not taken."""
    parts = Path(workdir).parts
    names = [config.name or config.system] + ["/".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return next((name for name in names if name not in taken), f"{workdir} ({len(taken) + 1})")


def flat(tree: dict, prefix: str = "") -> dict:
    """Leaves of a nested dict by dotted key, tuples as lists."""
    leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = list(value) if isinstance(value, tuple) else value
    return leaves


def _tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree


def _of_terms(tree: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A config's tree with every option of its terms changed."""
    terms = tree.get("terms", {})
    return {**tree, "terms": {name: {key: change(v) for key, v in term.items()} for name, term in terms.items()}}


def _in_words(value: Any) -> Any:
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _in_numbers(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value


def _nearby(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings) if siblings else ""
