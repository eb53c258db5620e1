"""Checkpoints are verified, and a damaged one falls back to the one before."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.checkpoint import Checkpoints
from vae_jax.errors import UserError
from vae_jax.sharding import make_mesh, replicated
from vae_jax.state import State, digest


def state_at(step: int, width: int = 5) -> State:
    weights = jax.random.normal(jax.random.key(step), (3, width))
    return State(
        step=jnp.int32(step),
        params={"vae": {"dense": {"kernel": weights}}},
        opt_state={"vae": ({"nu": weights**2}, jnp.int32(step))},
        stats={},
        ema={},
        gate={"open": jnp.array(True)},
    )


def target(state: State) -> State:
    sharding = replicated(make_mesh(4))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20, 30):
        checkpoints.save(state_at(step))
    return checkpoints


def test_the_newest_comes_back_bit_equal(saved):
    restored = saved.restore(target(state_at(0)))
    assert digest(restored) == digest(state_at(30))
    assert jax.tree.structure(restored) == jax.tree.structure(state_at(30))
    assert restored.params["vae"]["dense"]["kernel"].sharding == replicated(make_mesh(4))


def test_only_the_last_ones_are_kept(saved):
    assert saved.steps() == [20, 30]
    assert sorted(p.name for p in saved.folder.iterdir()) == ["20", "30", "manifests"]
    assert saved.save(state_at(30)) == 30  # an existing step is left as it is


def test_nothing_there(tmp_path):
    assert Checkpoints(tmp_path).restore(target(state_at(0))) is None


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def damage_bit(folder):
    file = largest_file(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage, words",
    [
        (damage_bit, "has changed"),
        (lambda folder: largest_file(folder).write_bytes(b""), "has changed"),
        (lambda folder: largest_file(folder).unlink(), "is missing"),
        (shutil.rmtree, "its folder is missing"),
    ],
)
def test_a_damaged_one_falls_back(saved, damage, words, capsys):
    damage(saved.folder / "30")
    assert digest(saved.restore(target(state_at(0)))) == digest(state_at(20))
    assert words in capsys.readouterr().out
    damage(saved.folder / "20")
    with pytest.raises(UserError, match="No checkpoint .* is whole"):
        saved.restore(target(state_at(0)))


def test_a_damaged_step_is_written_again(saved):
    damage_bit(saved.folder / "30")
    assert int(saved.restore(target(state_at(0))).step) == 20
    saved.save(state_at(30))
    assert digest(saved.restore(target(state_at(0)))) == digest(state_at(30))


def test_a_step_that_was_not_finished_does_not_count(saved):
    (saved.folder / "manifests" / "30.json").unlink()
    assert int(saved.restore(target(state_at(0))).step) == 20
    saved.save(state_at(30))  # written anew over the remains
    assert digest(saved.restore(target(state_at(0)))) == digest(state_at(30))


def test_another_model_is_refused_with_the_difference(saved):
    with pytest.raises(UserError) as error:
        saved.restore(target(state_at(0, width=6)))
    assert "params/vae/dense/kernel: (3, 5) there, (3, 6) expected" in str(error.value)


def test_digest_sees_every_bit_and_name():
    params = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    same = {"b": params["b"].copy(), "a": params["a"].copy()}
    assert digest(params) == digest(same)
    other = {**params, "a": np.array([0, 0, 1e-45], np.float32)}
    assert len({digest(params), digest(other), digest({"a": params["a"], "c": params["b"]})}) == 3
