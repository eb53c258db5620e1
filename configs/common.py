"""Every config key with its default. A config file starts from `get_config()` and changes what its paper says."""

from collections.abc import Container

from ml_collections import ConfigDict

from vae_jax.errors import UserError


def get_config() -> ConfigDict:
    """The keys that every experiment has."""
    config = ConfigDict()
    config.name = ""  # what tables and plots call the experiment
    config.system = "vae"  # training recipe, a name in vae_jax.systems.SYSTEMS
    config.seed = 0
    config.steps = 10_000
    config.batch_size = 32  # over all devices
    config.steps_per_call = 5  # train steps in one compiled call; the counts below are multiples of it
    config.image_size = 28  # height and width in pixels
    config.latents = 5  # dimensions of z
    config.not_finite = "stop"  # at a step with a NaN or infinity, which never moves anything; or 'skip' and count it
    config.checkpointing = False  # save memory: the backward pass computes activations again, a network at a time
    config.ema = 0.0  # decay of a moving average of the parameters, which is then what is judged; 0: none

    config.data = ConfigDict()
    config.data.name = "mnist"  # in vae_jax.data.DATASETS, or any name of tensorflow-datasets
    config.data.dir = ""  # folder of images, of IDX files, or of tensorflow-datasets; empty: the latter's default
    config.data.train = "train"  # split to learn from; slices such as train[:55000] too
    config.data.eval = "test"  # split to judge on
    config.data.grey = False  # one channel in place of three
    config.data.per_class = 0  # learn from the first so many examples of each label; 0: from all of the split
    config.data.crop = "square"  # 'square' (centred, largest), 'none', 'TOP,LEFT,HEIGHT,WIDTH', or 'pad' with black
    config.data.random_crop = 0  # train on random windows of image_size in images of so many pixels; 0: no windows
    config.data.augment = ""  # what training does to its images, a name in vae_jax.data.augment.AUGMENTATIONS
    config.data.memory_limit = 4_000_000_000  # bytes of images; a split that is larger is streamed; of targets, too
    config.data.unreadable = 0.25  # share of a folder's image files that may be unreadable and are left out

    config.backbone = ConfigDict()
    config.backbone.name = ""  # frozen perceptual network, a name in vae_jax.backbones.BACKBONES; empty: none
    config.backbone.weights = ""  # its weights file; empty: looked for in the usual places; 'random': untrained
    config.backbone.dtype = "float32"  # or 'bfloat16': what perceptual networks compute in
    config.backbone.cache_targets = False  # keep what they see of the training images on the devices, computed once

    config.terms = ConfigDict()  # loss terms by name, see term()
    config.optimizers = ConfigDict()  # by player, see rmsprop(), adam() and sgd()

    config.log_every = 500  # steps between progress lines
    config.eval_every = 5_000  # steps between evaluations, with grids of reconstructions and samples
    config.checkpoint_every = 5_000
    config.keep_checkpoints = 2
    config.compilation_cache = ""  # folder of compiled programs; empty: where JAX_COMPILATION_CACHE_DIR says, or none
    config.eval_batch_size = 250
    config.metrics = ()  # names in vae_jax.metrics.METRICS, judged beside those that are always judged
    return config


def term(weight: float, start: int = 0, warmup: int = 0, **options) -> ConfigDict:
    """A loss term: its weight, the step from which it counts, the steps of its linear ramp, and the loss's options."""
    return ConfigDict({"weight": float(weight), "start": start, "warmup": warmup, **options})


def rmsprop(learning_rate: float, schedule: str = "constant", warmup_steps: int = 0) -> ConfigDict:
    """RMSprop with the defaults of Keras 2."""
    return _optimizer("rmsprop", learning_rate, schedule, warmup_steps, decay=0.9, eps=1e-7)


def adam(learning_rate: float, schedule: str = "constant", warmup_steps: int = 0, beta1: float = 0.9) -> ConfigDict:
    """Adam; `schedule` is constant, cosine, halving (after each fifth of the run) or deepsim (from step 300,000 on)."""
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


def read_variants(arg: str, *choices: Container[str]) -> list[str]:
    """What 'a,b,quick' names of each of `choices` ('' where nothing), and last 'quick', 'smoke' or ''.

    A choice is a table or tuple of names that exclude each other, or PIXELS.
    """
    choices, parts, chosen = (*choices, SIZES), [part for part in arg.split(",") if part], []
    for choice in choices:
        named = [part for part in parts if (part.isdigit() if choice == PIXELS else part in choice)]
        if len(named) > 1:
            raise UserError(f"The variants {named[0]!r} and {named[1]!r} exclude each other.")
        chosen += named or [""]
        parts = [part for part in parts if part not in named]
    if parts:
        known = [f"'{name}'" for choice in choices if choice != PIXELS for name in choice]
        known += [PIXELS] if PIXELS in choices else []
        raise UserError(f"Unknown variant {parts[0]!r}: there are {', '.join(known)}, and to leave it out.")
    return chosen


def shrink(config: ConfigDict, arg: str, quick: dict) -> ConfigDict:
    """The variants of every config: '' as published, 'quick' (minutes, changed by `quick`), 'smoke' (seconds)."""
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
            optimizer.update(warmup_steps=0, schedule="constant")  # so that a longer run can go on from it
    return config
