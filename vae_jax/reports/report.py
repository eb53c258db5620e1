"""The report of a judgement: one self-contained page, a run's own is WORKDIR/report.html."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.config import flat
from vae_jax.metrics.upscaling import UPSCALING
from vae_jax.reports import page
from vae_jax.runs.places import Place, own_place
from vae_jax.runs.workdir import read_lines, write_text
from vae_jax.strict_json import to_json
from vae_jax.systems.likelihoods import IMPORTANCE_WEIGHTED

UNITS = {
    "psnr": "dB",
    "bce": "nats per image",
    "kl": "nats per image",
    "cross_entropy": "nats",
    "blur_percent": "%",
    "normalised_error": "%",
    **{name: "dB" for name in UPSCALING if name.startswith("psnr")},
}


def write_report(workdir: str | Path, place: Place | None = None) -> Path:
    """Writes the report of a judgement of the run in a workdir, by default the run's own; returns its path."""
    workdir = Path(workdir)
    own = own_place(workdir)
    place = place or own
    metrics = json.loads((place.numbers / "metrics.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    sections = [_numbers(metrics, config), *_pictures(place, metrics), *_sharpness(place, metrics)]
    if place == own:
        sections += _training(workdir)
    for run in read_lines(workdir / "runs.jsonl")[-1:]:
        sections.append(page.section("Command and versions", page.preformatted(run["command"]),
                                     page.preformatted(to_json(run["versions"], indent=1))))  # fmt: skip
    lines = [f"{key} = {value!r}" for key, value in flat(config).items()]
    sections.append(page.section("Config", page.preformatted("\n".join(lines))))
    lead = f"step {metrics['step']:,}, seed {config['seed']}, state {metrics['state_digest'][:12]}"
    if place != own:
        lead += f"; judged on {metrics['folder']}, not on the data of its training"
    write_text(place.report, page.page(config["name"] or config["system"], lead, *sections))
    return place.report


def _numbers(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    baselines = metrics.get("baselines", {})
    rows = [
        (name.replace("_", " "), _number(value), *_cells(baselines, name), _unit(name, metrics))
        for name, value in metrics.items()
        if isinstance(value, float) or value is None
    ]
    source = " in ".join(filter(None, (config["data"]["name"], metrics.get("folder"))))  # older metrics have no folder
    words = f"Means over {metrics['examples']:,} images of {source}, split {metrics['split']}."
    return page.section("Numbers", page.text(words), page.table(("metric", "mean", *baselines, ""), rows))


def _pictures(place: Place, metrics: Mapping[str, Any]) -> Iterator[str]:
    baselines = metrics.get("baselines", {})
    order = [*baselines, "reconstructions", "originals"] if baselines else ["originals", "reconstructions"]
    captions = {
        "reconstructions": f"From top to bottom: {', '.join(order)}. Reconstructions are decoded from the mean of "
        "q(z | x).",
        "samples": "Decoded from z sampled from the prior.",
    }
    for name, caption in captions.items():
        newest = max(place.pictures.glob(f"{name}_*.png"), default=None)
        if newest is not None:
            yield page.section(name.title(), page.text(caption), page.picture(newest.read_bytes(), name))


def _sharpness(place: Place, metrics: Mapping[str, Any]) -> Iterator[str]:
    from vae_jax.reports import figures  # matplotlib: only where it is used

    per_image = dict(np.load(place.numbers / "per_image.npz"))
    if {"laplacian_variance", "target_laplacian_variance", "label"} <= set(per_image):
        variances = {
            "originals": per_image["target_laplacian_variance"],
            "reconstructions": per_image["laplacian_variance"],
        }
        plot = figures.box_plot(variances, per_image["label"], "Laplacian variance", metrics.get("classes", ()))
        yield page.section("Sharpness per class", page.picture(plot, "box plot of Laplacian variances"))


def _training(workdir: Path) -> Iterator[str]:
    """The curves of a run, and what is to be known about its data."""
    from vae_jax.reports import figures

    records = read_lines(workdir / "scalars.jsonl")
    trained = sorted(figures.logged(records))
    for title, names in (
        ("Training", figures.informative(records, [n for n in trained if not n.startswith("eval/")])),
        ("Evaluation", [n for n in trained if n.startswith("eval/")]),
    ):
        if names:
            yield page.section(title, page.picture(figures.curves(records, names), f"curves: {title}"))
    data_report = workdir / "data_report.json"
    if data_report.is_file():
        yield page.section("Data", page.preformatted(data_report.read_text()))


def _unit(name: str, metrics: Mapping[str, Any]) -> str:
    if name == "elbo":  # older metrics do not say: it was one
        return f"nats per image, samples of z: {metrics.get('elbo_samples', 1)}"
    return "nats per image" if name.startswith(IMPORTANCE_WEIGHTED) else UNITS.get(name, "")


def _cells(baselines: Mapping[str, Mapping[str, float]], name: str) -> list[str]:
    """The metric `name` of each baseline, empty where it has none."""
    return [_number(judged[name]) if name in judged else "" for judged in baselines.values()]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.5g}"
