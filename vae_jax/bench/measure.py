"""The record of a benchmark: what a config's compiled train call takes, and its parts."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from vae_jax.bench.machine import machine, matmul_peak, matmul_size, peak_memory
from vae_jax.bench.peers import say
from vae_jax.bench.split import seconds, split
from vae_jax.config import check_weights, image_shape, number_of_classes, untrained
from vae_jax.data import load_dataset
from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.pipeline import TrainBatches
from vae_jax.runtime.sharding import make_mesh
from vae_jax.state import State
from vae_jax.training import Training, prepare

WARM_UP = 3  # calls
IMAGES = 1024  # of the synthetic set
MEASURED = (
    "images_per_second", "ms_per_step", "gflop_per_image", "peak_share", "matmul_gflop_per_second", "matmul_size",
    "compile_seconds", "peak_memory_bytes", "host_share", "input_images_per_second", "data_wait_share", "split",
)  # fmt: skip


def benchmark(config: ConfigDict, data: str, part: str, calls: int) -> dict[str, Any]:
    """The record of one config."""
    mesh, steps = make_mesh(config.batch_size, config.accumulate), config.steps_per_call
    if data == "synthetic":
        config = untrained(config)
        dataset = random_images(config)
    else:
        check_weights(config)
        dataset = load_dataset(config, config.data.train, augmented=True)
    record = {
        "config": config.name, "system": config.system, "data": data, "part": part, "batch_size": config.batch_size,
        "image_shape": image_shape(config), "steps_per_call": steps, "calls": calls,
    } | dict.fromkeys(MEASURED)  # fmt: skip
    if part != "step":
        say("the batches alone")
        batches = TrainBatches(dataset, config.seed, config.batch_size, mesh)
        taken = median(lambda i: batches(i * steps, steps), calls)
        record["input_images_per_second"] = steps * config.batch_size / taken
    if part != "input":
        record |= measure_step(config, dataset, mesh, calls, whole=part == "all")
    return record | machine()


def measure_step(config: ConfigDict, dataset: Dataset, mesh: Mesh, calls: int, whole: bool) -> dict[str, Any]:
    """The part of the record about train calls; with `whole` also the loop over batches and the parts of a step."""
    steps = config.steps_per_call
    measured = compiled(config, dataset, mesh)
    batch, run, gflop = measured.batch, repeated(measured), gflop_per_image(measured.training)
    say("train calls")
    taken = median(lambda _: run(batch), calls)
    rate, peak = steps * config.batch_size / taken, matmul_peak(mesh)
    record = {
        "images_per_second": rate, "ms_per_step": 1e3 * taken / steps, "gflop_per_image": gflop,
        "peak_share": gflop and gflop * rate / peak, "matmul_gflop_per_second": peak, "matmul_size": matmul_size(),
        "compile_seconds": measured.compile_seconds, "peak_memory_bytes": peak_memory(),
    }  # fmt: skip
    if whole:
        say("train calls, each with a new batch")
        record["data_wait_share"] = data_wait(run, measured.training.batches, steps, calls)
    state, scalars = run(batch)
    measured = measured._replace(state=state)
    run = repeated(measured._replace(call=compile_nothing(measured, scalars)))
    record["host_share"] = median(lambda _: run(batch), calls) / taken
    if whole:
        say("the parts of a step")
        record["split"] = split(measured.training.experiment, run(batch)[0], measured.frozen, mesh, calls)
    return record


class Measured(NamedTuple):
    """A compiled train call and what it is called with."""

    training: Training
    call: jax.stages.Compiled
    compile_seconds: float
    state: State
    frozen: Any
    batch: dict[str, jax.Array]
    key: jax.Array


def compiled(config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Measured:
    """The train call of a config, its first state and its first batches."""
    training = prepare(config, dataset, mesh)
    frozen = training.place_frozen()
    training.hold_targets(frozen, say)
    batch, state, key = training.batches(0, config.steps_per_call), training.first_state(), training.step_key()
    say("compiling the train step")
    began = time.perf_counter()
    call = training.lower().compile()
    return Measured(training, call, time.perf_counter() - began, state, frozen, batch, key)


def gflop_per_image(training: Training) -> float | None:
    """What XLA counts in the train call lowered for one CPU, before compilation; None in a process without a CPU.

    Compiled, the work of oneDNN and cuDNN is not counted, and for a GPU XLA counts nothing before it compiles. With
    `accumulate`, which XLA would count once for all parts, it is that of whole batches.
    """
    try:
        cpu = Mesh(np.array(jax.devices("cpu")[:1]), ("data",), axis_types=(AxisType.Auto,))
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return None
    whole = ConfigDict(training.config.to_dict() | {"accumulate": 1})
    costs = dataclasses.replace(training, mesh=cpu, config=whole).lower().cost_analysis()
    assert costs is not None
    return costs["flops"] / training.config.steps_per_call / training.config.batch_size / 1e9


def compile_nothing(measured: Measured, scalars: dict[str, jax.Array]) -> jax.stages.Compiled:
    """A call with the arguments and results of a train call, which gives its state back and computes nothing."""
    shapes = {name: (value.shape, value.dtype) for name, value in scalars.items()}

    def call(state, frozen, batches, key):
        return state, {name: jnp.zeros(*shape) for name, shape in shapes.items()}

    arguments = measured.state, measured.frozen, measured.batch, measured.key
    return jax.jit(call, donate_argnames=("state",), keep_unused=True).lower(*arguments).compile()


def repeated(measured: Measured) -> Callable[..., tuple[State, dict]]:
    """(batches) -> (state, scalars) of a call on the state that the previous call returned, which it donates."""
    state = measured.state

    def run(batches: dict[str, jax.Array]) -> tuple[State, dict[str, jax.Array]]:
        nonlocal state
        state, scalars = measured.call(state, measured.frozen, batches, measured.key)
        return state, scalars

    return run


def timed_call(config: ConfigDict) -> Callable[[], float]:
    """A function that makes a train call of random images and says how many seconds it took."""
    config = untrained(config)
    measured = compiled(config, random_images(config), make_mesh(config.batch_size, config.accumulate))
    run = repeated(measured)
    return lambda: seconds(run, measured.batch)


def median(function: Callable[[int], Any], calls: int) -> float:
    """Seconds of function(i) until its arrays are there, without the first calls."""
    return statistics.median([seconds(function, i) for i in range(WARM_UP + calls)][WARM_UP:])


def data_wait(run: Callable, batches: TrainBatches, steps: int, calls: int) -> float:
    """The share of a loop's time that goes by until the next batch is there."""
    times = []
    for i in range(WARM_UP + calls):
        began = time.perf_counter()
        batch = jax.block_until_ready(batches(i * steps, steps))
        waited = time.perf_counter() - began
        times.append((waited, waited + seconds(run, batch)))
    waited, whole = np.sum(times[WARM_UP:], axis=0)
    return float(waited / whole)


def random_images(config: ConfigDict) -> Dataset:
    """Noise of the shape that a train step takes, labelled where the config has classes."""
    rng, count = np.random.default_rng(0), max(IMAGES, config.batch_size)
    classes = number_of_classes(config)
    labels = rng.integers(0, classes, count) if classes else None
    return in_memory(rng.integers(0, 256, (count, *stored_shape(config)), np.uint8), labels)


def rounded(value: Any) -> Any:
    """Every float of a record to five digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
