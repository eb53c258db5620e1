"""Run by test_process.py, once per process: prints the batches that two processes see together."""

import json
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from vae_jax.data.contract import in_memory
from vae_jax.data.pipeline import TrainBatches
from vae_jax.sharding import make_mesh

port, process = sys.argv[1:]
jax.config.update("jax_enable_preemption_service", False)
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(process))
images = np.arange(50 * 4 * 6, dtype=np.uint8).reshape(50, 4, 6, 1)
dataset = in_memory(images, np.arange(50))
found = {}
for kind, source in (("in memory", dataset), ("streamed", dataset._replace(arrays=None))):
    batch = TrainBatches(source, seed=1, batch_size=8, mesh=make_mesh(8))(6, 2)
    whole = multihost_utils.process_allgather(batch, tiled=True)
    np.testing.assert_array_equal(whole["image"], images[whole["label"]])
    found[kind] = {"devices": jax.device_count(), "local": jax.local_device_count(), "label": whole["label"].tolist()}
if jax.process_index() == 0:
    print(json.dumps(found))
