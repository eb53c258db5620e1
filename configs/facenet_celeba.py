"""The DFC-VAE with FaceNet as the perceptual network (davidsandberg/facenet, generative): three convolutions + KL.

    python -m vae_jax.main --config=configs/facenet_celeba.py --workdir=runs/facenet_celeba
    ... --config=configs/facenet_celeba.py:128                   128x128 pixels instead of 64x64

As in that code: Inception-ResNet-v1 at 160x160 pixels, taps Conv2d_1a_3x3, Conv2d_2a_3x3, Conv2d_2b_3x3, KL weight 1
(alpha), 100 latents, LeakyReLU 0.1, Adam 5e-4, 50,000 steps of 128. Its feature weight (beta) is 0.5, but its squared
differences are summed over the batch of 128 while its KL is averaged over it: per example, as here, that is 64. Its
networks see images normalised by the mean and standard deviation of its faces, these see images in [0, 1].
"""

from vae_jax.configs import common, vae_celeba


def get_config(arg: str = ""):
    """Variants, separated by commas: '128' (pixels; default 64); 'quick' (1,000 steps) or 'smoke'."""
    config = vae_celeba.get_config(arg)
    config.name = "facenet_celeba"
    if config.steps == vae_celeba.CELEBA_STEPS:
        config.steps = 50_000
        config.batch_size = 128
        config.eval_every = 10_000
        config.checkpoint_every = 2_500
    config.encoder.slope = 0.1
    config.decoder.slope = 0.1
    config.backbone.name = "facenet"
    config.optimizers.vae = common.adam(5e-4)
    del config.terms.l2
    taps = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
    config.terms.feature = common.term(64.0, taps=taps, tap_weights=(1.0, 1.0, 1.0), reduction="sum")
    return config
