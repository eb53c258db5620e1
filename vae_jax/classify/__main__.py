"""Classifies images by the codes of trained runs: linear SVMs, trained on folds of labelled images.

    python -m vae_jax.classify --workdirs=A,B,... --workdir=OUT [--data_name=NAME] [--data_dir=DIR]
                               [--train_split=train] [--test_split=test] [--folds=10] [--fold_size=1000]
                               [--fold_file=fold_indices.txt]

writes OUT/classify.json and OUT/classify.md: one row per workdir with the accuracy on the whole test split, mean ±
standard deviation over the folds of the train split.

Source: Dosovitskiy and Brox, "Generating images with perceptual similarity metrics based on deep networks", 2016,
table 4: STL-10's ten folds of 1,000 labelled images. We do not know how the authors chose the SVM's C; here it is
chosen for each model on the first fold, without the test split.
"""

from absl import flags

from vae_jax import cli
from vae_jax.classify.classification import LabelledData, classify
from vae_jax.classify.folds import Folds
from vae_jax.errors import UserError
from vae_jax.reports.study import print_study


def main() -> None:
    """The command line."""
    if not WORKDIRS.value:
        raise UserError("--workdirs needs one or more workdirs of trained runs, separated by commas.")
    source = LabelledData(DATA_NAME.value, DATA_DIR.value, TRAIN_SPLIT.value, TEST_SPLIT.value)
    classify(WORKDIRS.value, WORKDIR.value, source, Folds(FOLDS.value, FOLD_SIZE.value, FOLD_FILE.value))
    print_study(WORKDIR.value, "classify")


if __name__ == "__main__":
    WORKDIRS = cli.paths_flag("workdirs", "Workdirs of trained runs, separated by commas.", required=True)
    WORKDIR = cli.path_flag("workdir", "Folder to write to.", required=True)
    DATA_NAME = flags.DEFINE_string("data_name", None, "Labelled data set; by default the one of the runs.")
    DATA_DIR = cli.path_flag("data_dir", "Folder of the data, if not the one of the runs.")
    TRAIN_SPLIT = flags.DEFINE_string("train_split", "train", "Split to take the folds from.")
    TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Split to classify, all of it.")
    FOLDS = flags.DEFINE_integer("folds", 10, "Number of random folds; ignored with --fold_file.")
    FOLD_SIZE = flags.DEFINE_integer("fold_size", 1000, "Examples per random fold.")
    FOLD_FILE = cli.path_flag("fold_file", "File with one line of indices per fold, as of STL-10.")
    cli.run(main)
