"""What the latents of a trained workdir know: attribute vectors, linear predictions, walks, arithmetic and samples.

    python -m vae_jax.latents --workdir=DIR [--attributes=Smiling,Eyeglasses] [--temperature=0.4] [--output=DIR]
                              [--beside=OTHER_WORKDIR,...]

writes into WORKDIR/latents: attribute_vectors.npz (names [A], one vector each), latents.json and latents.md (how
well a linear SVM tells each attribute from the latents), latents.html (everything, self-contained) and the PNGs. The
table has a column more for each workdir of --beside, for which the command has run before.

Source: Hou, Shen, Sun, Qiu, "Deep feature consistent variational autoencoder", WACV 2017. An attribute vector is a
mean over the whole train split; the authors' published code draws, by a slip, from the first 100 images of either kind.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from vae_jax import cli
from vae_jax.data.contract import Attributes, Dataset
from vae_jax.data.pipeline import padded_indices
from vae_jax.errors import UserError, look_up, nearest
from vae_jax.evaluate import load_split
from vae_jax.inference import Model, load_workdir
from vae_jax.latents_report import write_latents

STEPS = np.linspace(0, 1.5, 7)  # of a walk along an attribute vector
INTERPOLATION_STEPS = 10
SHOWN = ("Eyeglasses", "Smiling", "Male", "Black_Hair", "Mustache")  # among those that the authors show of CelebA
ATTRIBUTES_SHOWN = 5  # where the data have none of those
PROGRESS = 20_000  # images between two lines


class Prediction(NamedTuple):
    """How well one attribute of the eval split is told from the latents."""

    attribute: str
    positives: int  # of the eval split
    base_rate: float  # share of the more frequent answer, which is what a blind guess achieves
    accuracy: float | None  # of the linear SVM; None where the train split shows one answer only
    auc: float | None  # area under its ROC curve, which 0.5 is for a blind guess; None where eval shows one answer too


def encode_dataset(model: Model, dataset: Dataset) -> np.ndarray:
    """Means of q(z | x) of all images of a data set, in its order: [N, *latent_shape]."""
    batch_size = min(model.config.eval_batch_size, dataset.size)
    indices, mask = padded_indices(dataset.size, batch_size)
    parts = []
    for number, index in enumerate(indices):
        parts.append(np.asarray(model.encode(model.observe(dataset.read(index)["image"]))[0]))
        done = min((number + 1) * batch_size, dataset.size)
        if number * batch_size // PROGRESS < done // PROGRESS:
            print(f"encoded {done:,} of {dataset.size:,} images", flush=True)
    return np.concatenate(parts)[mask.ravel()]


def attribute_vectors(z: np.ndarray, attributes: Attributes) -> dict[str, np.ndarray]:
    """{name: mean of the latents z [N, *latent_shape] with the attribute minus mean of those without}."""
    vectors = {}
    for name, on in zip(attributes.names, attributes.values.T, strict=True):
        if on.all() or not on.any():
            raise UserError(
                f"The attribute {name!r} has no vector: it is {'never off' if on.all() else 'never on'} in these "
                f"{len(on):,} examples. Leave it out, or take examples of both kinds."
            )
        vectors[name] = z[on].mean(axis=0, dtype=np.float64) - z[~on].mean(axis=0, dtype=np.float64)
    return vectors


def predict_attributes(
    z_train: np.ndarray, train: Attributes, z_eval: np.ndarray, evaluated: Attributes
) -> list[Prediction]:
    """One row per attribute of `train`: a linear SVM learns it from z_train [N, latents] and is judged on z_eval.

    Both are standardised with mean and standard deviation of z_train.
    """
    from sklearn.metrics import roc_auc_score  # slow to import
    from sklearn.svm import LinearSVC

    mean, std = z_train.mean(axis=0), z_train.std(axis=0)
    std = np.where(std > 0, std, 1)
    z_train, z_eval = (z_train - mean) / std, (z_eval - mean) / std
    rows = []
    for name, on in zip(train.names, train.values.T, strict=True):
        truth, accuracy, auc = where(evaluated, name), None, None
        if on.any() and not on.all():
            svm = LinearSVC(dual=False).fit(z_train, on)
            accuracy = float(svm.score(z_eval, truth))
            if truth.any() and not truth.all():
                auc = float(roc_auc_score(truth, svm.decision_function(z_eval)))
        share = float(truth.mean())
        rows.append(Prediction(name, int(truth.sum()), max(share, 1 - share), accuracy, auc))
    return rows


def where(attributes: Attributes, name: str) -> np.ndarray:
    """The examples [N] with the attribute; none in a split that does not know it, such as a class it has not."""
    if name not in attributes.names:
        return np.zeros(len(attributes.values), bool)
    return attributes.values[:, attributes.names.index(name)]


def walk(model: Model, z: np.ndarray, vector: np.ndarray, steps: Sequence[float] = STEPS) -> np.ndarray:
    """Images [N, T, H, W, C] decoded from z + t * vector: z [N, *latent_shape], a vector like one, `steps` [T]."""
    path = np.asarray(z)[:, None] + np.multiply.outer(np.asarray(steps), np.asarray(vector))
    images = np.asarray(model.decode(path.reshape(-1, *path.shape[2:])))
    return images.reshape(*path.shape[:2], *images.shape[1:])


def interpolate(model: Model, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """11 images along the straight line between the means of two images [H, W, C]."""
    start, stop = np.asarray(model.encode(model.observe(np.stack([first, last])))[0])
    return walk(model, start[None], stop - start, np.linspace(0, 1, INTERPOLATION_STEPS + 1))[0]


def explore(
    workdir: str | Path,
    output: str | Path,
    data_dir: str | None = None,
    requested: Sequence[str] = (),
    temperature: float = 1.0,
    beside: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes what the latents of `workdir` know into `output`, its predictions next to those of the workdirs `beside`;
    returns latents.json."""
    from vae_jax import latents_pictures  # matplotlib: only where it is used

    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(f"temperature is {temperature:g}; it must be positive. 1 draws from the prior itself.")
    others = {other: _read_latents(other) for other in beside}
    run = load_workdir(workdir)
    model, data = Model(run), run.config.data
    datasets = {split: load_split(run, split, data_dir) for split in (data.train, data.eval)}
    attributes = {split: _attributes(dataset) for split, dataset in datasets.items()}
    train = attributes[data.train]
    varying = _varying(train)
    chosen = _choose(requested, train.names, varying.names)
    if not varying.names:
        print(
            f"no label or attribute of {data.name} is on in some images of {data.train} and off in others: no vectors"
        )

    z = {split: encode_dataset(model, dataset) for split, dataset in datasets.items()}
    vectors = attribute_vectors(z[data.train], varying)
    if vectors:
        print(f"fitting {len(vectors)} linear SVMs to {len(z[data.train]):,} latents", flush=True)
    flat = {split: codes.reshape(len(codes), -1) for split, codes in z.items()}
    predictions = predict_attributes(flat[data.train], train, flat[data.eval], attributes[data.eval])

    shown = {name: vectors[name] for name in chosen}
    pictures = latents_pictures.along_vectors(model, datasets[data.eval], z[data.eval], attributes[data.eval], shown)
    pictures |= latents_pictures.interpolations(model, datasets[data.eval])
    if model.has_prior:
        pictures |= latents_pictures.prior_samples(model, temperature)
    record = {
        "name": run.config.name or run.config.system,
        "step": int(run.state.step),
        "data": data.name,
        "train": {"split": data.train, "images": datasets[data.train].size},
        "eval": {"split": data.eval, "images": datasets[data.eval].size},
        "temperature": temperature,
        "attributes": [prediction._asdict() for prediction in predictions],
    }
    record["beside"] = [_beside(other, table, record) for other, table in others.items()]
    return write_latents(Path(output), record, vectors, pictures)


