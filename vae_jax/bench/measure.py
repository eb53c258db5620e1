"""The record of a benchmark: what a config's compiled train call takes, and its parts."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.bench.machine import machine, matmul_peak, matmul_size, peak_memory
from vae_jax.bench.peers import say
from vae_jax.bench.split import seconds, split
from vae_jax.config import check_weights, image_shape, number_of_classes, untrained
from vae_jax.data import load_dataset
from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.pipeline import TrainBatches
from vae_jax.experiment import Experiment, check_shapes, make_experiment
from vae_jax.models.convolutions import has_onednn
from vae_jax.runtime.rngs import root_key
from vae_jax.runtime.sharding import make_mesh, replicated
from vae_jax.state import State
from vae_jax.targets import cache_targets, expect_targets
from vae_jax.train_step import make_train_call, make_train_step, scan_unroll

WARM_UP = 3  # calls
IMAGES = 1024  # of the synthetic set
MEASURED = (
    "images_per_second", "ms_per_step", "gflop_per_image", "peak_share", "matmul_gflop_per_second", "matmul_size",
    "compile_seconds", "peak_memory_bytes", "host_share", "input_images_per_second", "data_wait_share", "split",
)  # fmt: skip


def measure(config: ConfigDict, data: str, part: str, calls: int) -> dict[str, Any]:
    """The record of one config."""
    mesh, steps = make_mesh(config.batch_size), config.steps_per_call
    if data == "synthetic":
        config = untrained(config)
        dataset = random_images(config)
    else:
        check_weights(config)
        dataset = load_dataset(config, config.data.train, augmented=True)
    batches = TrainBatches(dataset, config.seed, config.batch_size, mesh)
    record = {
        "config": config.name, "system": config.system, "data": data, "part": part, "batch_size": config.batch_size,
        "image_shape": image_shape(config), "steps_per_call": steps, "calls": calls,
    } | dict.fromkeys(MEASURED)  # fmt: skip
    if part != "step":
        say("the batches alone")
        taken = median(lambda i: batches(i * steps, steps), calls)
        record["input_images_per_second"] = steps * config.batch_size / taken
    if part != "input":
        record |= measure_step(config, dataset, batches, mesh, calls, whole=part == "all")
    return record | machine()


def measure_step(
    config: ConfigDict, dataset: Dataset, batches: TrainBatches, mesh: Mesh, calls: int, whole: bool
) -> dict[str, Any]:
    """What of the record is of train calls; `whole` with the loop over batches and with the parts of a step."""
    steps = config.steps_per_call
    training = prepare(config, dataset, batches, mesh)
    batch, run, gflop = training.batch, going_on(training), gflop_per_image(config, training)
    say("train calls")
    taken = median(lambda _: run(batch), calls)
    rate, peak = steps * config.batch_size / taken, matmul_peak(mesh)
    record = {
        "images_per_second": rate, "ms_per_step": 1e3 * taken / steps, "gflop_per_image": gflop,
        "peak_share": gflop * rate / peak, "matmul_gflop_per_second": peak, "matmul_size": matmul_size(),
        "compile_seconds": training.compile_seconds, "peak_memory_bytes": peak_memory(),
    }  # fmt: skip
    if whole:
        say("train calls, each with a new batch")
        record["data_wait_share"] = data_wait(run, batches, steps, calls)
    state, scalars = run(batch)
    training = training._replace(state=state)
    run = going_on(training._replace(call=compile_nothing(training, scalars)))
    record["host_share"] = median(lambda _: run(batch), calls) / taken
    if whole:
        say("the parts of a step")
        record["split"] = split(training.experiment, run(batch)[0], training.frozen, mesh, calls)
    return record


class Training(NamedTuple):
    """A compiled train call with what it is called with."""

    experiment: Experiment
    lowered: jax.stages.Lowered
    call: Callable
    compile_seconds: float
    state: State
    frozen: Any
    batch: dict[str, jax.Array]
    key: jax.Array


def prepare(config: ConfigDict, dataset: Dataset, batches: TrainBatches, mesh: Mesh) -> Training:
    """The training of a config, of the first batches."""
    steps = config.steps_per_call
    experiment = make_experiment(config, image_shape(config), "label" in batches(0, steps))
    frozen = experiment.system.frozen()
    if config.backbone.cache_targets:
        experiment = expect_targets(config, experiment, frozen, dataset)
    check_shapes(config, experiment, frozen)
    frozen = jax.device_put(frozen, replicated(mesh))
    if config.backbone.cache_targets:
        batches.feed.hold(cache_targets(experiment, frozen, batches.feed, dataset.size, mesh, say))
    batch = batches(0, steps)
    state = jax.jit(experiment.init, out_shardings=replicated(mesh))(experiment.system.pretrained())
    key = jax.device_put(root_key(config.seed, "step"), replicated(mesh))
    say("compiling the train step")
    train_step = make_train_step(experiment.system, experiment.optimizers, config.ema, experiment.augment, config.remat)
    began = time.perf_counter()
    lowered = make_train_call(train_step, scan_unroll(steps)).lower(state, frozen, batch, key)
    call = lowered.compile()
    return Training(experiment, lowered, call, time.perf_counter() - began, state, frozen, batch, key)


def gflop_per_image(config: ConfigDict, training: Training) -> float:
    """What XLA counts in a train call, compiled once more where oneDNN computes: of its calls XLA counts nothing."""
    counted = training.lowered.compile(cli.WITHOUT_ONEDNN) if has_onednn() else training.call
    flops = jax.device_count() * counted.cost_analysis()["flops"]  # of one device; what a loop repeats counts once
    return flops / scan_unroll(config.steps_per_call) / config.batch_size / 1e9


def compile_nothing(training: Training, scalars: dict[str, jax.Array]) -> Callable:
    """A call with the arguments and results of a train call, which gives its state back and computes nothing."""
    shapes = {name: (value.shape, value.dtype) for name, value in scalars.items()}

    def call(state, frozen, batches, key):
        return state, {name: jnp.zeros(*shape) for name, shape in shapes.items()}

    arguments = training.state, training.frozen, training.batch, training.key
    return jax.jit(call, donate_argnames=("state",), keep_unused=True).lower(*arguments).compile()


def going_on(training: Training) -> Callable[..., tuple[State, dict]]:
    """(batches) -> (state, scalars) of a call that goes on from the state which the one before left, and donates it."""
    state = training.state

    def run(batches: dict[str, jax.Array]) -> tuple[State, dict[str, jax.Array]]:
        nonlocal state
        state, scalars = training.call(state, training.frozen, batches, training.key)
        return state, scalars

    return run


def timed_call(config: ConfigDict) -> Callable[[], float]:
    """A function that makes a train call of random images and says how many seconds it took."""
    config, mesh = untrained(config), make_mesh(config.batch_size)
    dataset = random_images(config)
    training = prepare(config, dataset, TrainBatches(dataset, config.seed, config.batch_size, mesh), mesh)
    run = going_on(training)
    return lambda: seconds(run, training.batch)


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
