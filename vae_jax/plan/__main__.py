"""Says what a training will need on a machine that is not here: its train step, by that machine's own compiler.

    python -m vae_jax.plan --config=NAME[:variant] --topology=v5e:4x4|h100:8 [--config.KEY=VALUE ...]
        [--compare="dtype=bfloat16 remat=True" ...] [--fit] [--images=N] [--json]
    python -m vae_jax.plan --table=FILE,FILE

Nothing is computed and no weights are needed. The compiler of TPUs comes with the extra tpu (pip install
'vae_jax[tpu]'), that of GPUs with cuda12. A plan takes half a minute (digits) to six minutes (VGG19) of one core.

What is printed: the memory of a device by kind, in a step and in an evaluation, and whether it fits; arithmetic and
memory traffic of an image; what the devices exchange; and an *estimate* of the speed, as if each device gave the peaks
that its maker publishes. --compare plans the same config with other keys as well, and ends with a table of all. --fit
looks for the largest batch that fits. --json prints a JSON line for each plan instead of a page; --table prints files
of such lines as one Markdown table. The exit code is 1 if none of what was planned fits.
"""

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.config import check_config
from vae_jax.errors import UserError
from vae_jax.strict_json import to_json


def main(config: ConfigDict | None) -> None:
    """The command line."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported: a plan must not take the devices that are here
    from vae_jax.plan.page import page, read_records, table
    from vae_jax.plan.topologies import mesh_of
    from vae_jax.reports.page import markdown_table
    from vae_jax.runtime.sharding import check_split

    if TABLE.value:
        if config is not None or TOPOLOGY.value:
            raise UserError("--table prints plans that were made: leave out --config and --topology, or --table.")
        print(markdown_table(*table(read_records(TABLE.value))), end="")
        return
    if config is None or not TOPOLOGY.value:
        raise UserError("Name a config and a topology: --config=NAME --topology=v5e:4x4.")
    variants = [config, *(cli.changed(config, values) for values in COMPARE.value)]
    for variant in variants:
        check_config(variant)
    devices = mesh_of(TOPOLOGY.value).size
    for variant in variants if not FIT.value else ():
        check_split(variant.batch_size, devices, variant.accumulate)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a compiler takes minutes to come back to Python, and nothing is lost
    records = []
    for variant in variants:
        records.append(_plan(variant, TOPOLOGY.value))
        print(to_json(records[-1]) if JSON.value else page(records[-1]), flush=True)
    if len(records) > 1 and not JSON.value:
        print("\n" + markdown_table(*table(records)), end="")
    if not any(record["memory"]["fits"] and record["evaluation"]["fits"] for record in records):
        sys.exit(1)


def _plan(config: ConfigDict, topology: str) -> Mapping[str, Any]:
    from vae_jax.plan.compiled import plan
    from vae_jax.plan.fit import largest_that_fits
    from vae_jax.plan.topologies import described, mesh_of

    def of_batch(batch: int) -> dict[str, Any]:
        sized = ConfigDict(config.to_dict())
        sized.batch_size = batch
        return plan(sized, topology, IMAGES.value, lambda text: print(text, file=sys.stderr, flush=True))

    if not FIT.value:
        return of_batch(config.batch_size)
    unit = mesh_of(topology).size * config.accumulate
    return largest_that_fits(of_batch, -(-config.batch_size // unit) * unit, unit, described(topology).memory)


if __name__ == "__main__":
    TOPOLOGY = flags.DEFINE_string("topology", None, "A TPU slice or GPUs of a host, such as v5e:4x4 or h100:8.")
    COMPARE = flags.DEFINE_multi_string("compare", [], "Other keys to plan with as well, as 'dtype=bfloat16'.")
    IMAGES = flags.DEFINE_integer("images", 0, "Training images, in memory if data.memory_limit allows.", lower_bound=0)
    FIT = flags.DEFINE_bool("fit", False, "Plan the largest batch that fits.")
    JSON = flags.DEFINE_bool("json", False, "Print JSON lines.")
    TABLE = cli.paths_flag("table", "Files with the lines of --json, to print as a Markdown table.")
    cli.run(main, takes="config")
