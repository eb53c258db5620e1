"""Exemplar-CNN (Dosovitskiy et al. 2014, 2016), 64c5-128c5-256c5-512f: a comparator trained without labels.

    python -m vae_jax.main --config=configs/exemplar_cnn.py --workdir=runs/exemplar_cnn
    python -m pretrained_converters.convert exemplar_cnn --source=runs/exemplar_cnn
    ... --config.data.source=image_folder --config.data.dir=DIR --config.data.train=train --config.data.eval=train

It classifies random views of 16,000 patches, each a class of its own, from STL-10's 100,000 unlabelled images. As
published: 32x32 patches where gradients are large, the transformations (vae_jax/data/exemplar_views.py), SGD from a
rate of 0.01 with momentum 0.9, dropout. From the authors' command for this network on STL-10, whose numbers are
unlabelled: 16,000 classes, 1,200,000 steps, batches of 128. Chosen here: a cosine schedule, where theirs divides the
rate by three when the validation error stalls; a new view at every step, where theirs has a fixed number per class; no
weight decay (their command has a 0.004).

The evaluation measures how many untransformed patches are classified correctly.
"""

from vae_jax.configs import common


def get_config(arg: str = ""):
    """Variants: '' (16,000 classes), 'quick' (200 of them), 'smoke' (synthetic pictures)."""
    config = common.get_config("classifier")
    config.name = "exemplar_cnn"
    config.image_size = 32
    config.batch_size = 128
    config.steps = 1_200_000
    config.log_every = 1_000
    config.eval_every = 50_000
    config.checkpoint_every = 10_000
    config.data.name = "exemplars"
    config.data.source = "stl10"  # the data set to cut patches from; data.dir and the splits refer to it
    config.data.source_size = 96  # height and width of those images
    config.data.train = "unlabelled"
    config.data.eval = "unlabelled"
    config.data.augment = "exemplar"
    config.classes = 16_000  # patches
    config.network = {"name": "exemplar", "dropout": 0.5}
    config.terms.cross_entropy = common.term(1.0)
    config.optimizers.classifier = common.sgd(1e-2, schedule="cosine")
    config = common.shrink(config, arg, QUICK)
    if arg == "smoke":
        config.classes = 16
        config.data.update(name="exemplars", source="synthetic", source_size=48, eval="train")
    return config


QUICK = {
    "steps": 2_000,
    "batch_size": 32,
    "log_every": 50,
    "eval_every": 500,
    "checkpoint_every": 500,
    "classes": 200,
}
