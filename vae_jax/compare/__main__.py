"""Compares two or more trained runs: the evaluation of the DFC-VAE article on one page.

    python -m vae_jax.compare --workdirs=runs/vae_mnist,runs/dfc_mnist --workdir=runs/compare [--data_dir=DIR]
    python -m vae_jax.compare --configs=configs/vae_mnist.py,configs/dfc_mnist.py --workdir=runs/compare
                              [--seeds=3] [--config.KEY=VALUE ...] [--metrics=lpips_vgg,...] [--frechet=vgg16/relu5_3]
                              [--costs=FILE]

The second form first trains each config in WORKDIR/NAME; run it again to resume after a stop. With --seeds=N each is
trained N times, with its own seed and the next ones, the others in WORKDIR/NAME_seedSEED; a comparison of fewer seeds
is continued. Both forms write compare.md and compare.json (the table and the t-tests), compare.html (everything,
self-contained), compare.png (all pictures on one sheet) and one PNG per picture. Runs that differ only in their seed
share a row of the table, mean ± standard deviation; t-tests use the mean over them for each image, pictures the first.

--metrics adds metrics to the table. --frechet chooses the network and the tap for the Fréchet distances of
reconstructions and samples; the default is alexnet/relu5, or no distances if these cannot be computed. --costs adds
what each training costs: FILE has the lines that `python -m vae_jax.bench --config=NAME --part=step` printed for the
configs, one after the other on one machine.
"""

from absl import flags

from vae_jax import cli
from vae_jax.compare.comparison import compare, train_all, with_seeds
from vae_jax.compare.costs import check_costs, read_costs
from vae_jax.errors import UserError
from vae_jax.metrics import METRICS, check_metrics
from vae_jax.metrics.frechet import read_features
from vae_jax.reports.study import print_study

FEW = "A comparison needs two or more runs, separated by commas."


def main() -> None:
    """The command line."""
    if bool(CONFIGS.value) == bool(WORKDIRS.value):
        raise UserError("Choose the runs to compare with either --workdirs=DIR,DIR or --configs=FILE.py,FILE.py.")
    check_metrics(METRICS_FLAG.value)  # before hours of training
    features = read_features(FRECHET.value) if FRECHET.value else None
    costs = read_costs(COSTS_FLAG.value) if COSTS_FLAG.value else []
    workdirs = WORKDIRS.value or []
    if CONFIGS.value:
        configs = cli.load_configs(CONFIGS.value)
        if len(configs) * SEEDS.value < 2:
            raise UserError(FEW)
        check_costs(configs, costs)
        workdirs = train_all(with_seeds(configs, SEEDS.value), WORKDIR.value)
    elif SEEDS.value > 1:
        raise UserError("--seeds is for --configs, which it trains; runs that are trained already have their seeds.")
    if len(workdirs) < 2:
        raise UserError(FEW)
    compare(workdirs, WORKDIR.value, DATA_DIR.value, METRICS_FLAG.value, features, costs)
    print_study(WORKDIR.value, "compare")


if __name__ == "__main__":
    WORKDIRS = cli.paths_flag("workdirs", "Workdirs of trained runs, separated by commas.")
    CONFIGS = flags.DEFINE_list("configs", None, "Configs to train and compare, separated by commas.")
    SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds to train each config with.", lower_bound=1)
    WORKDIR = cli.path_flag("workdir", "Folder to write the comparison to.", required=True)
    DATA_DIR = cli.path_flag("data_dir", "Folder of the data if they have moved, or of others.")
    METRICS_FLAG = flags.DEFINE_list("metrics", [], f"More metrics, separated by commas: {', '.join(METRICS)}.")
    FRECHET = flags.DEFINE_string(
        "frechet", "", "NETWORK/TAP for the Fréchet distances; by default alexnet/relu5, if possible."
    )
    COSTS_FLAG = cli.path_flag("costs", "File with lines that vae_jax.bench printed, for columns of costs.")
    cli.run(main, takes="configs")
