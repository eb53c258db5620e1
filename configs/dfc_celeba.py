"""The DFC-VAE of Hou, Shen, Sun, Qiu (WACV 2017) on faces: features of VGG19 + KL.

    python -m vae_jax.main --config=configs/dfc_celeba.py --workdir=runs/dfc_celeba           VAE-123, 64x64 pixels
    ... --config=configs/dfc_celeba.py:345                      VAE-345: relu3_1, relu4_1, relu5_1
    ... --config=configs/dfc_celeba.py:128 or :345,128          128x128 pixels
    ... --config.backbone.name=vgg16                            VGG16 instead of VGG19
    ... --config.backbone.dtype=bfloat16                        the perceptual network in bfloat16
    ... --config.data.name=image_folder --config.data.dir=DIR   any folder of images

Networks, crop, initialisation and optimiser as in configs/vae_celeba.py. Squared differences are averaged over height,
width and channels of each tap, with weight 0.5 (beta); KL is summed over the latents.

Loss weights depend on the scale of the perceptual network. The authors' KL weight (alpha) of 1 fits Caffe's VGG19,
which sees colours in 0..255: --config.backbone.name=vgg19_caffe --config.terms.kl.weight=1.0 is their setting.
torchvision's features are smaller (backbones/vgg.py). Hence 5e-4 for VAE-123, and 1e-3 for VAE-345, whose loss is about
twice as large: watch `kl`, and compare losses at similar KL.
"""

from vae_jax.configs import common, vae_celeba

KL_WEIGHTS = {"123": 5e-4, "345": 1e-3}
TAPS = {"123": ("relu1_1", "relu2_1", "relu3_1"), "345": ("relu3_1", "relu4_1", "relu5_1")}


def get_config(arg: str = ""):
    """Variants, separated by commas: '123' (default) or '345'; '128' (pixels); 'quick' or 'smoke'."""
    layers, pixels, size = common.read_variants(arg, TAPS, ("128",))
    layers = layers or "123"
    config = vae_celeba.get_config(f"{pixels},{size}")
    config.name = f"dfc_celeba_{layers}"
    config.backbone.name = "vgg19"
    del config.terms.l2
    config.terms.kl = common.term(KL_WEIGHTS[layers])
    config.terms.feature = common.term(0.5, taps=TAPS[layers], tap_weights=(1.0, 1.0, 1.0), reduction="mean")
    return config
