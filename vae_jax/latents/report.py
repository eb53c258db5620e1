"""The files of `vae_jax.latents`: the tables, the attribute vectors, the pictures and the page."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.reports import page
from vae_jax.reports.study import write_study
from vae_jax.runs.workdir import write_bytes

PAPER = ("celeb_a", "Hou et al. 2017, average of 40", "86.95")
CAPTIONS = {
    "Walk": "Images without the attribute, then images decoded from z + t · vector.",
    "Arithmetic": "Images with B and without A: the vector of A is added, then that of B is subtracted.",
    "Interpolation": "Decoded from points on the straight line between the latents of two images.",
    "Prior": "Decoded from samples of the prior, multiplied by the temperature.",
}


def write_latents(
    output: Path, record: dict[str, Any], vectors: Mapping[str, np.ndarray], pictures: Mapping[str, bytes]
) -> dict[str, Any]:
    """Writes all files into `output`; returns latents.json, which is `record` with the averages."""
    predicted = [row for row in record["attributes"] if row["accuracy"] is not None]
    if predicted:
        average = {name: _mean(row[name] for row in predicted) for name in ("base_rate", "accuracy", "auc")}
        record = {**record, "average": average}
    for old in (*output.glob("walk_*.png"), output / "arithmetic.png", output / "attribute_vectors.npz"):
        old.unlink(missing_ok=True)  # they may show other attributes
    if vectors:
        table = {"names": list(vectors), "vectors": np.stack([*vectors.values()])}
        np.savez_compressed(arrays := io.BytesIO(), **table)
        write_bytes(output / "attribute_vectors.npz", arrays.getvalue())

    train, evaluated = record["train"], record["eval"]
    lead = (
        f"Step {record['step']:,}, {record['data']}: vectors and SVMs fitted to the {train['images']:,} images of "
        f"{train['split']}, evaluated on the {evaluated['images']:,} images of {evaluated['split']}."
    )
    words = (
        "How often a linear SVM predicts each attribute correctly from the mean of q(z | x). Always guessing the more "
        "frequent value achieves the base rate, and an area under the ROC curve (AUC) of 0.5."
    )
    markdown, sections = [lead], []
    if predicted:
        table = _table(record)
        markdown += [words, page.markdown_table(*table)]
        sections.append(page.section("Attributes in the latents", page.text(words), page.table(*table)))
    sections += page.figures(pictures, {title: CAPTIONS[title.partition(" ")[0]] for title in pictures})
    write_study(output, "latents", record, markdown, pictures, page.page("Latents", lead, *sections))
    return record


def _table(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row per attribute, one for the average and, for CelebA, one for the average of the paper."""
    own = {"name": record["name"]} | {key: [row[key] for row in record["attributes"]] for key in ("accuracy", "auc")}
    runs = [own, *record["beside"]]
    rows = []
    for i, row in enumerate(record["attributes"]):
        cells = [cell for run in runs for cell in (_percent(run["accuracy"][i]), _area(run["auc"][i]))]
        rows.append([row["attribute"], f"{row['positives']:,}", _percent(row["base_rate"]), *cells])
    averages = [cell for run in runs for cell in (_percent(_mean(run["accuracy"])), _area(_mean(run["auc"])))]
    predicted = sum(value is not None for value in own["accuracy"])
    rows.append([f"average of {predicted}", "", _percent(record["average"]["base_rate"]), *averages])
    data, name, accuracy = PAPER
    if record["data"].partition(":")[0] == data:
        rows.append([name, "", "", accuracy] + [""] * (2 * len(runs) - 1))
    columns = [f"{quantity}, {run['name']}" for run in runs for quantity in ("SVM %", "AUC")]
    return ["attribute", "positives", "base rate %", *columns], rows


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _percent(share: float | None) -> str:
    return "no SVM: constant in train" if share is None else f"{100 * share:.2f}"


def _area(area: float | None) -> str:
    return "" if area is None else f"{area:.3f}"
