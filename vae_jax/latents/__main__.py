"""What the latents of a trained workdir know: attribute vectors, linear predictions, walks, arithmetic and samples.

    python -m vae_jax.latents --workdir=DIR [--attributes=Smiling,Eyeglasses] [--temperature=0.4] [--output=DIR]
                              [--beside=OTHER_WORKDIR,...]

writes into WORKDIR/latents: attribute_vectors.npz (names [A], one vector each), latents.json and latents.md (how
well a linear SVM tells each attribute from the latents), latents.html (everything, self-contained) and the PNGs. The
table has a column more for each workdir of --beside, for which the command has run before.

Source: Hou, Shen, Sun, Qiu, "Deep feature consistent variational autoencoder", WACV 2017. An attribute vector is a
mean over the whole train split; the authors' published code draws, by a slip, from the first 100 images of either kind.
"""

from pathlib import Path

from absl import flags

from vae_jax import cli
from vae_jax.latents.exploration import explore
from vae_jax.reports.study import print_study


def main() -> None:
    """The command line."""
    output = Path(OUTPUT.value or Path(WORKDIR.value) / "latents")
    explore(WORKDIR.value, output, DATA_DIR.value, ATTRIBUTES.value, TEMPERATURE.value, BESIDE.value)
    print_study(output, "latents")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
    OUTPUT = flags.DEFINE_string("output", None, "Folder to write to; WORKDIR/latents by default.")
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are now, if not where the run found them.")
    ATTRIBUTES = flags.DEFINE_list("attributes", [], "Attributes to show, separated by commas; a few by default.")
    TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Scale of the prior's samples; the authors' code takes 0.4.")
    BESIDE = flags.DEFINE_list("beside", [], "Other workdirs, explored before, to put into the table.")
    cli.run(main)
