"""Configs: read from flags, checked before anything is compiled, kept as JSON in the workdir."""

import json
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from vae_jax.errors import UserError, did_you_mean, look_up

# What may differ when a run is resumed: nothing of the model, of its training or of its data, but for rounding.
FREE_ON_RESUME = {
    "steps", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "eval_batch_size",
    "metrics", "not_finite", "data.dir", "data.memory_limit", "data.unreadable", "checkpointing",
    "backbone.cache_targets", "compilation_cache",
}  # fmt: skip
CROPS = ("square", "none", "pad")
NOT_FINITE = {"stop": 1, "skip": 10}  # how many steps in a row that are not finite end the run


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
    look_up(NOT_FINITE, config.not_finite, "not_finite")
    if not 0 <= config.data.unreadable <= 1:
        raise UserError(f"data.unreadable is {config.data.unreadable}; a share lies in [0, 1].")
    if config.seed < 0:
        raise UserError(f"seed is {config.seed}; it cannot be negative.")
    for player, optimizer in config.optimizers.items():
        if not (math.isfinite(optimizer.learning_rate) and optimizer.learning_rate > 0):
            raise UserError(f"optimizers.{player}.learning_rate is {optimizer.learning_rate}; it must be positive.")
    for name, term in config.terms.items():
        for key in {"weight", "decoder_weight"} & set(term):
            if not math.isfinite(term[key]):
                raise UserError(f"terms.{name}.{key} is {term[key]}; it must be a finite number.")
    if config.data.crop not in CROPS and not re.fullmatch(r"\d+,\d+,\d+,\d+", config.data.crop):
        crops = ", ".join(map(repr, CROPS))
        raise UserError(f"data.crop is {config.data.crop!r}; expected {crops} or 'TOP,LEFT,HEIGHT,WIDTH'.")
    if config.get("classes", 1) < 1:
        raise UserError(f"classes is {config.classes}; it must be at least 1.")
    if config.data.random_crop and config.data.random_crop < config.image_size:
        raise UserError(
            f"data.random_crop is {config.data.random_crop}, smaller than the windows of image_size "
            f"({config.image_size}) that are cut from it. Make it larger, or 0 for no random crops."
        )
    if config.data.per_class < 0:
        raise UserError(f"data.per_class is {config.data.per_class}; it cannot be negative.")
    if not 0 <= config.ema < 1:
        raise UserError(f"ema is {config.ema}; a decay lies in [0, 1).")
    if not config.terms:
        raise UserError("The config names no loss terms: without any there is nothing to train on.")


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the images that networks see."""
    return config.image_size, config.image_size, 1 if config.data.grey else 3


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
    free = FREE_ON_RESUME
    if any(optimizer.schedule != "constant" for optimizer in new.optimizers.values()):
        free = free - {"steps"}  # the schedule would be another one
    return [
        f"  {key}: {a.get(key, 'absent')!r} in the workdir, {b.get(key, 'absent')!r} now"
        for key in sorted(a.keys() | b.keys())
        if key not in free and a.get(key) != b.get(key)
    ]


def check_same_keys(
    workdirs: Sequence[str], configs: Sequence[ConfigDict], keys: Sequence[str], otherwise: str
) -> None:
    """UserError where a key of a workdir's config is not as in the first one's; `otherwise` says what follows."""
    first, *others = (flat(config.to_dict()) for config in configs)
    for workdir, other in zip(workdirs[1:], others, strict=True):
        for key in keys:
            if other[key] != first[key]:
                raise UserError(
                    f"{workdirs[0]} and {workdir} {otherwise}: {key} is {first[key]!r} in one, {other[key]!r} in the "
                    "other."
                )


def row_name(config: ConfigDict, workdir: str | Path, taken: Collection[str]) -> str:
    """What a table calls a run: its config's name, or as much of the end of its workdir as nobody has yet."""
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


def _tuples(tree):
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree


def _nearby(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings) if siblings else ""
