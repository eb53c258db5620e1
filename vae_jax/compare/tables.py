"""The tables of a comparison, and its texts as Markdown and HTML."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vae_jax.compare.costs import COSTS, cost_cells
from vae_jax.metrics.frechet import FRECHET
from vae_jax.metrics.spectrum import SPECTRUM
from vae_jax.metrics.statistics import PairedTest
from vae_jax.metrics.upscaling import UPSCALING
from vae_jax.reports import page
from vae_jax.systems.likelihoods import IMPORTANCE_WEIGHTED

ORIGINALS = "originals"


def _title(upscaling: str) -> str:
    """'psnr_y_x2' -> 'PSNR Y x2 dB'."""
    metric, colours, factor = upscaling.split("_")
    return f"{metric.upper()} {colours.upper()} {factor}" + (" dB" if metric == "psnr" else "")


COLUMNS = {
    "mse": ("MSE", ".5f"),
    "psnr": ("PSNR dB", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "ms_ssim": ("MS-SSIM", ".4f"),
    **{name: (_title(name), ".2f" if name.startswith("psnr") else ".4f") for name in UPSCALING},
    "bce": ("BCE nats", ".2f"),
    "kl": ("KL nats", ".2f"),
    "elbo": ("ELBO nats", ".1f"),
    "bits_per_dimension": ("bits/dim", ".3f"),
    "blur_percent": ("blur %", ".2f"),
    "blur_error": ("blur error", ".5f"),
    "normalised_error": ("normalised error %", ".2f"),  # this and the next three only if evaluated
    "lpips_alex": ("LPIPS-alex", ".4f"),
    "lpips_vgg": ("LPIPS-vgg", ".4f"),
    "digit_accuracy": ("digit accuracy", ".4f"),
    "residual_laplacian_variance": ("residual Laplacian variance", ".4f"),
    **{name: (f"power / originals', {name.removeprefix('spectrum_')}", ".3f") for name in SPECTRUM},
}
RATIO = "Laplacian variance / originals'"
SHARPNESS = "Laplacian variance"
SPEED = "images/s"  # of training
TESTS = "Paired t-tests:"
TESTED = ("psnr", "lpips_alex")  # metrics with paired tests, beside the Laplacian variance
HELD = "Terms that are held at a target"
DISCRIMINATORS = "What discriminators cost at the end"


def column(name: str) -> tuple[str, str]:
    """The title and the number format of a metric's column."""
    if name.startswith(IMPORTANCE_WEIGHTED):
        return f"IWAE nats, {name.removeprefix(IMPORTANCE_WEIGHTED)} samples", ".1f"
    return COLUMNS.get(name, (name, _spec(name)))


def results(numbers: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of compare.json: header and rows, first the originals, then baselines, then runs."""
    present = dict.fromkeys(name for row in numbers["rows"] for name in row["mean"])
    names = dict.fromkeys((*(name for name in COLUMNS if name in present), *present))
    formats = {name: column(name) for name in names}

    def cell(row: Mapping, name: str) -> str:
        if name not in row["mean"]:
            return ""
        spec, mean, std = formats[name][1], row["mean"][name], row["std"][name]
        if mean is None:
            return "not finite"
        return f"{mean:{spec}}" + (f" ± {std:{spec}}" if std is not None else "")

    benched = any("cost" in row for row in numbers["rows"])
    trained = not benched and any(any(row.get("images_per_second", ())) for row in numbers["rows"])  # or an older file
    costs = [title for title, *_ in COSTS.values()] if benched else [SPEED] * trained
    header = ["", "seeds"] + [title for title, _ in formats.values()] + costs
    originals = [ORIGINALS, ""] + [
        f"{numbers[ORIGINALS][n]:{spec}}" if n in numbers[ORIGINALS] else "" for n, (_, spec) in formats.items()
    ]  # fmt: skip
    rows = [
        [row["name"], str(len(row["seeds"]) or "")]
        + [cell(row, name) for name in formats]
        + (cost_cells(row) if benched else [_speed(row)] * trained)
        for row in (*numbers.get("baselines", ()), *numbers["rows"])
    ]
    return header, [originals + [""] * len(costs), *rows]


def _spec(name: str) -> str:
    """The number format of a column that is not in COLUMNS."""
    return ".4g" if name.startswith(FRECHET) else ".3f" if name == RATIO else ".4f"


def _speed(row: Mapping) -> str:
    """The median speed of the runs of a row, as far as it is known."""
    known = [rate for rate in row.get("images_per_second", ()) if rate]
    return f"{statistics.median(known):,.0f}" if known else ""


def t_tests(tests: Sequence[PairedTest]) -> tuple[list[str], list[list[str]]]:
    """The t-tests of one table: header and rows."""

    def t_value(t: float | None) -> str:
        return "none: the same difference in every image" if t is None else f"{t:.2f}"

    def p_value(p: float | None) -> str:
        return "" if p is None else f"{p:.2g}" if p else "< 1e-300"

    rows = [
        [f"{t.first} - {t.second}", f"{t.difference:.4f}", t_value(t.t), p_value(t.p), p_value(t.adjusted),
         f"{t.images:,}"]
        for t in tests
    ]  # fmt: skip
    return ["pair", "mean difference", "T", "p", "p, Holm", "images"], rows


def markdown(lead: str, table, notes: Sequence[str], others: Mapping) -> list[str]:
    """The paragraphs and tables of compare.md; `others` are the tables after the first one, by title."""
    blocks = [block for title, other in others.items() for block in (f"{title}:", page.markdown_table(*other))]
    return [lead, page.markdown_table(*table), *notes, *blocks]


def html(lead: str, table, notes: Sequence[str], others: Mapping, pictures: Mapping[str, bytes]) -> str:
    """The whole comparison as one page."""
    sections = [page.section("Numbers", page.text("Means over images; ± is the standard deviation over seeds."),
                             page.table(*table), *map(page.text, notes))]  # fmt: skip
    sections += page.figures(pictures)
    sections += [page.section(title, page.table(*other)) for title, other in others.items()]
    return page.page("Comparison", lead, *sections)
