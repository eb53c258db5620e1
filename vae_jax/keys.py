"""Every config key: its default, meaning and bounds. `configs/common.py` builds configs from them.

A new system or data set adds its keys to `SYSTEMS` or `DATA`, a loss with a frozen network its weights files to
`TERM_WEIGHTS`. Nothing here imports jax, so that mistakes are reported at once.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax.weights.finding import LPIPS_FILES, LPIPS_NET, RANDOM


class Key(NamedTuple):
    """One config key, of the type of its default; a dict is a table with a name and its options.

    least, above, below, most: inclusive lower, exclusive lower, exclusive upper and inclusive upper bound.
    choices: the allowed values.
    free: whether it may differ when a run is resumed.
    data: whether it affects the images of the evaluation, so that compared runs must agree in it.
    weights: set if the value is a weights file, '' for the usual place or 'random': the network's name, or the dotted
      key of that name.
    term: the key exists only where the config has this loss term.
    before: the value in workdirs without the key, if not the default.
    """

    default: Any
    what: str
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    free: bool = False
    data: bool = False
    weights: str = ""
    term: str = ""
    before: Any = None


NOT_FINITE = {"stop": 1, "skip": 10}  # consecutive steps that are not finite until the run ends
COUNT: dict[str, Any] = {"least": 1}
STEPS: dict[str, Any] = {"least": 1, "free": True}

COMMON: dict[str, Key] = {
    "name": Key("", "what tables and plots call the experiment"),
    "system": Key("vae", "training recipe, a name in vae_jax.systems.SYSTEMS"),
    "seed": Key(0, "seed of everything random", least=0, most=2**64 - 1),
    "steps": Key(10_000, "train steps", **STEPS),
    "batch_size": Key(32, "images per step, over all devices", **COUNT),
    "steps_per_call": Key(5, "train steps per compiled call; steps and intervals must be multiples of it", **COUNT),
    "image_size": Key(28, "height and width in pixels", data=True, **COUNT),
    "latents": Key(5, "dimensions of z, or channels where z is a map", **COUNT),
    "not_finite": Key("stop", "at a NaN or infinity: stop, or skip the step", choices=tuple(NOT_FINITE), free=True),
    "remat": Key(False, "save memory: recompute activations in the backward pass", free=True),
    "dtype": Key("float32", "dtype that the trained networks compute in", choices=("float32", "bfloat16")),
    "shard_state": Key(False, "split parameters, their moments and averages over the devices", free=True),
    "accumulate": Key(1, "save memory: take each batch in this many parts, and the mean of their gradients", **COUNT),
    "ema": Key(
        0.0,
        "decay of the moving average of parameters and running statistics, which is evaluated; 0: none",
        least=0,
        below=1,
    ),
    "data.name": Key("mnist", "in vae_jax.data.DATASETS, or any name in tensorflow-datasets", data=True),
    "data.dir": Key(
        "", "folder of images, IDX files or tensorflow-datasets; '': the default of tensorflow-datasets", free=True
    ),
    "data.train": Key("train", "split to train on, or a slice of it such as train[:55000]"),
    "data.eval": Key("test", "split to evaluate on", data=True),
    "data.grey": Key(False, "one channel instead of three", data=True),
    "data.per_class": Key(0, "train on the first N examples of each label; 0: on all", least=0),
    "data.crop": Key(
        "",
        "square (largest, centred), none, pad (with black) or TOP,LEFT,HEIGHT,WIDTH; '': the data set's own in "
        "vae_jax.data.crops, else square",
        data=True,
        before="square",
    ),
    "data.resize": Key(
        "bicubic",
        "filter that makes images smaller, with anti-aliasing; reduced_: of a JPEG read at the smallest of 1, 1/2, 1/4 "
        "and 1/8 that is no smaller than wanted",
        data=True,
        before="bicubic",
        choices=("bicubic", "bilinear", "box", "lanczos")
        + ("reduced_bicubic", "reduced_bilinear", "reduced_box", "reduced_lanczos"),
    ),
    "data.random_crop": Key(0, "train on random image_size windows of images this large; 0: no windows", least=0),
    "data.augment": Key("", "augmentation of the training images, a name in vae_jax.data.augment.AUGMENTATIONS"),
    "data.memory_limit": Key(4_000_000_000, "bytes of images on each device; larger splits are streamed", free=True),
    "data.threads": Key(
        0, "threads that read what is streamed; 0: one for each core, or for each worker", least=0, free=True
    ),
    "data.workers": Key(
        0, "processes that read what is streamed; 0: only threads of the run itself", least=0, free=True
    ),
    "data.unreadable": Key(0.25, "largest share of unreadable image files", least=0, most=1, free=True, before=1.0),
    "backbone.name": Key("", "frozen perceptual network, a name in vae_jax.backbones.BACKBONES; '': none"),
    "backbone.weights": Key("", "its weights file; '': the usual place; random: untrained"),
    "backbone.dtype": Key(
        "float32", "dtype of the perceptual networks' weights and features", choices=("float32", "bfloat16")
    ),
    "backbone.cache_targets": Key(False, "keep the features of the training images on the devices", free=True),
    "terms": Key({}, "loss terms by name, see TERM"),
    "optimizers": Key({}, "optimisers by player, see OPTIMIZER"),
    "log_every": Key(500, "steps between progress lines", **STEPS),
    "eval_every": Key(5_000, "steps between evaluations, with grids of reconstructions and samples", **STEPS),
    "checkpoint_every": Key(5_000, "steps between checkpoints", **STEPS),
    "keep_checkpoints": Key(2, "newest checkpoints to keep", **STEPS),
    "compilation_cache": Key("", "folder of compiled programs; '': JAX_COMPILATION_CACHE_DIR, or none", free=True),
    "eval_batch_size": Key(250, "images per batch of an evaluation", **STEPS),
    "elbo_samples": Key(1, "samples of z per image of the judged ELBO; K > 1 adds the bound iwae_K", **STEPS),
    "metrics": Key((), "names in vae_jax.metrics.METRICS, in addition to the default ones", free=True),
}

TERM: dict[str, Key] = {  # of terms.NAME, beside the options of the loss
    "weight": Key(1.0, "its weight in the loss", least=0),
    "start": Key(0, "first step at which the term counts", least=0),
    "warmup": Key(0, "steps of its linear ramp", least=0),
}
TERM_OPTIONS: dict[str, Key] = {  # of terms.NAME where they are set
    "decoder_weight": TERM["weight"]._replace(what="its weight for the decoder of a vae_gan, if not `weight`"),
    "target": Key(0.0, "what the mean of the term is held at, by a weight that starts from `weight`; 0: none", least=0),
}
OPTIMIZER: dict[str, Key] = {  # of optimizers.PLAYER, beside the options of the optimiser
    "name": Key("adam", "a name in vae_jax.optim.OPTIMIZERS"),
    "learning_rate": Key(1e-3, "after the warm-up", above=0),
    "schedule": Key("constant", "a name in vae_jax.optim.SCHEDULES"),
    "warmup_steps": Key(0, "steps over which the rate rises from 0", least=0),
}
MEANS = ("beta1", "beta2", "decay", "momentum")  # options of the optimisers
OPTIMIZER_OPTIONS: dict[str, Key] = {  # of optimizers.PLAYER where they are set
    "clip_norm": Key(0.0, "largest norm of the player's gradient, which is scaled down to it; 0: any", least=0),
}
OF_ONE_OPTIMIZER: dict[str, Key] = {  # options that only some of vae_jax.optim.OPTIMIZERS have
    "weight_decay": Key(0.0, "what parameters shrink by", least=0),
    "eps": Key(0.0, "added to the divisor of the step", above=0),
    **{name: Key(0.0, "how much of a mean is kept in each step", least=0, below=1) for name in MEANS},
}

AUTOENCODER: dict[str, Key] = {
    "encoder": Key({"name": ""}, "a name in vae_jax.models.ENCODERS, and that network's options"),
    "decoder": Key({"name": ""}, "a name in vae_jax.models.DECODERS, and that network's options"),
}
DISCRIMINATOR = Key({"name": ""}, "a name in vae_jax.models.DISCRIMINATORS, and that network's options")
ADVERSARY: dict[str, Key] = {  # see vae_jax.systems.adversary
    "adversary.lecam": Key(0.0, "weight of LeCam's regularisation of the discriminator; 0: none", least=0),
    "adversary.r1": Key(0.0, "gamma of R1, the penalty of its gradient at real images; 0: none", least=0),
    "adversary.r1_step": Key(0.0, "standard deviation of R1's finite differences; 0: exact derivatives", least=0),
    "adversary.augment": Key((), "augmentations of what it sees: color, translation, cutout"),
    "adversary.head_start": Key(0, "steps for which it learns before the generator descends on its term", least=0),
}
DEEPSIM: dict[str, Key] = {
    "decoder": AUTOENCODER["decoder"],
    "discriminator": DISCRIMINATOR._replace(term="adversarial"),
    "gate.stop": Key(0.1, "ratio of losses below which the discriminator rests", least=0, term="adversarial"),
    "gate.resume": Key(0.0, "ratio above which it is updated again; 0: gate.stop", least=0, term="adversarial"),
    "gate.rest": Key(0.0, "ratio above which the generator rests; 0: never", least=0, term="adversarial"),
    **{name: key._replace(term="adversarial") for name, key in ADVERSARY.items()},
}

SYSTEMS: dict[str, dict[str, Key]] = {
    "vae": AUTOENCODER,
    "blur_vae": AUTOENCODER
    | {
        "kernel": Key({"name": "gaussian"}, "gaussian (fixed), or a name in vae_jax.models.KERNELS, and its options"),
        "kernel_loss": Key("regression", "loss of the kernel network", choices=("regression", "elbo")),
        "alternate": Key(0, "steps that each player takes in turn; 0: both are updated in every step", least=0),
    },
    "vae_gan": AUTOENCODER
    | {
        "discriminator": DISCRIMINATOR,
        **ADVERSARY,
        "gate.equilibrium": Key(0.68, "cost at which discriminator and decoder are balanced, in nats per image"),
        "gate.margin": Key(0.35, "deviation of a cost from it at which a player rests; 0: no gate", least=0),
    },
    "kl_autoencoder": AUTOENCODER
    | {
        "discriminator": DISCRIMINATOR,
        **ADVERSARY,
        "adversary.generator": Key("hinge", "the generator's cost", choices=("hinge", "non_saturating")),
        "adversary.ceiling": Key(1e4, "the adaptive weight's largest value", above=0),
        "learn_logvar": Key(True, "learn the log-variance s of the reconstruction; otherwise it stays 0"),
    },
    "deepsim": {
        "encoder": AUTOENCODER["encoder"],
        **DEEPSIM,
        "pretrained": Key(RANDOM, "weights file that the encoder's AlexNet starts from", weights="alexnet"),
    },
    "inversion": {
        **DEEPSIM,
        "inverted.name": Key("alexnet", "frozen network whose features are inverted, a name in BACKBONES"),
        "inverted.tap": Key("fc6", "tap to invert"),
        "inverted.weights": Key("", "its weights file", weights="inverted.name"),
    },
    "super_resolution": {
        "encoder": AUTOENCODER["encoder"],
        "decoder": Key({"name": ""}, "a name in vae_jax.models.UPSCALERS, and that network's options"),
        "factor": Key(2, "upscaling factor; image_size is the high-resolution size", least=2, data=True),
        "sigma": Key(1.0, "standard deviation of the Gaussian blur before downsampling, in pixels", above=0, data=True),
    },
    "classifier": {
        "classes": Key(10, "number of labels", **COUNT),
        "network": Key({"name": "mnist"}, "a name in vae_jax.models.CLASSIFIERS, and that network's options"),
    },
}

DATA: dict[str, dict[str, Key]] = {  # by data.name
    "exemplars": {
        "data.source": Key("stl10", "data set to cut patches from; data.dir and the splits refer to it"),
        "data.source_size": Key(96, "height and width of those images", **COUNT),
    },
}

RENAMED = {"checkpointing": "remat"}  # keys of earlier versions
UNSAID = {"terms.gan.fake_cost": "mean"}  # options of terms that were added later: what a config without them means

# Weights files of loss terms with a frozen network: (config, term) -> [(network, weights file)]
TERM_WEIGHTS: dict[str, Callable[[ConfigDict, Mapping[str, Any]], list[tuple[str, str]]]] = {
    "feature": lambda config, term: [(config.backbone.name, config.backbone.weights)],
    "lpips": lambda config, term: [
        (name, RANDOM if config.backbone.weights == RANDOM else "")
        for name in LPIPS_FILES.get(term.get("net", LPIPS_NET), ())
    ],
    "watson": lambda config, term: [("watson", term["weights"])] if term.get("weights") else [],
}


def declared(system: str, data: str, terms: Mapping[str, Any]) -> dict[str, Key]:
    """{dotted key: Key} of a config with this system, data.name and loss terms; an unknown system adds none."""
    keys = COMMON | SYSTEMS.get(system, {}) | DATA.get(data, {})
    return {name: key for name, key in keys.items() if not key.term or key.term in terms}


def defaults(system: str = "vae") -> ConfigDict:
    """A config with every key of a system, except those of a loss term, at its default."""
    config = ConfigDict()
    for name, key in declared(system, "", {}).items():
        set_key(config, name, system if name == "system" else key.default)
    return config


def set_key(config: ConfigDict, name: str, value: Any) -> None:
    """Sets a dotted key of a config, adding missing tables."""
    *tables, last = name.split(".")
    for table in tables:
        if table not in config:
            config[table] = ConfigDict()
        config = config[table]
    config[last] = ConfigDict(value) if isinstance(value, dict) else value
