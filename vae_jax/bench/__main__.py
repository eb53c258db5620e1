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
import sys

from absl import flags

from vae_jax import cli
from vae_jax.bench.measure import measure, rounded, timed_call
from vae_jax.bench.peers import PEERS, against_peer, read_records, table
from vae_jax.config import check_config
from vae_jax.errors import UserError
from vae_jax.reports.page import markdown_table


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
