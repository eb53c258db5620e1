"""Configs: read from flags, checked before anything is compiled, kept as JSON in the workdir."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from vae_jax.errors import UserError, nearest

# What may differ when a run is resumed: nothing of the model, of its training or of its data.
FREE_ON_RESUME = {
    "steps", "steps_per_call", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "eval_batch_size",
    "data.dir", "data.memory_limit",
}  # fmt: skip


def check_config(config: ConfigDict) -> None:
    """UserError unless the numbers make sense; names are checked where they are looked up."""
    for key in (
        "steps",
        "batch_size",
        "steps_per_call",
        "image_size",
        "latents",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "keep_checkpoints",
        "eval_batch_size",
    ):
        if config[key] < 1:
            raise UserError(f"{key} is {config[key]}; it must be at least 1.")
    for key in ("steps", "log_every", "eval_every", "checkpoint_every"):
        if config[key] % config.steps_per_call:
            raise UserError(f"{key} ({config[key]}) must be a multiple of steps_per_call ({config.steps_per_call}).")
    if not 0 <= config.ema < 1:
        raise UserError(f"ema is {config.ema}; a decay lies in [0, 1).")
    if not config.terms:
        raise UserError("The config names no loss terms: without any there is nothing to train on.")


def to_json(config: ConfigDict) -> str:
    """The full config as JSON."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def read_config(workdir: str | Path) -> ConfigDict:
    """The config that a workdir was trained with."""
    path = Path(workdir) / "config.json"
    if not Path(workdir).is_dir():
        raise UserError(f"There is no workdir {workdir}. {_nearby(Path(workdir))}")
    if not path.is_file():
        raise UserError(f"{workdir} is not the workdir of a run: it has no config.json.")
    try:
        return ConfigDict(_tuples(json.loads(path.read_text()))).lock()
    except ValueError as error:
        raise UserError(f"{path} is not a config: {error}.") from None


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """One line per key that differs and may not when a run is resumed."""
    a, b = flat(old.to_dict()), flat(new.to_dict())
    return [
        f"  {key}: {a.get(key, 'absent')!r} in the workdir, {b.get(key, 'absent')!r} now"
        for key in sorted(a.keys() | b.keys())
        if key not in FREE_ON_RESUME and a.get(key) != b.get(key)
    ]


def flat(tree: dict, prefix: str = "") -> dict:
    """Leaves of a nested dict by dotted key, tuples as lists."""
    leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = list(value) if isinstance(value, tuple) else value
    return leaves


def _tuples(tree):
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree


def _nearby(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    return nearest(path.name, siblings) if siblings else ""
