"""The files of `vae_jax.latents`: the table as JSON and Markdown, the vectors, the pictures, one HTML page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax import page
from vae_jax.workdir import write_text

PAPER = ("celeb_a", "Hou et al. 2017, average of 40", "86.95")
CAPTIONS = {
    "Walk": "Images without the attribute, and what z + t · vector decodes to.",
    "Arithmetic": "An image without A and with B: the vector of A is added, then that of B is taken away.",
    "Interpolation": "Decoded from the straight line between the latents of two images.",
    "Prior": "Decoded from z drawn from the prior, times the temperature.",
}


def write_latents(
    output: Path, record: Mapping[str, Any], vectors: Mapping[str, np.ndarray], pictures: Mapping[str, bytes]
) -> dict[str, Any]:
    """Writes everything into `output`; returns latents.json, which is `record` with the averages."""
    predicted = [row for row in record["attributes"] if row["accuracy"] is not None]
    if predicted:
        average = {name: float(np.mean([row[name] for row in predicted])) for name in ("base_rate", "accuracy")}
        record = {**record, "average": average}
    output.mkdir(parents=True, exist_ok=True)
    for old in (*output.glob("walk_*.png"), output / "arithmetic.png", output / "attribute_vectors.npz"):
        old.unlink(missing_ok=True)  # of other attributes
    if vectors:
        table = {"names": list(vectors), "vectors": np.stack([*vectors.values()])}
        np.savez_compressed(output / "attribute_vectors.npz", **table)
    for title, png in pictures.items():
        (output / f"{title.lower().replace(' ', '_').replace('/', '-')}.png").write_bytes(png)
    write_text(output / "latents.json", json.dumps(record, indent=2) + "\n")

    train, evaluated = record["train"], record["eval"]
    lead = (
        f"Step {record['step']:,}, {record['data']}: vectors and SVMs from the {train['images']:,} images of "
        f"{train['split']}, judged on the {evaluated['images']:,} of {evaluated['split']}."
    )
    words = "A linear SVM tells each attribute from the mean of q(z | x); the base rate is the more frequent answer's."
    markdown, sections = f"{lead}\n", []
    if predicted:
        table = _table(record)
        markdown += f"\n{words}\n\n{page.markdown_table(*table)}"
        sections.append(page.section("Attributes in the latents", page.text(words), page.table(*table)))
    write_text(output / "latents.md", markdown)
    for title, png in pictures.items():
        caption = CAPTIONS[title.partition(" ")[0]]
        sections.append(page.section(title, page.text(caption), page.picture(png, title)))
    write_text(output / "latents.html", page.page("Latents", lead, *sections))
    return record


def _table(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One line per attribute, one for the average and, for CelebA, one for the paper's."""
    columns = [[row["accuracy"] for row in record["attributes"]], *(other["accuracy"] for other in record["beside"])]
    rows = [
        [row["attribute"], f"{row['positives']:,}", f"{100 * row['base_rate']:.2f}", *map(_percent, accuracies)]
        for row, *accuracies in zip(record["attributes"], *columns, strict=True)
    ]
    averages = [float(np.mean([value for value in column if value is not None])) for column in columns]
    predicted = sum(value is not None for value in columns[0])
    rows.append([f"average of {predicted}", "", _percent(record["average"]["base_rate"]), *map(_percent, averages)])
    data, name, accuracy = PAPER
    if record["data"].partition(":")[0] == data:
        rows.append([name, "", "", accuracy] + [""] * len(record["beside"]))
    names = [record["name"], *(other["name"] for other in record["beside"])]
    return ["attribute", "positives", "base rate %", *(f"SVM accuracy %, {name}" for name in names)], rows


def _percent(share: float | None) -> str:
    return "no SVM: constant in train" if share is None else f"{100 * share:.2f}"
