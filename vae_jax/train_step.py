"""The train step of all systems: their published update rules, from one forward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vae_jax.losses.reduction import total
from vae_jax.multipliers import factor, held_terms, moved
from vae_jax.runtime.compilation import target_platform
from vae_jax.state import State
from vae_jax.systems.contract import System, weight_at


def to_float(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """uint8 images, as sent to the device, to float32 in [0, 1]; other entries unchanged."""
    return {k: v.astype(jnp.float32) / 255 if v.dtype == jnp.uint8 else v for k, v in batch.items()}


def make_train_step(
    system: System,
    optimizers: Mapping[str, optax.GradientTransformation],
    ema_decay: float = 0.0,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    in_turn: bool = False,
    accumulate: int = 1,
) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
    """The pure step (state, frozen, batch, root_key) -> (state, scalars).

    `augment` (key, images) -> images, float32 [B, H, W, C] in [0, 1], is applied before the system sees the images and
    may change their height and width. Its key depends on the step, like everything random.

    With `in_turn` each player's backward pass starts after the previous player's has ended: under `remat` each
    recomputes activations, and those of all players would be in memory at once.

    With `accumulate` the batch is taken in that many parts, one after another, and terms and gradients are the means
    over them, so that only one part's activations are in memory. Each part has a key of its own, is normalised by its
    own statistics where there is BatchNorm, and changes the running ones; whatever else a system computes from a whole
    batch, such as an adaptive weight, it computes from each part.

    One `jax.vjp` of the terms; its cotangent is each player's row of `system.rules` in turn, and only that player's
    gradient is kept. A player is not updated if its gate is shut; no player is if a term, a gradient, an update or the
    running statistics are not finite: the scalars then show where, the state is unchanged, and the step is counted in
    `state.skipped`.

    Scalars: every term, the sum of each player's row as `loss/<player>`, the norms `gradient_norm/<player>` and
    `update_norm/<player>`, `statistics_norm` if there are statistics, the weight of every term that is held at a target
    as `<term>_weight`, whether a player was updated as `updated/<player>` (0 or 1), whether the step was `finite` (0 or
    1), and how many were not, `skipped`.
    """
    held = held_terms(system.rules)

    def train_step(state: State, frozen, batch, root_key: jax.Array):
        key = jax.random.fold_in(root_key, state.step)
        batch = to_float(batch)
        if augment is not None:
            key, augment_key = jax.random.split(key)
            batch["image"] = augment(augment_key, batch["image"])

        factors = {term: factor(multiplier) for term, multiplier in state.multipliers.items()}
        weights = {
            player: {term: weight_at(weight, state.step) * factors.get(term, 1.0) for term, weight in rule.items()}
            for player, rule in system.rules.items()
        }

        def pulled_back(stats, batch, key):
            def forward(params):
                return system.terms(params, stats, frozen, batch, key, state.step)

            terms, pull_back, stats = jax.vjp(forward, state.params, has_aux=True)
            gradients = {}
            for player, row in weights.items():
                cotangent = {term: jnp.full_like(terms[term], row.get(term, 0.0)) for term in terms}
                if in_turn:
                    cotangent, gradients = jax.lax.optimization_barrier((cotangent, gradients))
                with jax.named_scope(f"backward/{player}"):
                    gradients[player] = pull_back(cotangent)[0][player]
            return (dict(terms), gradients), stats

        (terms, gradients), stats = _in_parts(pulled_back, accumulate, state.stats, batch, key)
        scalars = terms | {f"{term}_weight": weight_at(held[term], state.step) * factors[term] for term in held}
        for player, row in weights.items():
            scalars[f"loss/{player}"] = total(row[term] * terms[term] for term in row)
            scalars[f"gradient_norm/{player}"] = optax.tree.norm(gradients[player])

        updates, new_opt = {}, {}
        for player in state.params:
            with jax.named_scope(f"update/{player}"):
                updates[player], new_opt[player] = optimizers[player].update(
                    gradients[player], state.opt_state[player], state.params[player]
                )
            scalars[f"update_norm/{player}"] = optax.tree.norm(updates[player])

        if jax.tree.leaves(stats):
            scalars["statistics_norm"] = optax.tree.norm(stats)
        finite = jnp.all(jnp.isfinite(jnp.stack(list(scalars.values()))))
        open_gates, gate = system.gate(scalars, state.gate)
        params, opt_state = {}, {}
        for player in state.params:
            updated = finite & open_gates.get(player, True)
            new = (optax.apply_updates(state.params[player], updates[player]), new_opt[player])
            params[player], opt_state[player] = _where(updated, new, (state.params[player], state.opt_state[player]))
            scalars[f"updated/{player}"] = updated.astype(jnp.float32)
        multipliers = {term: moved(state.multipliers[term], held[term], terms[term], state.step) for term in held}
        skipped = state.skipped + ~finite
        scalars |= {"finite": finite.astype(jnp.float32), "skipped": skipped.astype(jnp.float32)}

        decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))  # forgets the initialisation
        old = (state.ema, state.ema_stats)
        new = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, old, (params, stats)) if state.ema else old
        ema, ema_stats = _where(finite, new, old)
        return State(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            stats=_where(finite, stats, state.stats),
            ema=ema,
            ema_stats=ema_stats,
            gate=_where(finite, gate, state.gate),
            skipped=skipped,
            multipliers=_where(finite, multipliers, state.multipliers),
        ), scalars

    return train_step


def _in_parts(of_part: Callable, parts: int, stats, batch: Mapping[str, jax.Array], key: jax.Array):
    """The mean of what `of_part` (stats, batch, key) -> (values, stats) gives for each of the `parts` of a batch, one
    after another, and the statistics after the last.

    Each part has every `parts`-th example, so that all devices have a share of it where they are.
    """
    if parts == 1:
        return of_part(stats, batch, key)

    def add(carry, part):
        (sums, stats), part = jax.lax.optimization_barrier((carry, part))
        values, stats = of_part(stats, *part)
        return (jax.tree.map(jnp.add, sums, values), stats), None

    batches = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch)
    each = (batches, jax.random.split(key, parts))
    shapes, _ = jax.eval_shape(of_part, stats, *jax.tree.map(lambda leaf: leaf[0], each))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (sums, stats), _ = jax.lax.scan(add, (zeros, stats), each, unroll=scan_unroll(parts))
    return jax.tree.map(lambda leaf: leaf / parts, sums), stats


def make_train_call(train_step, unroll: int, out_shardings: Any = None) -> jax.stages.Wrapped:
    """Several steps as one compiled call: (state, frozen, batches [K, B, ...], root_key) -> (state, scalars [K]).

    The state is donated: its memory becomes the new state's. `unroll` is how many of the K steps `lax.scan` unrolls
    (`scan_unroll`), `out_shardings` where the results lie. A single step does not use a loop: XLA removes a loop of one
    too late for the fast kernels of its convolutions.
    """

    def train_call(state: State, frozen, batches, root_key: jax.Array):
        def step(state: State, batch):
            return train_step(state, frozen, batch, root_key)

        if len(jax.tree.leaves(batches)[0]) > 1:
            return jax.lax.scan(step, state, batches, unroll=unroll)
        state, scalars = step(state, jax.tree.map(lambda leaf: leaf[0], batches))
        return state, jax.tree.map(lambda leaf: leaf[None], scalars)

    return jax.jit(train_call, donate_argnames=("state",), out_shardings=out_shardings)


def scan_unroll(steps: int) -> int:
    """How many of the steps of a loop the program unrolls; 1 is a loop.

    All on CPUs: inside a while loop, convolutions lose their fast, threaded kernels there.
    """
    return steps if target_platform() == "cpu" else 1


def _where(condition: jax.Array, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
