"""Checkpoints and devices: written from some, restored on others, whole or in parts."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
from helpers.states import state_at, target
from jax.sharding import AxisType

from vae_jax.runs.checkpoint import Checkpoints, _sums
from vae_jax.runs.workdir import write_text
from vae_jax.runtime.sharding import make_mesh, replicated, split_state
from vae_jax.state import digest, flatten


def test_checkpoints_of_devices_and_in_memory(tmp_path):
    """Earlier versions wrote arrays from devices; process 0 of several reads into its own memory."""
    checkpoints, state = Checkpoints(tmp_path), state_at(7)
    leaves = jax.device_put(flatten(state), replicated(make_mesh(4)))
    leaves.pop("skipped")
    ocp.Checkpointer(ocp.StandardCheckpointHandler()).save(checkpoints.folder / "7", leaves)
    write_text(checkpoints.folder / "manifests" / "7.json", json.dumps(_sums(checkpoints.folder / "7")))
    restored = checkpoints.restore(target(state))
    assert digest(restored) == digest(state)
    assert restored.params["vae"]["dense"]["kernel"].sharding == replicated(make_mesh(4))
    in_memory = checkpoints.restore(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state))
    assert digest(in_memory) == digest(state) and isinstance(in_memory.params["vae"]["dense"]["kernel"], np.ndarray)


def test_states_split_over_devices(tmp_path):
    """Saved from four devices in parts and restored whole, and the other way round."""
    mesh, other = make_mesh(4), jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])

    def described(state, place):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place(leaf)), state)

    state = state_at(7, width=4096)
    for before, after in (
        (lambda leaf: split_state(mesh, leaf.shape), lambda leaf: replicated(other)),
        (lambda leaf: replicated(mesh), lambda leaf: split_state(other, leaf.shape)),
    ):
        checkpoints = Checkpoints(tmp_path / str(len(list(tmp_path.iterdir()))))
        checkpoints.save(jax.tree.map(lambda leaf, before=before: jax.device_put(leaf, before(leaf)), state))
        restored = checkpoints.restore(described(state, after))
        assert digest(restored) == digest(state)
        assert restored.params["vae"]["dense"]["kernel"].sharding == after(state.params["vae"]["dense"]["kernel"])
    assert not restored.params["vae"]["dense"]["kernel"].sharding.is_fully_replicated
