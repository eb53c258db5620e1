"""Small states for tests of checkpoints."""

import jax
import jax.numpy as jnp

from vae_jax.multipliers import Multiplier
from vae_jax.runtime.sharding import make_mesh, replicated
from vae_jax.state import State


def state_at(step: int, width: int = 5) -> State:
    """Arrays that follow from the step; `width` is that of the only kernel, [3, width]."""
    weights = jax.random.normal(jax.random.key(step), (3, width))
    return State(
        step=jnp.int32(step),
        params={"vae": {"dense": {"kernel": weights}}},
        opt_state={"vae": ({"nu": weights**2}, jnp.int32(step))},
        stats={},
        ema={},
        ema_stats={},
        gate={"open": jnp.array(True)},
        skipped=jnp.int32(step // 10),
        multipliers={"kl": Multiplier(jnp.float32(0.1), jnp.float32(step))},
    )


def target(state: State) -> State:
    """What to restore it as: the same on four devices."""
    sharding = replicated(make_mesh(4))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)
