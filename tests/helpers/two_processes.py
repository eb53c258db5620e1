"""Run by test_process.py, once per process: prints the batches that two processes see, and what they exchange."""

import json
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from vae_jax.data.contract import in_memory
from vae_jax.data.pipeline import TrainBatches
from vae_jax.errors import UserError
from vae_jax.runtime.processes import agreed, check_same_everywhere, from_first, on_first_process, together
from vae_jax.runtime.sharding import make_mesh, replicated


def batches() -> dict:
    """The batches of steps 6 and 7 in two processes, from data in memory and streamed."""
    images = np.arange(50 * 4 * 6, dtype=np.uint8).reshape(50, 4, 6, 1)
    dataset = in_memory(images, np.arange(50))
    found = {}
    for kind, source in (("in memory", dataset), ("streamed", dataset._replace(arrays=None))):
        batch = TrainBatches(source, seed=1, batch_size=8, mesh=make_mesh(8))(6, 2)
        whole = multihost_utils.process_allgather(batch, tiled=True)
        np.testing.assert_array_equal(whole["image"], images[whole["label"]])
        counts = {"devices": jax.device_count(), "local": jax.local_device_count()}
        found[kind] = counts | {"label": whole["label"].tolist()}
    return found


def calls_until_stopped(process: int) -> list[int]:
    """How often each process checked for a stop in vain; process 1 requests it at its fourth check."""
    calls = 0
    stop = agreed(lambda: process == 1 and calls == 3, make_mesh(8))
    while not stop():
        calls += 1
    assert stop()  # for good
    return multihost_utils.process_allgather(np.array(calls)).tolist()


def bits_of_the_first(process: int) -> list[int]:
    """The bits in process 1 of numbers that only process 0 has."""
    sharding = replicated(make_mesh(8))
    target = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, shape, dtype in (("weights", (3,), "float32"), ("step", (), "int32"), ("open", (), "bool"))
    }

    def read(empty):
        assert process == 0
        return {"weights": np.array([-0.0, np.nan, 1e-45], np.float32), "step": np.int32(7), "open": np.bool_(True)}

    assert from_first(lambda empty: None, target) is None
    found = from_first(read, target)
    assert all(found[name].sharding == sharding for name in target)
    mine = np.asarray(found["weights"]).view(np.int32).tolist() + [int(found["step"]), int(found["open"])]
    return multihost_utils.process_allgather(np.array(mine)).tolist()[1]


def told_by_the_first(process: int) -> list:
    """What process 1 receives from process 0: a result, and two failures."""

    def work(*_):
        assert process == 0
        raise UserError("a mistake")

    heard = [on_first_process(lambda: {"step": 7, "name": None})]
    for fails in (lambda: on_first_process(work), lambda: from_first(work, {})):
        try:
            fails()
        except UserError as error:
            heard.append(str(error))
    return heard


if __name__ == "__main__":
    port, process = sys.argv[1], int(sys.argv[2])
    with together(f"127.0.0.1:{port}", 2, process, heartbeat=20):
        check_same_everywhere({"seed": 1})
        found = batches() | {"calls": calls_until_stopped(process), "bits": bits_of_the_first(process)}
        found["told"] = told_by_the_first(process)
        print(json.dumps(found))
