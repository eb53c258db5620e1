"""The exploration of the latents of a trained run: vectors, predictions and pictures put together."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.data.contract import Attributes, Dataset
from vae_jax.errors import UserError, did_you_mean, look_up
from vae_jax.evaluate import has_own_data, load_split
from vae_jax.inference import Model, load_workdir
from vae_jax.latents.predictions import predict_attributes
from vae_jax.latents.report import write_latents
from vae_jax.latents.vectors import attribute_vectors, encode_dataset

SHOWN = ("Eyeglasses", "Smiling", "Male", "Black_Hair", "Mustache")  # some of the authors' choices for CelebA
ATTRIBUTES_SHOWN = 5  # if the data have none of SHOWN


def explore(
    workdir: str | Path,
    output: str | Path,
    data_dir: str | None = None,
    requested: Sequence[str] = (),
    temperature: float = 1.0,
    beside: Sequence[str] = (),
) -> dict[str, Any]:
    """Explores the latents of `workdir` and writes the results into `output`; returns latents.json.

    The table shows its predictions next to those of the workdirs `beside`. UserError if other data than the run's would
    be explored into its own folder.
    """
    from vae_jax.latents import pictures as latents_pictures  # matplotlib: only where it is used

    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(f"temperature is {temperature:g}; it must be positive. 1 samples the prior itself.")
    others = {other: _read_latents(other) for other in beside}
    run = load_workdir(workdir)
    model, data = Model(run), run.config.data
    datasets = {split: load_split(run, split, data_dir) for split in (data.train, data.eval)}
    folder, own = data_dir or data.dir, Path(workdir) / "latents"
    if Path(output).resolve() == own.resolve() and not has_own_data(run, datasets[data.eval], data_dir):
        raise UserError(f"{folder} holds other images than {workdir} was judged on. Choose a place with --output.")
    attributes = {split: _attributes(dataset) for split, dataset in datasets.items()}
    train = attributes[data.train]
    varying = _varying(train)
    chosen = _choose(requested, train.names, varying.names)
    if not varying.names:
        print(f"no attribute vectors: no attribute or label of {data.name} varies among the images of {data.train}")

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
        "folder": folder,
        "train": {"split": data.train, "images": datasets[data.train].size},
        "eval": {"split": data.eval, "images": datasets[data.eval].size},
        "temperature": temperature,
        "attributes": [prediction._asdict() for prediction in predictions],
    }
    record["beside"] = [_beside(other, table, record) for other, table in others.items()]
    return write_latents(Path(output), record, vectors, pictures)


def _read_latents(workdir: str) -> dict[str, Any]:
    """The latents.json of a workdir that has already been explored."""
    path = Path(workdir) / "latents" / "latents.json"
    if not path.is_file():
        raise UserError(f"There is no {path}. Run python -m vae_jax.latents --workdir={workdir} first.")
    return json.loads(path.read_text())


def _beside(workdir: str, other: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The name and predictions of another workdir; UserError unless it has the images and attributes of `record`."""

    def evaluated(table: Mapping[str, Any]) -> list:
        return [table["data"], table["eval"], [(row["attribute"], row["positives"]) for row in table["attributes"]]]

    if evaluated(other) != evaluated(record):
        raise UserError(f"The latents of {workdir} cannot be compared: they belong to other images or attributes.")
    return {"name": other["name"]} | {key: [row[key] for row in other["attributes"]] for key in ("accuracy", "auc")}


def _attributes(dataset: Dataset) -> Attributes:
    """The attributes of a data set; none if it has neither attributes nor labels."""
    return dataset.attributes() if dataset.attributes else Attributes((), np.zeros((dataset.size, 0), bool))


def _varying(attributes: Attributes) -> Attributes:
    """The attributes that some examples have and others do not."""
    mask = attributes.values.any(axis=0) & ~attributes.values.all(axis=0)
    return Attributes(tuple(compress(attributes.names, np.asarray(mask))), attributes.values[:, mask])


def _choose(requested: Sequence[str], known: Sequence[str], varying: Sequence[str]) -> list[str]:
    """The attributes to show: the requested ones, or those of the paper, or the first few."""
    if requested and not known:
        raise UserError("These data have neither attributes nor labels: omit --attributes. In an image_folder, each "
                        "folder directly below a split is a label.")  # fmt: skip
    for name in requested:
        look_up(dict(zip(known, known, strict=True)), name, "attribute")
        if name not in varying:
            others = did_you_mean(name, varying) if varying else "So are all other attributes."
            raise UserError(f"The attribute {name!r} is the same in all images of the train split, so it has no "
                            f"vector. {others}")  # fmt: skip
    return (
        list(dict.fromkeys(requested))
        or [name for name in SHOWN if name in varying]
        or list(varying[:ATTRIBUTES_SHOWN])
    )
