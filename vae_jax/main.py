"""Trains, resumes, evaluates and reports one config.

    python -m vae_jax.main --config=dfc_mnist:quick --workdir=runs/quick [--config.KEY=VALUE ...]

--config takes the name of a published config, which python -m vae_jax.configs lists, or the path of a config file, and
after a colon its variants, such as quick (minutes) or smoke (seconds). The same command resumes a run that was stopped.

As one of several processes, all started with the same command (launch/README.md):

    ... --coordinator=HOST:PORT --num_processes=N --process_id=I, or --distributed=auto
"""

import contextlib

from absl import flags
from ml_collections import ConfigDict

from vae_jax import cli
from vae_jax.config import check_config, check_weights
from vae_jax.errors import UserError
from vae_jax.runtime.devices import initialise, use_cores


def main(config: ConfigDict | None) -> None:
    """The command line."""
    if config is None:
        raise UserError(
            "Name a config: --config=NAME or --config=FILE.py; python -m vae_jax.configs lists the published."
        )
    where = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    several = any(flag is not None for flag in where)
    if several and DISTRIBUTED.value:
        raise UserError("Leave out --coordinator, --num_processes and --process_id: --distributed=auto finds them.")
    if several and None in where:
        raise UserError("--coordinator=HOST:PORT, --num_processes=N and --process_id=I are only valid together.")
    if COORDINATOR.value and not COORDINATOR.value.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator={COORDINATOR.value} has no port; expected HOST:PORT, such as 10.0.0.1:8476.")
    check_config(config)
    check_weights(config)
    initialise([config])
    if not several and not DISTRIBUTED.value:  # several processes share the cores of their host
        use_cores([config.batch_size])
    from vae_jax.runtime.processes import together  # imports jax: only once the flags are known to be good

    with together(*where, heartbeat=HEARTBEAT.value) if several or DISTRIBUTED.value else contextlib.nullcontext():
        from vae_jax.train import Options, train

        train(config, WORKDIR.value, Options(PROFILE.value, ACCEPT_NEW_DATA.value))


if __name__ == "__main__":
    WORKDIR = cli.workdir_flag("Folder of the run, or gs://BUCKET/RUN or s3://BUCKET/RUN; an existing run is resumed.")
    PROFILE = flags.DEFINE_integer("profile", 0, "Steps to trace for TensorBoard.", lower_bound=0)
    ACCEPT_NEW_DATA = flags.DEFINE_bool("accept_new_data", False, "Resume with images that have changed.")
    COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT where process 0 waits for the others.")
    NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.", lower_bound=1)
    PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)
    DISTRIBUTED = flags.DEFINE_enum(
        "distributed", None, ["auto"], "Take these three from the TPU pod, Slurm, Kubernetes or Open MPI."
    )
    HEARTBEAT = flags.DEFINE_integer(
        "heartbeat", 60, "Seconds without a sign of life from a process after which all end.", lower_bound=1
    )
    cli.run(main, takes="config")
