"""Trains, resumes, evaluates and reports one config.

python -m vae_jax.main --config=configs/dfc_mnist.py:quick --workdir=runs/quick [--config.KEY=VALUE ...]
"""

from absl import flags

from vae_jax import cli

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; an existing one is resumed.", required=True)


def main(argv) -> None:
    del argv
    cli.initialise()
    from vae_jax.train import train

    train(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    cli.run(main)
