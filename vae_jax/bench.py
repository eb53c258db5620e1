"""How fast a config trains on this machine: one JSON line on stdout, progress on stderr.

    python -m vae_jax.bench --config=configs/NAME.py[:variant] [--config.KEY=VALUE ...]
        [--data=synthetic|real] [--part=all|step|input] [--calls=20] [--peer=torch|keras --peer_python=PATH]

Times are medians of at least 20 calls of `steps_per_call` steps, each waited for, after three that do not count.
`--data=synthetic` are random images and untrained networks, which take as long as others and need no files;
`--part=step` measures the step alone, `--part=input` the batches alone, and what was not measured is null.

    images_per_second, ms_per_step   of the compiled train call, its batch lying on the devices
    gflop_per_image          what XLA counts in the compiled call (`cost_analysis`) on all devices, by steps and images:
                             two for each product of a convolution or matrix product but those with padding, one for
                             each other addition, multiplication or comparison, none for exp, log and the like. Of what
                             oneDNN computes it counts nothing: there, in the same call compiled without oneDNN
    matmul_gflop_per_second  the best of six float32 products of square matrices of `matmul_size` rows, which are split
                             over the devices, in this process
    peak_share               gflop_per_image * images_per_second / matmul_gflop_per_second
    compile_seconds          of the train call, with tracing; next to none where JAX's persistent cache has it
    peak_memory_bytes        the most that a device held, where devices count it, otherwise the most this process held
    host_share               what Python and JAX do for a call, as a share of its time: the time of a call of the same
                             arguments and results that computes nothing. How long a call takes to return would not say
                             it, since on CPU it may compute before it does
    input_images_per_second  of TrainBatches alone
    data_wait_share          in a loop, the share of the time between asking for a batch and its lying on the devices,
                             which meanwhile have nothing else to do: the training loop, which asks ahead, waits less
    split                    milliseconds of a step's parts, see `bench_split`

With `--peer` the line compares this training with its counterpart in another framework, see `bench_peers`.
"""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.bench_machine import machine, matmul_peak, matmul_size, peak_memory
from vae_jax.bench_peers import PEERS, against_peer, read_records, say, table
from vae_jax.bench_split import seconds, split
from vae_jax.config import check_config, image_shape
from vae_jax.data import load_dataset
from vae_jax.data.augment import held_shape
from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.pipeline import TrainBatches
from vae_jax.errors import UserError
from vae_jax.experiment import Experiment, check_shapes, make_experiment
from vae_jax.models.convolutions import has_onednn
from vae_jax.page import markdown_table
from vae_jax.rngs import root_key
from vae_jax.sharding import make_mesh, replicated
from vae_jax.state import State
from vae_jax.targets import cache_targets, expect_targets
from vae_jax.train_step import make_train_call, make_train_step, steps_written_out
from vae_jax.weight_files import RANDOM, check_weights

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
    train_step = make_train_step(
        experiment.system, experiment.optimizers, config.ema, experiment.augment, config.checkpointing
    )
    began = time.perf_counter()
    lowered = make_train_call(train_step, steps_written_out(steps)).lower(state, frozen, batch, key)
    call = lowered.compile()
    return Training(experiment, lowered, call, time.perf_counter() - began, state, frozen, batch, key)


def gflop_per_image(config: ConfigDict, training: Training) -> float:
    """What XLA counts in a train call, compiled once more where oneDNN computes: of its calls XLA counts nothing."""
    counted = training.lowered.compile(cli.WITHOUT_ONEDNN) if has_onednn() else training.call
    flops = jax.device_count() * counted.cost_analysis()["flops"]  # of one device; what a loop repeats counts once
    return flops / steps_written_out(config.steps_per_call) / config.batch_size / 1e9


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


def untrained(config: ConfigDict) -> ConfigDict:
    """The same config with networks that need no weights file."""
    config = ConfigDict(config.to_dict())
    config.backbone.weights = RANDOM
    if "inverted" in config:
        config.inverted.weights = RANDOM
    if "pretrained" in config:
        config.pretrained = RANDOM
    return config


def random_images(config: ConfigDict) -> Dataset:
    """Noise of the shape that a train step takes, labelled where the config has classes."""
    rng, count = np.random.default_rng(0), max(IMAGES, config.batch_size)
    labels = rng.integers(0, config.classes, count) if "classes" in config else None
    return in_memory(rng.integers(0, 256, (count, *held_shape(config)), np.uint8), labels)


def rounded(value: Any) -> Any:
    """Every float of a record to five digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    """The command line."""
    if TABLE.value:
        print(markdown_table(*table(read_records(TABLE.value))), end="")
        return
    if "config" not in flags.FLAGS:
        raise UserError("Say what to measure: --config=configs/NAME.py.")
    config = flags.FLAGS.config
    with contextlib.redirect_stdout(sys.stderr):
        check_config(config)
        cli.use_cores([config])
        if PEER.value:
            record = against_peer(config, PEER.value, PEER_PYTHON.value, CALLS.value, timed_call)
        else:
            record = measure(config, DATA.value, PART.value, CALLS.value)
    print(json.dumps(rounded(record)))


if __name__ == "__main__":
    DATA = flags.DEFINE_enum("data", "synthetic", ["synthetic", "real"], "Random images, or the config's data set.")
    PART = flags.DEFINE_enum("part", "all", ["all", "step", "input"], "What to measure.")
    CALLS = flags.DEFINE_integer(
        "calls", 20, "Calls of which each time is the median; with --peer, rounds.", lower_bound=20
    )
    PEER = flags.DEFINE_enum("peer", None, list(PEERS), "Compare with this framework.")
    TABLE = flags.DEFINE_list("table", [], "Files of such comparisons to make a table of, in place of measuring.")
    PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "The Python that has the other framework.")
    cli.run(main)
