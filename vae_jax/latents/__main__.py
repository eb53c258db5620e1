"""Explores the latents of a trained run: attribute vectors, linear predictions, walks, arithmetic and samples.

    python -m vae_jax.latents --workdir=DIR [--attributes=Smiling,Eyeglasses] [--temperature=0.4] [--output=DIR]
                              [--beside=OTHER_WORKDIR,...]

writes into WORKDIR/latents: attribute_vectors.npz (names [A], one vector each), latents.json and latents.md (how
well a linear SVM predicts each attribute from the latents), latents.html (everything, self-contained) and one PNG per
picture. Each workdir of --beside adds its columns to the table; run the command on that workdir first.

Source: Hou, Shen, Sun, Qiu, "Deep feature consistent variational autoencoder", WACV 2017. Attribute vectors use means
over the whole train split; the authors' published code, by mistake, samples the first 100 images of each kind.
"""

from pathlib import Path

from absl import flags

from vae_jax import cli
from vae_jax.latents.exploration import explore
from vae_jax.reports.study import print_study
from vae_jax.runs.bucket import at_hand


def main() -> None:
    """The command line."""
    with at_hand(WORKDIR.value) as run:
        output = Path(OUTPUT.value or run.folder / "latents")
        explore(str(run.folder), output, DATA_DIR.value, ATTRIBUTES.value, TEMPERATURE.value, BESIDE.value or [])
        print_study(output, "latents")


if __name__ == "__main__":
    WORKDIR = cli.workdir_flag("Folder or address of a trained run.")
    OUTPUT = cli.path_flag("output", "Folder to write to; by default WORKDIR/latents.")
    DATA_DIR = cli.path_flag("data_dir", "Folder of the data if they have moved, or of others.")
    ATTRIBUTES = flags.DEFINE_list("attributes", [], "Attributes to show, separated by commas; by default a few.")
    TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Scale of samples from the prior; the authors' code uses 0.4.")
    BESIDE = cli.paths_flag("beside", "Other workdirs to add to the table, already explored.")
    cli.run(main)
