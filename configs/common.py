"""Building blocks of config files: each starts from `get_config(system)` and sets what its paper specifies."""

from collections.abc import Collection

from ml_collections import ConfigDict

from vae_jax import keys
from vae_jax.errors import UserError


def get_config(system: str = "vae") -> ConfigDict:
    """Every key of a system at its default, except those of a loss term; `vae_jax.keys` describes them."""
    return keys.defaults(system)


def add_adversary(config: ConfigDict) -> None:
    """The options of a discriminator at their defaults, in a config that was made without one."""
    for name, key in keys.ADVERSARY.items():
        keys.set_key(config, name, key.default)


def term(weight: float, start: int = 0, warmup: int = 0, **options) -> ConfigDict:
    """A loss term: its weight, first step, steps of linear ramp, and the options of the loss."""
    return ConfigDict({"weight": float(weight), "start": start, "warmup": warmup, **options})


def rmsprop(learning_rate: float, schedule: str = "constant", warmup_steps: int = 0) -> ConfigDict:
    """RMSprop with the defaults of Keras 2."""
    return _optimizer("rmsprop", learning_rate, schedule, warmup_steps, decay=0.9, eps=1e-7)


def adam(learning_rate: float, schedule: str = "constant", warmup_steps: int = 0, beta1: float = 0.9) -> ConfigDict:
    """Adam; `schedule` is constant, cosine, halving (after each fifth of the run) or deepsim (from step 300,000)."""
    return _optimizer("adam", learning_rate, schedule, warmup_steps, beta1=beta1, beta2=0.999, eps=1e-8)


def sgd(learning_rate: float, schedule: str = "constant", warmup_steps: int = 0, momentum: float = 0.9) -> ConfigDict:
    """Gradient descent with momentum."""
    return _optimizer("sgd", learning_rate, schedule, warmup_steps, momentum=momentum)


def _optimizer(name: str, learning_rate: float, schedule: str, warmup_steps: int, **options) -> ConfigDict:
    return ConfigDict(
        {"name": name, "learning_rate": learning_rate, "schedule": schedule, "warmup_steps": warmup_steps, **options}
    )


SIZES = ("quick", "smoke")
PIXELS = "a number of pixels"


def read_variants(arg: str, *choices: Collection[str]) -> list[str]:
    """The name in 'a,b,quick' from each of `choices` ('' if none), then 'quick', 'smoke' or ''.

    Each choice is a table or tuple of mutually exclusive names, or PIXELS. UserError for any other name.
    """
    choices, parts, chosen = (*choices, SIZES), [part for part in arg.split(",") if part], []
    for choice in choices:
        named = [part for part in parts if (part.isdigit() if choice == PIXELS else part in choice)]
        if len(named) > 1:
            raise UserError(f"The variants {named[0]!r} and {named[1]!r} exclude each other: choose one.")
        chosen += named or [""]
        parts = [part for part in parts if part not in named]
    if parts:
        known = [f"'{name}'" for choice in choices if choice != PIXELS for name in choice]
        known += [PIXELS] if PIXELS in choices else []
        raise UserError(f"Unknown variant {parts[0]!r}: choose {', '.join(known)}, or omit it.")
    return chosen


def shrink(config: ConfigDict, arg: str, quick: dict) -> ConfigDict:
    """Apply a size: '' as published, 'quick' (minutes, updated by `quick`), 'smoke' (seconds)."""
    (size,) = read_variants(arg)
    if size == "quick":
        config.update(quick)
    elif size == "smoke":
        config.update(
            steps=4,
            batch_size=8,
            steps_per_call=2,
            log_every=2,
            eval_every=4,
            checkpoint_every=4,
            eval_batch_size=64,
            data={"name": "synthetic", "train": "train", "eval": "test", "per_class": 0},
        )
        for optimizer in config.optimizers.values():
            optimizer.update(warmup_steps=0, schedule="constant")  # so that a longer run can resume from it
    return config
