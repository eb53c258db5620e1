"""Steps with a NaN or infinity: they change no parameter, and stop the run or are counted, as the config says."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.config import check_config
from vae_jax.errors import UserError
from vae_jax.inference import load_workdir
from vae_jax.keys import NOT_FINITE
from vae_jax.runs.workdir import read_lines
from vae_jax.state import digest, init_state
from vae_jax.systems import SYSTEMS, vae
from vae_jax.systems.contract import System
from vae_jax.train import train
from vae_jax.train_step import make_train_step

PLAYERS = ("generator", "discriminator")


def one_number_each(values) -> System:
    """Two players with one number each, and a running mean; `values` (params, stats, image) -> terms, new stats."""
    return System(
        rules={player: {player: 1.0} for player in PLAYERS},
        frozen=dict,
        init=lambda key, batch: ({player: {"w": jnp.float32(0.5)} for player in PLAYERS}, {"mean": jnp.float32(0)}),
        terms=lambda params, stats, frozen, batch, key, step: values(params, stats, batch["image"]),
        evaluate=None,
    )


def squares(params, stats, image):
    return {player: (params[player]["w"] - image.mean()) ** 2 for player in PLAYERS}, {"mean": image.mean()}


def infinite_statistics(params, stats, image):
    return squares(params, stats, image)[0], {"mean": 1e38 * jnp.float32(10) * image.mean()}


def root_at_zero(params, stats, image):
    """A term of the discriminator only, which is finite although its gradient is not."""
    terms, stats = squares(params, stats, image)
    w = params["discriminator"]["w"]
    return terms | {"discriminator": jnp.sqrt(jnp.abs(w - 0.5))}, stats


@pytest.mark.parametrize("values, image, where", [
    (squares, np.nan, "loss/generator"),  # in the data
    (squares, np.inf, "loss/generator"),
    (squares, 1e30, "loss/generator"),  # in a loss: its square is too large
    (root_at_zero, 0.3, "gradient_norm/discriminator"),  # in one player's gradient
    (infinite_statistics, 0.3, "statistics_norm"),
])  # fmt: skip
def test_no_player_is_updated(values, image, where):
    system, optimizers = one_number_each(values), {player: optax.adam(0.1) for player in PLAYERS}
    batch = {"image": np.full((4, 2, 3, 1), 0.3, np.float32)}
    batch["image"][1, 1, 2, 0] = image
    state = init_state(system, optimizers, jax.random.key(0), batch, ema=True)
    new, scalars = jax.jit(make_train_step(system, optimizers, 0.9))(state, {}, batch, jax.random.key(1))
    assert not np.isfinite(scalars[where])
    assert (int(new.step), int(new.skipped), float(scalars["finite"])) == (1, 1, 0)
    assert digest(new._replace(step=state.step, skipped=state.skipped)) == digest(state)
    batch["image"][:] = 0.4
    healed, scalars = jax.jit(make_train_step(one_number_each(squares), optimizers, 0.9))(
        new, {}, batch, jax.random.key(1)
    )
    assert (int(healed.skipped), float(scalars["finite"])) == (1, 1) and digest(healed.params) != digest(new.params)


@pytest.fixture
def run(smoke, tmp_path, monkeypatch):
    """A function that trains `vae_mnist` in tmp_path / NAME, with NaNs in the term kl at the given steps."""

    def run(name, bad, **changes):
        def going_bad(config, image_shape):
            system = vae(config, image_shape)

            def terms(params, stats, frozen, batch, key, step):
                values, stats = system.terms(params, stats, frozen, batch, key, step)
                now_bad = jnp.isin(step, jnp.array(list(bad)))
                return values | {"kl": jnp.where(now_bad, jnp.nan, values["kl"])}, stats

            return dataclasses.replace(system, terms=terms)

        monkeypatch.setitem(SYSTEMS, "vae", going_bad)
        config = smoke("vae_mnist")
        config.image_size = 16
        config.update(changes)
        return train(config.lock(), str(tmp_path / name))

    return run


def assert_finite(workdir, step: int) -> None:
    state = load_workdir(workdir).state
    assert int(state.step) == step
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_stopped_with_step_and_term(run, tmp_path):
    """The kl term is NaN at the fourth step; the checkpoint of the second step does not change."""
    with pytest.raises(
        UserError, match=r"in kl, loss/vae.* at step 4\..* the checkpoints in .* are good\.\n.*not_finite=skip"
    ):
        run("run", {3}, steps=8, checkpoint_every=2, log_every=8, eval_every=8)
    with pytest.raises(UserError, match="at step 2. It changed no parameters, and no checkpoint had been saved before"):
        run("early", {1}, steps=8, checkpoint_every=4, log_every=8, eval_every=8)
    assert_finite(tmp_path / "run", 2)
    assert run("run", {3}, steps=8, not_finite="skip")["skipped_steps"] == 1  # as the message suggests


def test_skipped_and_counted(run, tmp_path, capsys):
    """In the progress line, scalars.jsonl, metrics.json and the state; resuming is exact despite skipped steps."""
    changes = {"steps": 8, "checkpoint_every": 2, "log_every": 4, "eval_every": 8, "not_finite": "skip"}
    metrics = run("whole", {2, 3, 6}, **changes)
    told = capsys.readouterr().out
    assert "warning: skipped 2 of 2 steps, the first at step 3: NaN or infinity in kl, loss/vae" in told
    assert "skipped 2\n" in told and "skipped 3\n" in told
    assert metrics["skipped_steps"] == 3
    assert json.loads((tmp_path / "whole" / "eval" / "metrics.json").read_text()) == metrics
    records = [record for record in read_lines(tmp_path / "whole" / "scalars.jsonl") if "kl" in record]
    assert [record["skipped"] for record in records] == [2, 3]
    assert all(np.isfinite(list(record.values())).all() for record in records)
    assert_finite(tmp_path / "whole", 8)
    run("parts", {2, 3, 6}, **changes | {"steps": 4})
    assert run("parts", {2, 3, 6}, **changes) == metrics


def test_too_many_in_a_row(run, tmp_path):
    """Skipping ends when the run learns nothing any more."""
    assert NOT_FINITE["skip"] == 10
    with pytest.raises(UserError, match="NaN or infinity in kl.* at step 16, the last of 10 such steps in a row"):
        run("run", set(range(2, 5)) | set(range(6, 40)), steps=40, checkpoint_every=2, eval_every=40, not_finite="skip")
    assert_finite(tmp_path / "run", 14)


def test_the_choice_is_checked(smoke):
    config = smoke("vae_mnist")
    config.not_finite = "skp"
    with pytest.raises(UserError, match="not_finite is 'skp'; expected 'stop' or 'skip'"):
        check_config(config)
