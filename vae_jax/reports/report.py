"""The report of a run: WORKDIR/report.html, one self-contained page."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vae_jax.config import flat
from vae_jax.metrics.upscaling import UPSCALING
from vae_jax.reports import page
from vae_jax.runs.workdir import read_lines, write_text

UNITS = {
    "psnr": "dB",
    "bce": "nats per image",
    "kl": "nats per image",
    "cross_entropy": "nats",
    "blur_percent": "%",
    "normalised_error": "%",
    **{name: "dB" for name in UPSCALING if name.startswith("psnr")},
}


def write_report(workdir: str | Path) -> Path:
    """Writes the report of a workdir; returns its path."""
    from vae_jax.reports import figures  # matplotlib: only where it is used

    workdir = Path(workdir)
    metrics = json.loads((workdir / "eval" / "metrics.json").read_text())
    per_image = dict(np.load(workdir / "eval" / "per_image.npz"))
    config = json.loads((workdir / "config.json").read_text())
    records = read_lines(workdir / "scalars.jsonl")
    runs = read_lines(workdir / "runs.jsonl")

    baselines = metrics.get("baselines", {})
    rows = [
        (name.replace("_", " "), f"{value:.5g}", *_cells(baselines, name), UNITS.get(name, ""))
        for name, value in metrics.items()
        if isinstance(value, float)
    ]
    judged = f"{metrics['examples']:,} images of {config['data']['name']}, split {metrics['split']}"
    sections = [
        page.section(
            "Numbers", page.text(f"Means over {judged}."), page.table(("metric", "mean", *baselines, ""), rows)
        )
    ]

    for name in ("reconstructions", "samples"):
        newest = max((workdir / "pictures").glob(f"{name}_*.png"), default=None)
        if newest is not None:
            order = [*baselines, "reconstructions", "originals"] if baselines else ["originals", "reconstructions"]
            caption = {
                "reconstructions": f"From top to bottom: {', '.join(order)}. Reconstructions are decoded from the mean "
                "of q(z | x).",
                "samples": "Decoded from z sampled from the prior.",
            }[name]
            sections.append(page.section(name.title(), page.text(caption), page.picture(newest.read_bytes(), name)))

    if {"laplacian_variance", "target_laplacian_variance", "label"} <= set(per_image):
        variances = {
            "originals": per_image["target_laplacian_variance"],
            "reconstructions": per_image["laplacian_variance"],
        }
        plot = figures.box_plot(variances, per_image["label"], "Laplacian variance")
        sections.append(page.section("Sharpness per class", page.picture(plot, "box plot of Laplacian variances")))

    trained = sorted({name for record in records for name in record if name != "step"})
    for title, names in (
        ("Training", figures.informative(records, [n for n in trained if not n.startswith("eval/")])),
        ("Evaluation", [n for n in trained if n.startswith("eval/")]),
    ):
        if names:
            sections.append(page.section(title, page.picture(figures.curves(records, names), f"curves: {title}")))

    data_report = workdir / "data_report.json"
    if data_report.is_file():
        sections.append(page.section("Data", page.preformatted(data_report.read_text())))
    for run in runs[-1:]:
        sections.append(page.section("Command and versions", page.preformatted(run["command"]),
                                     page.preformatted(json.dumps(run["versions"], indent=1))))  # fmt: skip
    lines = [f"{key} = {value!r}" for key, value in flat(config).items()]
    sections.append(page.section("Config", page.preformatted("\n".join(lines))))

    lead = f"step {metrics['step']:,}, seed {config['seed']}, state {metrics['state_digest'][:12]}"
    target = workdir / "report.html"
    write_text(target, page.page(config["name"] or config["system"], lead, *sections))
    return target


def _cells(baselines: Mapping[str, Mapping[str, float]], name: str) -> list[str]:
    """The metric `name` of each baseline, empty where it has none."""
    return [f"{judged[name]:.5g}" if name in judged else "" for judged in baselines.values()]
