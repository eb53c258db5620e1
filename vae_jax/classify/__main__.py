"""What the codes of trained workdirs know of an image's class: linear SVMs on folds of the labelled images.

    python -m vae_jax.classify --workdirs=A,B,... --workdir=OUT [--data_name=NAME] [--data_dir=DIR]
                               [--train_split=train] [--test_split=test] [--folds=10] [--fold_size=1000]
                               [--fold_file=fold_indices.txt]

writes OUT/classify.json and OUT/classify.md: one row per workdir, the accuracy on the whole test split as mean ±
standard deviation over the folds of the train split.

Source: Dosovitskiy and Brox, "Generating images with perceptual similarity metrics based on deep networks", 2016,
table 4: STL-10's ten folds of 1,000 labelled images. How they chose the SVM's C is not known to us; here the first
fold chooses it for each model, without the test split.
"""

from absl import flags

from vae_jax import cli
from vae_jax.classify.classification import Source, classify
from vae_jax.classify.folds import Folds
from vae_jax.errors import UserError
from vae_jax.reports.study import print_study


def main() -> None:
    """The command line."""
    if not WORKDIRS.value:
        raise UserError("--workdirs takes one or more folders of trained runs, separated by commas.")
    source = Source(DATA_NAME.value, DATA_DIR.value, TRAIN_SPLIT.value, TEST_SPLIT.value)
    classify(WORKDIRS.value, WORKDIR.value, source, Folds(FOLDS.value, FOLD_SIZE.value, FOLD_FILE.value))
    print_study(WORKDIR.value, "classify")


if __name__ == "__main__":
    WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of trained runs, separated by commas.", required=True)
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write to.", required=True)
    DATA_NAME = flags.DEFINE_string("data_name", None, "Labelled data; by default what the runs learnt from.")
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are, if not where the runs found them.")
    TRAIN_SPLIT = flags.DEFINE_string("train_split", "train", "Split that the folds are of.")
    TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Split that is told, all of it.")
    FOLDS = flags.DEFINE_integer("folds", 10, "Random folds, where there is no --fold_file.")
    FOLD_SIZE = flags.DEFINE_integer("fold_size", 1000, "Examples of a random fold.")
    FOLD_FILE = flags.DEFINE_string("fold_file", None, "File of folds, one line of indices each, as STL-10 has.")
    cli.run(main)
