"""The VAE-GAN of configs/vaegan_mnist.py with the sharpness loss (b), by the document's last update rules.

    python -m vae_jax.main --config=configs/vaegan_sharp_mnist.py --workdir=runs/vaegan_sharp
    ... --config=configs/vaegan_sharp_mnist.py:letter            the document's rules exactly

The encoder descends on L_prior + L_rec + L_sharpness, the decoder on L_rec - L_GAN + L_sharpness, the discriminator on
L_GAN. The sharpness loss has the weight of configs/sharp_vae_mnist.py, and the decoder scales it like L_rec.
"""

from vae_jax.configs import common, sharp_vae_mnist, vaegan_mnist


def get_config(arg: str = ""):
    """Variants, separated by commas: 'letter'; 'quick' (the 4,000 of mnist_5k) or 'smoke'."""
    config = vaegan_mnist.get_config(arg)
    config.name = config.name.replace("vaegan", "vaegan_sharp")
    weight = sharp_vae_mnist.WEIGHTS["b"]
    config.terms.sharpness = common.term(
        weight,
        decoder_weight=config.terms.similarity.decoder_weight * weight,
        variation="maximum",
        reduction="sum",
    )
    return config
