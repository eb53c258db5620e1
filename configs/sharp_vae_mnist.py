"""The sharpness losses of *Introducing sharpness measure in VAE and VAE-GAN* on MNIST at 32x32, 5,000 of each digit.

    python -m vae_jax.main --config=configs/sharp_vae_mnist.py:b --workdir=runs/sharp_b
    ... --config=configs/sharp_vae_mnist.py:naive                no sharpness loss: binary cross-entropy + KL
    ... --config=configs/sharp_vae_mnist.py:a, :b, :c or :d      one of the document's four losses

(a) compares the images' mean strongest variation, (b) the strongest variation pixel by pixel, (c) the mean squared
variation pixel by pixel, (d) is (b) in the last quarter of 10 epochs (the document switches it on after 15 epochs).
Only the sharpness term differs between variants; configs/vaegan_mnist.py has the same networks, data, optimiser and
length.

The document gives neither networks nor weights. The networks are a quarter as wide as those that Larsen et al. (2016)
use at this size. (b) has weight 1, which makes it about a quarter of a plain VAE's final cross-entropy; (a) and (c) are
weighted to be as large as (b): for configs/vae_mnist.py's reconstructions of the first 1,000 training digits (a) is
0.00080, (b) 24.8 and (c) 3.47, against a cross-entropy of 95.5. Nothing was tuned.
"""

from vae_jax.configs import common

EPOCH = 780  # steps of 64: 50,000 digits, less 80
VARIATIONS = {"naive": None, "a": "mean", "b": "maximum", "c": "square", "d": "maximum"}
WEIGHTS = {"a": 30_000.0, "b": 1.0, "c": 7.0, "d": 1.0}


def get_config(arg: str = ""):
    """Variants, separated by commas: 'naive', 'a', 'b' (default), 'c' or 'd'; 'quick' (mnist_5k) or 'smoke'."""
    loss, size = common.read_variants(arg, VARIATIONS)
    loss = loss or "b"
    config = common.get_config()
    config.name = f"sharp_vae_mnist_{loss}"
    config.image_size = 32
    config.latents = 20
    config.batch_size = 64
    config.steps = 10 * EPOCH
    config.log_every = EPOCH // 2
    config.eval_every = 5 * EPOCH
    config.checkpoint_every = 5 * EPOCH
    config.data.grey = True
    config.data.crop = "pad"
    config.data.per_class = 5_000
    config.metrics = ("digit_accuracy", "target_digit_accuracy")
    config.encoder = {"name": "larsen", "scale": 0.25}
    config.decoder = {"name": "larsen", "scale": 0.25}
    config.terms.kl = common.term(1.0)
    config.terms.bce = common.term(1.0, reduction="sum")
    if loss != "naive":
        start = config.steps * 3 // 4 if loss == "d" else 0
        config.terms.sharpness = common.term(WEIGHTS[loss], start, variation=VARIATIONS[loss], reduction="sum")
    config.optimizers.vae = common.rmsprop(3e-4, schedule="cosine")
    return common.shrink(config, size, QUICK)


QUICK = {
    "steps": 1_500,
    "log_every": 125,
    "eval_every": 750,
    "checkpoint_every": 750,
    "data": {"name": "mnist_5k", "per_class": 0},
}
