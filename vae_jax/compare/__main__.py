"""Two or more trained workdirs side by side: the DFC-VAE article in one page.

    python -m vae_jax.compare --workdirs=runs/vae_mnist,runs/dfc_mnist --workdir=runs/compare [--data_dir=DIR]
    python -m vae_jax.compare --configs=configs/vae_mnist.py,configs/dfc_mnist.py --workdir=runs/compare
                              [--config.KEY=VALUE ...] [--metrics=lpips_vgg,...] [--frechet=vgg16/relu5_3]

The second form trains every config first, into WORKDIR/NAME, one after another, and goes on where it was stopped. It
writes compare.md and compare.json (the table, the t-tests), compare.html (everything, self-contained), compare.png
(every figure on one sheet) and each figure as a PNG of its own. Workdirs that differ in nothing but their seed share
a row of the table, mean ± standard deviation; pictures and tests are of the first.

Both forms take --metrics, judged beside the usual ones, and --frechet, the network and the tap that the Fréchet
distances of reconstructions and of samples look at: by default alexnet/relu5, where its weights are there and the
images fit.
"""

from absl import flags

from vae_jax import cli
from vae_jax.compare.comparison import compare, train_all
from vae_jax.errors import UserError
from vae_jax.metrics import METRICS, check_metrics
from vae_jax.metrics.frechet import read_features
from vae_jax.reports.study import print_study


def main() -> None:
    """The command line."""
    if bool(CONFIGS.value) == bool(WORKDIRS.value):
        raise UserError("Say what to compare with either --workdirs=DIR,DIR or --configs=FILE.py,FILE.py.")
    check_metrics(METRICS_FLAG.value)  # before hours of training
    features = read_features(FRECHET.value) if FRECHET.value else None
    if CONFIGS.value:
        configs = cli.load_configs(CONFIGS.value)
        cli.use_cores(configs)
    workdirs = WORKDIRS.value or train_all(configs, WORKDIR.value)
    if len(workdirs) < 2:
        raise UserError("A comparison takes two or more runs, separated by commas.")
    compare(workdirs, WORKDIR.value, DATA_DIR.value, METRICS_FLAG.value, features)
    print_study(WORKDIR.value, "compare")


if __name__ == "__main__":
    WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of trained runs, separated by commas.")
    CONFIGS = flags.DEFINE_list("configs", None, "Configs to train and compare, FILE.py[:variant], by commas.")
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write the comparison to.", required=True)
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are now, if not where the runs found them.")
    METRICS_FLAG = flags.DEFINE_list("metrics", [], f"Judged beside the usual ones: some of {', '.join(METRICS)}.")
    FRECHET = flags.DEFINE_string(
        "frechet", "", "NETWORK/TAP of the Fréchet distances; alexnet/relu5 by default, where it fits."
    )
    cli.run(main)
