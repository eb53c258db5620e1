"""The train step of a config compiled for a machine, and what its compiler says of it."""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from vae_jax.bench.measure import gflop_per_image, random_images
from vae_jax.config import untrained
from vae_jax.evaluate import make_reconstruct
from vae_jax.plan.topologies import Device, described, mesh_of
from vae_jax.plan.traffic import collectives, kernels
from vae_jax.runs.workdir import versions
from vae_jax.runtime.compilation import compiling_for
from vae_jax.runtime.sharding import check_split, replicated, split_batches
from vae_jax.state import averaged
from vae_jax.training import Training, prepare

TOO_LARGE = re.compile(r"HLO temporaries \(([\d.]+)([KMGT])\) exceeds available HBM")
UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}


def plan(config: ConfigDict, topology: str, images: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The record of one config on one of `topologies.TOPOLOGIES`, which holds `images` training images.

    memory: bytes on a device. `state`, `frozen` weights, `batch` and `held`, its share of the images and their cached
      features, are counted from their shapes; `streamed`: whether data.memory_limit keeps the images out.
      `temporaries` and the `program` are the compiler's, and so are the `arrays` that go in and out, which are state,
      weights and batch in their tiles, and results. `total`: what all this makes; `fits`: whether it is below the
      device's `limit`.
    evaluation: the same for a batch of an evaluation, without the networks of its metrics; `beside` it lies what only
      the train step uses.
    gflop_per_image, traffic_per_image: arithmetic, and bytes to and from memory, of a step. padding_per_image: those of
      them that only fill a TPU's tiles.
    collectives: by kind, their number and bytes in a step.
    estimate: milliseconds of a step by the published peaks, if nothing else is slow.

    Of a program that needs more memory than there is, the compiler tells only how much. UserError for an unknown
    topology, without its compiler, or if its devices cannot split a batch evenly.
    """
    device, mesh = described(topology), mesh_of(topology)
    check_split(config.batch_size, mesh.size, config.accumulate)
    config = untrained(config)
    with config.unlocked():
        config.steps_per_call = 1
    here = Mesh(np.array(jax.devices("cpu")[:1]), ("data",), axis_types=(AxisType.Auto,))
    training = dataclasses.replace(prepare(config, random_images(config), here), mesh=mesh)
    record: dict[str, Any] = {
        "config": config.name, "topology": topology, "device": device.name, "devices": mesh.size,
        "batch_size": config.batch_size, "dtype": config.dtype, "backbone_dtype": config.backbone.dtype,
        "remat": config.remat, "accumulate": config.accumulate, "shard_state": config.shard_state,
    }  # fmt: skip
    seen = bytes_of(training.experiment.seen) // config.batch_size  # an image
    on_a_host = sum(one.process_index == mesh.devices.flat[0].process_index for one in mesh.devices.flat)
    record["streamed"] = images * seen > config.data.memory_limit * on_a_host
    held = (
        0 if record["streamed"] else -(-images // mesh.size) * bytes_of(training.experiment.batch) // config.batch_size
    )
    state, frozen = training.abstract_state(), bytes_of(training.frozen)
    memory = {"limit": device.memory, "state": bytes_of(state), "frozen": frozen, "held": held}
    memory["batch"] = bytes_of(training.experiment.batch) // mesh.size
    say(f"compiling the train step of {config.name} for {topology}")
    began = time.perf_counter()
    step, used = compiled(training.lower)
    record["compile_seconds"] = time.perf_counter() - began
    record["memory"] = memory | needed(step, used, held if step else _counted(memory), device)
    if step is None:
        return record | {"versions": versions()}
    say("compiling its evaluation")
    began = time.perf_counter()
    evaluation, used = compiled(lambda: lower_evaluation(training))
    record["evaluation_compile_seconds"] = time.perf_counter() - began
    beside = held + memory["state"] - bytes_of(averaged(state))
    record["evaluation"] = needed(evaluation, used, beside if evaluation else _counted(memory), device)
    return record | costs(step, training, device) | {"versions": versions()}


def _counted(memory: Mapping[str, float]) -> float:
    return sum(size for name, size in memory.items() if name != "limit")


def costs(step: jax.stages.Compiled, training: Training, device: Device) -> dict[str, Any]:
    """What a step costs: the part of the record from `gflop_per_image` on.

    Traffic is that of all `kernels`, whose number is given for a GPU, where each is launched. Arithmetic is what the
    compiler counts or, as that of GPUs counts nothing and none counts all parts of a batch, what XLA counts before it
    compiles.
    """
    config, devices, program = training.config, training.mesh.size, step.as_text() or ""
    images = config.batch_size / devices
    moved, exchanged = kernels(program), collectives(program)
    counted = step.cost_analysis()
    if counted and config.accumulate == 1:  # of a loop it has one round
        flops = counted["flops"]
    else:
        gflop = gflop_per_image(training)
        assert gflop is not None, "a plan is made on a CPU"
        flops = gflop * 1e9 * images
    number = {} if counted else {"kernels": moved.number}
    guess = estimate(flops, moved.bytes, exchanged, devices, products_of(training, device), device)
    return {
        "gflop_per_image": flops / images / 1e9,
        "traffic_per_image": moved.bytes / images,
        "padding_per_image": moved.padding / images,
        **number,
        "collectives": exchanged,
        "estimate": guess | {"images_per_second": 1e3 * config.batch_size / guess["ms_per_step"]},
    }


def products_of(training: Training, device: Device) -> float:
    """The peak for the products of a training: bfloat16's if all its networks have that dtype."""
    dtypes = {training.config.dtype} | ({training.config.backbone.dtype} if bytes_of(training.frozen) else set())
    return device.products if dtypes == {"bfloat16"} else device.float32_products


def bytes_of(tree: Any) -> int:
    """Bytes of a tree on one device: of each array its part there, if it has a sharding, or else all of it."""

    def size(leaf: Any) -> int:
        sharding = getattr(leaf, "sharding", None)
        shape = sharding.shard_shape(leaf.shape) if sharding is not None else leaf.shape
        return math.prod(shape) * leaf.dtype.itemsize

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def compiled(lower: Callable[[], jax.stages.Lowered]) -> tuple[jax.stages.Compiled | None, float]:
    """(the compiled program, 0), or (None, the bytes of its temporaries) where these are more than a device has."""
    try:
        return lower().compile(), 0.0
    except jax.errors.JaxRuntimeError as error:
        if (temporaries := too_large(str(error))) is None:
            raise
        return None, temporaries


def too_large(message: str) -> float | None:
    """The bytes of temporaries that a compiler's error says are too many; None if it says something else."""
    found = TOO_LARGE.search(message)
    return float(found[1]) * UNITS[found[2]] if found else None


def lower_evaluation(training: Training) -> jax.stages.Lowered:
    """A batch of an evaluation: reconstructions and the system's own values."""
    config, mesh, experiment = training.config, training.mesh, training.experiment
    count = -(-config.eval_batch_size // mesh.size) * mesh.size
    whole, split = replicated(mesh), split_batches(mesh)

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)

    batches = {
        name: jax.ShapeDtypeStruct((1, count, *leaf.shape[1:]), leaf.dtype, sharding=split)
        for name, leaf in experiment.seen.items()
    }
    index = jax.ShapeDtypeStruct((count,), np.int32, sharding=whole)
    model, frozen = jax.tree.map(placed, (averaged(training.abstract_state()), training.frozen))
    with compiling_for(mesh.devices.flat[0].platform, mesh.size):
        return make_reconstruct(experiment.system, mesh).lower(*model, frozen, batches, index)


def needed(program: jax.stages.Compiled | None, used: float, beside: float, device: Device) -> dict[str, Any]:
    """The memory of what `compiled` gave, on a device that holds `beside` bytes as well: of no program, with its
    arguments among them."""
    if program is None:
        return {"temporaries": used, "total": used + beside, "fits": False}
    found: Any = program.memory_analysis()
    arrays = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    code, temporaries = found.generated_code_size_in_bytes, found.temp_size_in_bytes
    total = arrays + temporaries + code + beside
    parts = {"arrays": arrays, "beside": beside, "temporaries": temporaries, "program": code}
    return {**parts, "total": total, "fits": total < device.memory}


def estimate(
    flops: float,
    moved: float,
    exchanged: Mapping[str, Mapping[str, int]],
    devices: int,
    products: float,
    device: Device,
) -> dict[str, Any]:
    """Milliseconds of a step by each of the three peaks, the largest of them, and what it is; the peaks.

    A reduction over n devices moves 2 (n - 1) / n of its bytes through each, any other exchange half of that.
    """
    sent = sum((2 if kind == "all-reduce" else 1) * one["bytes"] for kind, one in exchanged.items())
    peaks = {"arithmetic": products, "memory traffic": device.bandwidth, "the network": device.links}
    amounts = {"arithmetic": flops, "memory traffic": moved, "the network": sent * (devices - 1) / devices}
    times = {name: 1e3 * amounts[name] / peaks[name] for name in peaks}
    bound = max(times, key=lambda name: times[name])
    return {"ms": times, "peaks": peaks, "bound_by": bound, "ms_per_step": times[bound]}
