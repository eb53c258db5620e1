"""The losses of generative adversarial networks, from the discriminator's logits (Goodfellow et al. 2014)."""

import jax


def real_cost(logits: jax.Array) -> jax.Array:
    """-log Dis(x) of logits [B] in nats, [B]: what it costs to call these images anything but real."""
    return jax.nn.softplus(-logits)


def fake_cost(logits: jax.Array) -> jax.Array:
    """-log(1 - Dis(x)) of logits [B] in nats, [B]: what it costs to call these images anything but fake."""
    return jax.nn.softplus(logits)
