"""A system of two players of one number each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vae_jax.state import State, init_state
from vae_jax.systems.contract import System

BATCH = {"image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 2, 3, 1)), jnp.uint8)}
ROOT = jax.random.key(7)


def two_players(gate=None, rules=None) -> System:
    """A generator and a discriminator of one number each, with terms that involve both."""

    def terms(params, stats, frozen, batch, key, step):
        g, d = params["generator"]["w"], params["discriminator"]["w"]
        x = batch["image"].mean()
        return {"rec": (g * d - x) ** 2, "gan": jnp.sin(g) * d, "prior": g**2}, {"seen": stats["seen"] + 1}

    return System(
        rules=rules or {"generator": {"rec": 2.0, "gan": -0.5, "prior": 1.0}, "discriminator": {"gan": 1.0}},
        frozen=dict,
        init=lambda key, batch: (
            {"generator": {"w": jnp.float32(0.7)}, "discriminator": {"w": jnp.float32(-1.3)}},
            {"seen": jnp.zeros(())},
        ),
        terms=terms,
        evaluate=None,
        **({} if gate is None else {"gate": gate, "init_gate": lambda: {"steps": jnp.zeros(())}}),
    )


def first_state(system, optimizers, ema=False) -> State:
    return init_state(system, optimizers, jax.random.key(0), BATCH, ema)


SGD = {"generator": optax.sgd(0.1), "discriminator": optax.adam(0.01)}
