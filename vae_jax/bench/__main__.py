"""Measures how fast a config trains on this machine: one JSON line on stdout, progress on stderr.

    python -m vae_jax.bench --config=NAME[:variant] [--config.KEY=VALUE ...]
        [--data=synthetic|real] [--part=all|step|input] [--calls=20] [--peer=torch|keras --peer_python=PATH]

Times are medians over at least 20 blocking calls of `steps_per_call` steps, after three warm-up calls.
`--data=synthetic` uses random images and untrained networks, which take as long as real ones and need no files.
`--part=step` measures only the step and `--part=input` only the batches; everything else is then null.

    images_per_second, ms_per_step   of the compiled train call, with its batch already on the devices
    gflop_per_image          per step and image, what XLA counts in the call lowered for a CPU, before it is compiled
                             (`cost_analysis`): two for each product in a convolution or matrix product except those
                             with padding, one for each other addition, multiplication or comparison, none for exp, log
                             and the like
    matmul_gflop_per_second  the best of six float32 products of square matrices with `matmul_size` rows, split over the
                             devices, in this process
    peak_share               gflop_per_image * images_per_second / matmul_gflop_per_second
    compile_seconds          of the train call, with tracing; almost zero if JAX's persistent cache has it
    peak_memory_bytes        the peak memory of a device if devices report it, otherwise that of this process
    host_share               the share of a call's time that Python and JAX need: the time of a call with the same
                             arguments and results that computes nothing. The time until a call returns would not show
                             this, since a call on CPU may compute before it returns
    input_images_per_second  of TrainBatches alone
    data_wait_share          the share of a loop's time between requesting a batch and having it on the devices, which
                             are idle meanwhile; the training loop requests batches ahead of time and waits less
    split                    milliseconds of the parts of a step, see `vae_jax.bench.split`

With `--peer` the line compares this training with its counterpart in another framework, see `vae_jax.bench.peers`.
"""

import contextlib
import sys

from absl import flags
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.bench.measure import benchmark, rounded, timed_call
from vae_jax.bench.peers import PEERS, against_peer, comparison_table, read_records
from vae_jax.config import check_config
from vae_jax.errors import UserError
from vae_jax.reports.page import markdown_table
from vae_jax.runtime.compilation import use_compilation_cache
from vae_jax.runtime.devices import initialise, use_cores
from vae_jax.runtime.sharding import check_devices
from vae_jax.strict_json import to_json


def main(config: ConfigDict | None) -> None:
    """The command line."""
    if TABLE.value:
        print(markdown_table(*comparison_table(read_records(TABLE.value))), end="")
        return
    if config is None:
        raise UserError("Choose a config: --config=NAME or --config=FILE.py.")
    with contextlib.redirect_stdout(sys.stderr):
        check_config(config)
        initialise([config])
        use_cores([config.batch_size])
        check_devices()
        use_compilation_cache(config.compilation_cache)
        if PEER.value:
            record = against_peer(config, PEER.value, PEER_PYTHON.value or sys.executable, CALLS.value, timed_call)
        else:
            record = benchmark(config, DATA.value, PART.value, CALLS.value)
    print(to_json(rounded(record)))


if __name__ == "__main__":
    DATA = flags.DEFINE_enum("data", "synthetic", ["synthetic", "real"], "Random images, or the config's data set.")
    PART = flags.DEFINE_enum("part", "all", ["all", "step", "input"], "What to measure.")
    CALLS = flags.DEFINE_integer(
        "calls", 20, "Number of calls to take medians over; with --peer, of rounds.", lower_bound=20
    )
    PEER = flags.DEFINE_enum("peer", None, list(PEERS), "Framework to compare with.")
    TABLE = cli.paths_flag("table", "Files with records of --peer, to print as a table.")
    PEER_PYTHON = cli.path_flag("peer_python", "Python that has the other framework; by default this one.")
    cli.run(main, takes="config")