def _read_latents(workdir: str) -> dict[str, Any]:
    """The latents.json of a workdir that has been explored before."""
    path = Path(workdir) / "latents" / "latents.json"
    if not path.is_file():
        raise UserError(f"There is no {path}: run python -m vae_jax.latents --workdir={workdir} first.")
    return json.loads(path.read_text())


def _beside(workdir: str, other: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Name and predictions of another workdir, for the same attributes of the same images as `record`."""

    def judged(table: Mapping[str, Any]) -> list:
        return [table["data"], table["eval"], [(row["attribute"], row["positives"]) for row in table["attributes"]]]

    if judged(other) != judged(record):
        raise UserError(f"The latents of {workdir} are of other images or other attributes, and cannot stand beside.")
    return {"name": other["name"]} | {key: [row[key] for row in other["attributes"]] for key in ("accuracy", "auc")}


def _attributes(dataset: Dataset) -> Attributes:
    """Those of the data set; none where it has neither attributes nor labels."""
    return dataset.attributes() if dataset.attributes else Attributes((), np.zeros((dataset.size, 0), bool))


def _varying(attributes: Attributes) -> Attributes:
    """Those that are on for some examples and off for others."""
    mask = attributes.values.any(axis=0) & ~attributes.values.all(axis=0)
    return Attributes(tuple(compress(attributes.names, mask)), attributes.values[:, mask])


def _choose(requested: Sequence[str], known: Sequence[str], varying: Sequence[str]) -> list[str]:
    """The attributes to show: those asked for, else the ones of the paper, else the first ones."""
    if requested and not known:
        raise UserError("These data have neither attributes nor labels, so that no attribute can be asked for. In an "
                        "image_folder each folder right below a split is a label.")  # fmt: skip
    for name in requested:
        look_up(dict(zip(known, known, strict=True)), name, "attribute")
        if name not in varying:
            others = nearest(name, varying) if varying else "So are all others."
            raise UserError(f"The attribute {name!r} is the same in all images of the train split, so that it has no "
                            f"vector. {others}")  # fmt: skip
    return (
        list(dict.fromkeys(requested))
        or [name for name in SHOWN if name in varying]
        or list(varying[:ATTRIBUTES_SHOWN])
    )


def main() -> None:
    """The command line."""
    output = Path(OUTPUT.value or Path(WORKDIR.value) / "latents")
    explore(WORKDIR.value, output, DATA_DIR.value, ATTRIBUTES.value, TEMPERATURE.value, BESIDE.value)
    print((output / "latents.md").read_text())
    print(f"page: {output / 'latents.html'}")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
    OUTPUT = flags.DEFINE_string("output", None, "Folder to write to; WORKDIR/latents by default.")
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are now, if not where the run found them.")
    ATTRIBUTES = flags.DEFINE_list("attributes", [], "Attributes to show, separated by commas; a few by default.")
    TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Scale of the prior's samples; the authors' code takes 0.4.")
    BESIDE = flags.DEFINE_list("beside", [], "Other workdirs, explored before, to put into the table.")
    cli.run(main)
