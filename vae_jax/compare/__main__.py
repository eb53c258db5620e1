"""Compares two or more trained runs: the evaluation of the DFC-VAE article on one page.

    python -m vae_jax.compare --workdirs=runs/vae_mnist,runs/dfc_mnist --workdir=runs/compare [--data_dir=DIR]
    python -m vae_jax.compare --configs=configs/vae_mnist.py,configs/dfc_mnist.py --workdir=runs/compare
                              [--config.KEY=VALUE ...] [--metrics=lpips_vgg,...] [--frechet=vgg16/relu5_3]

The second form first trains each config in WORKDIR/NAME; run it again to resume after a stop. Both forms write
compare.md and compare.json (the table and the t-tests), compare.html (everything, self-contained), compare.png (all
pictures on one sheet) and one PNG per picture. Runs that differ only in their seed share a row of the table, mean ±
standard deviation; pictures and t-tests use the first of them.

--metrics adds metrics to the table. --frechet chooses the network and the tap for the Fréchet distances of
reconstructions and samples; the default is alexnet/relu5, or no distances if these cannot be computed.
"""

from absl import flags

from vae_jax import cli
from vae_jax.compare.comparison import compare, train_all
from vae_jax.errors import UserError
from vae_jax.metrics import METRICS, check_metrics
from vae_jax.metrics.frechet import read_features
from vae_jax.reports.study import print_study
from vae_jax.runtime.devices import use_cores

FEW = "A comparison needs two or more runs, separated by commas."


def main() -> None:
    """The command line."""
    if bool(CONFIGS.value) == bool(WORKDIRS.value):
        raise UserError("Choose the runs to compare with either --workdirs=DIR,DIR or --configs=FILE.py,FILE.py.")
    check_metrics(METRICS_FLAG.value)  # before hours of training
    features = read_features(FRECHET.value) if FRECHET.value else None
    workdirs = WORKDIRS.value or []
    if CONFIGS.value:
        configs = cli.load_configs(CONFIGS.value)
        if len(configs) < 2:
            raise UserError(FEW)
        use_cores([config.batch_size for config in configs])
        workdirs = train_all(configs, WORKDIR.value)
    if len(workdirs) < 2:
        raise UserError(FEW)
    compare(workdirs, WORKDIR.value, DATA_DIR.value, METRICS_FLAG.value, features)
    print_study(WORKDIR.value, "compare")


if __name__ == "__main__":
    WORKDIRS = flags.DEFINE_list("workdirs", None, "Workdirs of trained runs, separated by commas.")
    CONFIGS = flags.DEFINE_list("configs", None, "Configs to train and compare, separated by commas.")
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write the comparison to.", required=True)
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data, if they have moved since training.")
    METRICS_FLAG = flags.DEFINE_list("metrics", [], f"More metrics, separated by commas: {', '.join(METRICS)}.")
    FRECHET = flags.DEFINE_string(
        "frechet", "", "NETWORK/TAP for the Fréchet distances; by default alexnet/relu5, if possible."
    )
    cli.run(main)
