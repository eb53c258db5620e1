"""The losses of generative adversarial networks, from the discriminator's logits.

Logits are one per image, [B], or a map of patches, [B, h, w], over which costs are averaged: [B] either way.
`real_cost` and `fake_cost` are Goodfellow et al.'s (2014), the hinge costs Lim and Ye's (2017) as in VQGAN.
"""

import jax

from vae_jax.losses.reduction import per_example


def real_cost(logits: jax.Array) -> jax.Array:
    """-log Dis(x) in nats, [B]: the cross-entropy with the label real."""
    return per_example(jax.nn.softplus(-logits), "mean")


def fake_cost(logits: jax.Array) -> jax.Array:
    """-log(1 - Dis(x)) in nats, [B]: the cross-entropy with the label fake."""
    return per_example(jax.nn.softplus(logits), "mean")


def hinge_real_cost(logits: jax.Array) -> jax.Array:
    """max(0, 1 - logit), [B]: the discriminator's cost of real images, zero from a logit of 1 up."""
    return per_example(jax.nn.relu(1 - logits), "mean")


def hinge_fake_cost(logits: jax.Array) -> jax.Array:
    """max(0, 1 + logit), [B]: the discriminator's cost of fakes, zero from a logit of -1 down."""
    return per_example(jax.nn.relu(1 + logits), "mean")


def hinge_generator_cost(logits: jax.Array) -> jax.Array:
    """-logit, [B]: the generator's cost of its fakes."""
    return per_example(-logits, "mean")
