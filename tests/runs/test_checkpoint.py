"""Checkpoints are verified; a damaged one is replaced by the previous one."""

import asyncio
import errno
import gc
import json
import os
import shutil
import threading
from concurrent.futures import wait

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers.states import state_at, target

from vae_jax.errors import UserError
from vae_jax.runs.checkpoint import FAILED_SAVES, Checkpoints, NotSaved, _sums
from vae_jax.runs.workdir import write_text
from vae_jax.runtime.sharding import make_mesh, replicated
from vae_jax.state import digest, flatten


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


PATHS = ("b[0]", "[a-z]/run", "a*b", "a?b", "#1:%20 x", "a\nb", "ä/日本", "$HOME {x}", "'\"\\", "gel\udcf6scht")


@pytest.mark.parametrize("name", PATHS)
def test_any_path(name, tmp_path):
    Checkpoints(tmp_path / name).save(state_at(10))
    (tmp_path / name).rename(tmp_path / "moved")
    assert digest(Checkpoints(tmp_path / "moved").restore(target(state_at(0)))) == digest(state_at(10))
    (tmp_path / "moved").rename(tmp_path / name)
    assert digest(Checkpoints(tmp_path / name).restore(target(state_at(0)))) == digest(state_at(10))


def test_a_save_is_good_only_when_it_was_read_back(saved, monkeypatch):
    """Whatever a writer loses or changes: an error that names it, the older steps stay, and nothing is left behind."""
    save = ocp.Checkpointer.save

    def losing(self, path, leaves, **options):
        save(self, path, {n: a + 1 if n == "params/vae/dense/kernel" else a for n, a in leaves.items()}, **options)

    monkeypatch.setattr(ocp.Checkpointer, "save", losing)
    message = "step 40 could not be written to .*: other values of params/vae/dense/kernel .* good one is step 30"
    with pytest.raises(NotSaved, match=message):
        saved.save(state_at(40))
    with pytest.raises(NotSaved, match="step 40 could not be written"):
        saved.try_out(state_at(40))
    monkeypatch.undo()
    saved.try_out(state_at(40))
    assert saved.steps() == [20, 30]
    assert sorted(p.name for p in saved.folder.iterdir()) == ["20", "30", "manifests"]


def test_trying_out_a_new_workdir_leaves_nothing(tmp_path):
    Checkpoints(tmp_path).try_out(state_at(0))
    assert not list(tmp_path.iterdir())


def test_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path).restore(target(state_at(0))) is None


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "a bit flipped": flip_a_bit,
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "emptied": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
}


