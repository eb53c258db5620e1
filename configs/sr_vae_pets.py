"""The super-resolution VAE of *Perceptual Loss in (Variational) Autoencoder* (N. Wickramasurendra), factor 2 or 4.

    python -m vae_jax.main --config=configs/sr_vae_pets.py --workdir=runs/sr_x2                          factor 2
    ... --config=configs/sr_vae_pets.py:x4                      factor 4
    ... :pixel or :x4,pixel                                     without the perceptual term
    ... :document or :x4,document                               the document's vector of 256, not spatial latents
    ... --config.data.name=image_folder --config.data.dir=DIR   any folder of images
    python -m vae_jax.upscale --workdir=runs/sr_x2 --images=FOLDER --output=FOLDER                 use the trained model

As in the document: Gaussian blur of sigma 1.0, then bicubic downsampling; 0.001 times the sum of squared differences +
KL summed over the latents + 0.8 times the mean of squared differences of VGG16's relu3_3; batches of 32; with
`document` its networks, 256 latents, a KL weight of 1, Adam at 5e-3 and 6,250 steps (200 epochs of 1,000 images). Its
code also sums the first two over the batch, so per image its features weigh 0.8 / 32
(--config.terms.feature.weight=0.025). Different here: the standard deviation is exp(logvar / 2), not the exp(logvar) of
its code; targets lie in [0, 1], which a sigmoid can reach; 64-pixel windows of 96-pixel squares.

The document reports a PSNR of 1.32 and an SSIM of 0.02 at x2, which mean nothing: its code does not upscale, compares
with the low-resolution input, assumes a range of 1 for normalised images, and samples z when testing. A vector of 256
cannot hold a photograph, and no weight makes it beat bicubic upsampling in PSNR. The spatial latents, which add to
bicubic upsampling, can; their KL weight is small, because one nat at each of them is a thousand nats in all. Johnson et
al. 2016 report 24.99 dB and 0.6731 at x4, on other images and sizes.
"""

from vae_jax.configs import common

KL_WEIGHT = 1e-7


def get_config(arg: str = ""):
    """Variants, separated by commas: 'x2' (default) or 'x4'; 'document'; 'pixel'; 'quick' (1,000 steps) or 'smoke'."""
    factor, document, pixel, size = common.read_variants(arg, ("x2", "x4"), ("document",), ("pixel",))
    factor = int((factor or "x2")[1:])
    config = common.get_config("super_resolution")
    config.name = "_".join(["sr_vae_pets", f"x{factor}", *filter(None, (document, pixel))])
    config.factor = factor
    config.image_size = 64
    config.batch_size = 32
    config.steps = 20_000
    config.log_every = 100
    config.eval_every = 5_000
    config.checkpoint_every = 1_000
    config.data.name = "oxford_iiit_pet"
    config.data.random_crop = 96
    config.metrics = tuple(f"{metric}_{on}_x{factor}" for metric in ("psnr", "ssim") for on in ("rgb", "y"))
    config.terms.l2 = common.term(0.001, reduction="sum")
    if document:
        config.steps = 6_250
        config.latents = 256
        config.encoder = {"name": "sr_vector"}
        config.decoder = {"name": "sr_vector"}
        config.terms.kl = common.term(1.0)
        config.optimizers.vae = common.adam(5e-3)
    else:
        config.latents = 8
        config.encoder = {"name": "sr_spatial", "width": 32, "blocks": 2}
        config.decoder = {"name": "sr_spatial", "width": 32, "blocks": 4}
        config.terms.kl = common.term(KL_WEIGHT)
        config.optimizers.vae = common.adam(1e-3, schedule="cosine", warmup_steps=100)
    if not pixel:
        config.backbone.name = "vgg16"
        config.terms.feature = common.term(0.8, taps=("relu3_3",), reduction="mean")
    if size == "smoke":
        config.backbone.weights = "random"
        config.data.random_crop = 72
    return common.shrink(config, size, QUICK)


QUICK = {"steps": 1_000, "log_every": 50, "eval_every": 500, "checkpoint_every": 500}
