"""Trains, resumes, evaluates and reports one config.

python -m vae_jax.main --config=configs/dfc_mnist.py:quick --workdir=runs/quick [--config.KEY=VALUE ...]
"""

from absl import flags

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.weight_files import check_weights


def main() -> None:
    """The command line."""
    if "config" not in flags.FLAGS:
        raise UserError("Say what to train: --config=configs/NAME.py, or configs/NAME.py:quick for a few minutes.")
    check_weights(flags.FLAGS.config)
    cli.use_cores([flags.FLAGS.config])
    from vae_jax.train import train  # imports jax: only once the flags are known to be good

    train(flags.FLAGS.config, WORKDIR.value)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; an existing one is resumed.", required=True)
    cli.run(main)