def files_of(saved, step: int):
    """The files of a step, its manifest last."""
    files = [path for path in sorted((saved.folder / str(step)).rglob("*")) if path.is_file()]
    assert len(files) > 5
    return [*files, saved.folder / "manifests" / f"{step}.json"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_detected_and_named(saved, damage, capsys):
    """Damage to any single file: the previous step is restored. Damage to all steps: an error, not a fresh start."""
    for file in files_of(saved, 30):
        data = file.read_bytes()
        if not data and damage != "missing":
            continue  # there is nothing in it to damage
        DAMAGE[damage](file)
        assert digest(saved.restore(target(state_at(0)))) == digest(state_at(20))
        told = capsys.readouterr().out
        assert f"checkpoint 30 in {saved.folder} is damaged" in told
        a_sum = damage == "a bit flipped" and file.suffix == ".json"  # its file then seems to have changed
        assert a_sum or file.name in told
        file.write_bytes(data)
    assert digest(saved.restore(target(state_at(0)))) == digest(state_at(30))
    for step, number in ((30, 0), (20, -1)):
        DAMAGE[damage](files_of(saved, step)[number])
    message = r"(?s)All checkpoints .* are damaged:\n  30: .*\n  20: .*delete it to start from"
    with pytest.raises(UserError, match=message):
        saved.restore(target(state_at(0)))


def test_lost_folders_are_damage_too(saved, capsys):
    shutil.rmtree(saved.folder / "30")
    assert int(saved.restore(target(state_at(0))).step) == 20
    assert "is damaged: its folder is missing" in capsys.readouterr().out
    shutil.rmtree(saved.folder / "manifests")
    with pytest.raises(UserError, match="20: its manifest, 20.json, is missing"):
        saved.restore(target(state_at(0)))


def test_any_bit_of_a_manifest(saved):
    """Detected, or harmless as in a space: never different numbers."""
    manifest = saved.folder / "manifests" / "30.json"
    whole, found = manifest.read_bytes(), set()
    for position in range(0, len(whole), 13):
        manifest.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        found.add(digest(saved.restore(target(state_at(0)))))
    assert found <= {digest(state_at(20)), digest(state_at(30))}


def test_a_damaged_step_is_written_again(saved):
    flip_a_bit(files_of(saved, 30)[0])
    assert int(saved.restore(target(state_at(0))).step) == 20
    saved.save(state_at(30))
    assert digest(saved.restore(target(state_at(0)))) == digest(state_at(30))


def test_a_damaged_later_step_is_dropped(saved):
    """After falling back, another step is saved: older ones stay, and the damaged newest one is removed."""
    flip_a_bit(files_of(saved, 30)[0])
    saved.save(state_at(25))
    assert saved.steps() == [20, 25]


def test_an_interrupted_save_does_not_count(tmp_path):
    """Killed before it was renamed, or while Orbax was writing: the next save removes the leftovers."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(10))
    (checkpoints.folder / "10").rename(checkpoints.folder / "10.unfinished")
    assert checkpoints.restore(target(state_at(0))) is None  # nothing was ever finished
    for name in ("20.unfinished", "20.unfinished.orbax-checkpoint-tmp", "30.orbax-checkpoint-tmp-7"):
        (checkpoints.folder / name).mkdir()
    (checkpoints.folder / "manifests" / "20.json.tmp").touch()
    checkpoints.save(state_at(20))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["20", "manifests"]
    assert [path.name for path in (checkpoints.folder / "manifests").iterdir()] == ["20.json"]
    assert digest(checkpoints.restore(target(state_at(0)))) == digest(state_at(20))


def test_a_disk_that_is_full(saved, monkeypatch, capsys):
    """A warning for each failed save, at the next; older steps are unchanged; a successful save resets the count."""
    save, full = ocp.Checkpointer.save, OSError(errno.ENOSPC, "No space left on device")

    def fail(*args, **kwargs):
        save(*args, **kwargs)
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "save", fail)
        for step in (40, 50):
            saved.save_meanwhile(state_at(step))
        wait([saved._writing])
    saved.save_meanwhile(state_at(60))
    assert capsys.readouterr().out.count("warning: The checkpoint of step") == FAILED_SAVES - 1
    wait([saved._writing])
    assert saved.steps() == [30, 60]
    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    for step in (70, 80, 90):
        saved.save_meanwhile(state_at(step))
    message = r"(?s)step 90 could not be .*No space.* is step 60.*\n3 consecutive saves failed"
    with pytest.raises(UserError, match=message):
        saved.save_meanwhile(state_at(100))
    assert sorted(path.name for path in saved.folder.iterdir()) == ["30", "60", "manifests"]
    assert digest(saved.restore(target(state_at(0)))) == digest(state_at(60))


def test_the_run_goes_on_while_a_checkpoint_is_written(saved, monkeypatch):
    """What is written is the state at the call, though its memory is given to the next step; a save waits for it."""
    save, may_write = ocp.Checkpointer.save, threading.Event()

    def slow(*args, **kwargs):
        assert may_write.wait(60)
        return save(*args, **kwargs)

    monkeypatch.setattr(ocp.Checkpointer, "save", slow)
    state = state_at(40)
    before = digest(state)
    saved.save_meanwhile(state)
    assert saved.steps() == [20, 30]
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0, state), donate_argnums=0)
    jax.block_until_ready(step(state))
    assert state.params["vae"]["dense"]["kernel"].is_deleted()
    may_write.set()
    saved.save(state_at(50))
    assert saved.steps() == [40, 50]
    shutil.rmtree(saved.folder / "50")
    assert digest(saved.restore(target(state_at(0)))) == before


def test_abandoned_writes_are_silent(saved, monkeypatch, caplog):
    """Orbax writes arrays concurrently and raises the failure of one; asyncio logs the others when it collects them."""
    code = compile("async def write():\n    raise OSError('No space left on device')", "orbax/writes.py", "exec")
    exec(code, orbax := {})

    def fail(*_, **__):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.wait([loop.create_task(orbax["write"]())]))
        loop.close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    with pytest.raises(NotSaved, match="No space left on device"):
        saved.save(state_at(40))
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_never_holds_a_nan(saved, value):
    state = state_at(40)
    bad = state._replace(opt_state={"vae": ({"nu": state.opt_state["vae"][0]["nu"].at[1, 2].set(value)}, jnp.int32(0))})
    with pytest.raises(UserError, match="Step 40 was not saved: opt_state/vae/0/nu contains a NaN or infinity"):
        saved.save(bad)
    assert saved.steps() == [20, 30]


def test_checkpoints_of_earlier_versions(saved):
    """These lack the count of skipped steps."""
    earlier = Checkpoints(saved.folder.parent / "earlier")
    leaves = flatten(state_at(30))
    leaves.pop("skipped")
    ocp.Checkpointer(ocp.StandardCheckpointHandler()).save(earlier.folder / "30", leaves)
    write_text(earlier.folder / "manifests" / "30.json", json.dumps(_sums(earlier.folder / "30")))
    restored = earlier.restore(target(state_at(0)))
    assert int(restored.skipped) == 0 and restored.skipped.sharding == restored.step.sharding
    assert digest(restored._replace(skipped=jnp.int32(3))) == digest(state_at(30))


def test_another_model_is_refused_with_the_difference(saved):
    with pytest.raises(UserError) as error:
        saved.restore(target(state_at(0, width=6)))
    assert "params/vae/dense/kernel: (3, 5) found, (3, 6) expected" in str(error.value)
    state = state_at(0)
    with pytest.raises(UserError, match=r"gate/open: \(\) bool found, \(\) int32 expected"):  # which Orbax would cast
        saved.restore(target(state._replace(gate={"open": jnp.int32(0)})))


def test_digest_sees_every_bit_and_name():
    params = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    same = {"b": params["b"].copy(), "a": params["a"].copy()}
    assert digest(params) == digest(same)
    other = {**params, "a": np.array([0, 0, 1e-45], np.float32)}
    assert len({digest(params), digest(other), digest({"a": params["a"], "c": params["b"]})}) == 3
