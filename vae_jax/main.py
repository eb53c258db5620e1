"""Trains, resumes, evaluates and reports one config.

python -m vae_jax.main --config=configs/dfc_mnist.py:quick --workdir=runs/quick [--config.KEY=VALUE ...]

As one of several processes, each started with the same command (launch/README.md):

    ... --coordinator=HOST:PORT --num_processes=N --process_id=I, or --distributed=auto
"""

import contextlib

from absl import flags

from vae_jax import cli
from vae_jax.config import check_weights
from vae_jax.errors import UserError
from vae_jax.runtime.devices import use_cores


def main() -> None:
    """The command line."""
    if "config" not in flags.FLAGS:
        raise UserError("Say what to train: --config=configs/NAME.py, or configs/NAME.py:quick for a few minutes.")
    where = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    several = any(flag is not None for flag in where)
    if several and DISTRIBUTED.value:
        raise UserError("--distributed=auto finds out what --coordinator, --num_processes and --process_id say.")
    if several and None in where:
        raise UserError("--coordinator=HOST:PORT, --num_processes=N and --process_id=I go together.")
    if COORDINATOR.value and not COORDINATOR.value.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator={COORDINATOR.value} has no port: it is HOST:PORT, such as 10.0.0.1:8476.")
    check_weights(flags.FLAGS.config)
    if not several and not DISTRIBUTED.value:  # several processes have the cores of their host among them
        use_cores([flags.FLAGS.config.batch_size])
    from vae_jax.runtime.processes import together  # imports jax: only once the flags are known to be good

    with together(*where, heartbeat=HEARTBEAT.value) if several or DISTRIBUTED.value else contextlib.nullcontext():
        from vae_jax.train import train

        train(flags.FLAGS.config, WORKDIR.value)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; an existing one is resumed.", required=True)
    COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 waits for the others.")
    NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1)
    PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
    DISTRIBUTED = flags.DEFINE_enum(
        "distributed", None, ["auto"], "Take these three from a TPU pod, Slurm, Kubernetes or Open MPI."
    )
    HEARTBEAT = flags.DEFINE_integer(
        "heartbeat", 60, "Seconds without a sign of life of one process after which all end.", lower_bound=1
    )
    cli.run(main)
