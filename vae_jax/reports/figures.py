"""The figures of reports and studies, as PNG bytes."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from vae_jax.data.contract import class_name

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = (
    "#64748b", "#d97706", "#2563eb", "#059669", "#be185d", "#7c3aed", "#0891b2", "#65a30d", "#dc2626", "#1e3a8a",
    "#f472b6", "#854d0e", "#14b8a6", "#000000",
)  # fmt: skip
MARKERS = "osD^"
STROKES = ("-", "--", ":")
CLASSES = 40  # groups of boxes in one panel
LONGEST = 40  # characters of a name
WIDE = 90  # characters below a panel, shared by the boxes
FEW = 8  # filled histograms that can be told apart in one panel
PHOTOGRAPH = 48  # images of at least this many pixels a side are shown as photographs
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.edgecolor": "#94a3b8",
    "savefig.dpi": 100,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # names of runs and classes may have dollar signs
}


def _png(figure) -> bytes:
    drawn, buffer = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # of names in scripts that the font lacks
        figure.savefig(drawn, format="png")
    plt.close(figure)
    Image.open(drawn).convert("RGB").save(buffer, format="png", optimize=True)  # without alpha: a seventh smaller
    return buffer.getvalue()


def _side(pixels: int) -> float:
    """The side in inches of an image of this many pixels; small ones are enlarged by a whole number."""
    if pixels < PHOTOGRAPH:
        return pixels * max(1, round(90 / pixels)) / 100
    return float(np.clip(pixels / 133, 0.72, 1.3))


def columns(rows: int, shape: Sequence[int]) -> int:
    """How many images of `shape` [H, W, C] to show in each of `rows` rows: 4 to 10 small ones, 2 to 8 photographs, so
    that the picture stays below 300 kB and can be published with the results.

    A photograph takes about 1.45 bytes per pixel that is drawn, a small image 1.1 per value that it has.
    """
    pixels = shape[0]
    if pixels < PHOTOGRAPH:
        return int(np.clip(300_000 // (rows * 1.1 * np.prod(shape)), 4, 10))
    row_bytes = rows * 1.45 * (100 * _side(pixels)) ** 2
    return int(np.clip(300_000 // row_bytes, 2, 8))


def image_rows(rows: Sequence[tuple[str, np.ndarray]], headings: Sequence[str] = ()) -> bytes:
    """Rows of images (label, [n, H, W, C] in [0, 1]), all with the same n; `headings` [n] go above the columns."""
    count, pixels = len(rows[0][1]), rows[0][1].shape[2]
    side = _side(pixels)
    interpolation = "nearest" if pixels < 56 else "auto"
    with plt.rc_context(STYLE):
        margin = 0.3 + 0.08 * max(len(line) for label, _ in rows for line in label.split("\n"))
        size = margin + side * count, (side + 0.03) * len(rows) + (0.2 if headings else 0)
        figure, axes = plt.subplots(len(rows), count, figsize=size, squeeze=False)
        for line, (label, images) in zip(axes, rows, strict=True):
            for axis, image in zip(line, np.asarray(images), strict=True):
                axis.axis("off")
                axis.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation=interpolation)
            words = "\n".join(map(_legible, label.split("\n")))
            line[0].text(-0.15, 0.5, words, transform=line[0].transAxes, ha="right", va="center")
        for axis, heading in zip(axes[0], headings, strict=False):
            axis.set_title(heading, fontsize=9)
        return _png(figure)


def _text(name: str) -> str:
    """A name in which bytes that are no text are question marks."""
    return name.encode(errors="replace").decode()


def _legible(name: str) -> str:
    """A name as matplotlib draws it: of at most `LONGEST` characters, and not left out of a legend because of a leading
    underscore."""
    text = _text(name)
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return f" {text}" if text.startswith("_") else text


def box_plot(values: Mapping[str, np.ndarray], labels: np.ndarray, quantity: str, names: Sequence[str] = ()) -> bytes:
    """One group of boxes per class, one box per entry of `values` ({name: [N]}); `names` are those of the classes.

    Of more than `CLASSES` classes some are shown, evenly spread, and the axis says so.
    """
    present = np.unique(labels)
    classes = present[np.unique(np.linspace(0, len(present) - 1, CLASSES).astype(int))]
    shown = [_legible(class_name(c, names)) for c in classes]
    width = 0.8 / len(values)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 3.4))
        for i, (name, column) in enumerate(values.items()):
            colour = COLOURS[i % len(COLOURS)]
            axis.boxplot(
                [column[labels == c] for c in classes],
                positions=np.arange(len(classes)) + (i - (len(values) - 1) / 2) * width,
                widths=0.85 * width,
                patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.75, "edgecolor": colour},
                medianprops={"color": "black"},
                whiskerprops={"color": colour},
                capprops={"color": colour},
                flierprops={"marker": ".", "markersize": 2, "markeredgecolor": colour, "alpha": 0.4},
            )
            axis.plot([], [], color=colour, linewidth=6, alpha=0.75, label=_legible(name))
        axis.set_xticks(range(len(classes)), shown, rotation=90 if len(shown) * max(map(len, shown)) > WIDE else 0)
        axis.set_xlabel("class" if len(classes) == len(present) else f"{len(classes)} of {len(present):,} classes")
        axis.set_ylabel(quantity)
        per_line = max(1, 120 // (8 + max(len(_legible(name)) for name in values)))  # no wider than the axes
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
        axis.legend(frameon=False, ncols=min(len(values), per_line), **above)
        return _png(figure)


def histograms(values: Mapping[str, np.ndarray], subsets: Mapping[str, np.ndarray], quantity: str) -> bytes:
    """One panel per subset ({title: mask [N]}), one histogram per entry of `values` ({name: [N]})."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(subsets), figsize=(4.6 * len(subsets), 3), squeeze=False)
        for axis, (title, mask) in zip(axes[0], subsets.items(), strict=True):
            bins = np.linspace(0, max(np.quantile(column[mask], 0.999) for column in values.values()), 60)
            for i, (name, column) in enumerate(values.items()):
                colour = COLOURS[i % len(COLOURS)]
                filled = {"alpha": 0.55} if len(values) <= FEW else {"histtype": "step"}
                axis.hist(np.clip(column[mask], 0, bins[-1]), bins, color=colour, label=_legible(name), **filled)
                axis.axvline(column[mask].mean(), color=colour, linewidth=1.2, linestyle="--")
            axis.set_title(f"{title}, {mask.sum():,} images (dashed: mean)")
            axis.set_xlabel(quantity)
            axis.set_ylabel("images")
        if len(values) <= FEW:
            axes[0][0].legend(frameon=False)
        else:
            _legend_outside(axes[0][-1])
        return _png(figure)


def _legend_outside(axis) -> None:
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def points(values: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> bytes:
    """One point per run: `values` {name: (x [runs], y [runs])}, titles of both axes."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 4.6))
        for i, (name, (xs, ys)) in enumerate(values.items()):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            axis.scatter(xs, ys, color=colour, marker=marker, s=36, alpha=0.85, label=_legible(name))
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(color="#e2e8f0", linewidth=0.6)
        axis.set_axisbelow(True)
        _legend_outside(axis)
        return _png(figure)


def lines(values: Mapping[str, np.ndarray], abscissae: np.ndarray, x: str, y: str) -> bytes:
    """One line per entry of `values` {name: [N]} over the `abscissae` [N], on a logarithmic axis, and one at 1."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 4.6))
        axis.axhline(1, color="#94a3b8", linewidth=0.8)
        for i, (name, column) in enumerate(values.items()):
            colour, stroke = COLOURS[i % len(COLOURS)], STROKES[i % len(STROKES)]
            axis.semilogy(abscissae, column, color=colour, linestyle=stroke, linewidth=1.4, label=_legible(name))
        axis.yaxis.set_major_formatter("{x:g}")  # the default is mathematics, which STYLE leaves unparsed
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        _legend_outside(axis)
        return _png(figure)


def curves(records: Sequence[Mapping[str, float]], names: Sequence[str]) -> bytes:
    """One small panel per scalar, plotted against the step."""
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 1.9 * rows), squeeze=False)
        for axis in axes.ravel()[len(names) :]:
            axis.axis("off")
        for i, (axis, name) in enumerate(zip(axes.ravel(), names, strict=False)):
            points = [(record["step"], record[name]) for record in records if record.get(name) is not None]
            axis.plot(*zip(*points, strict=True), color=COLOURS[1 + i % (len(COLOURS) - 1)], marker=".", markersize=3)
            axis.set_title(name)
            axis.xaxis.set_major_locator(MaxNLocator(4))
        return _png(figure)


def logged(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scalars of a log that have at least one finite value, in its order."""
    values = [(name, value) for record in records for name, value in record.items() if name != "step"]
    return list(dict.fromkeys(name for name, value in values if isinstance(value, int | float)))


def informative(records: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[str]:
    """The scalars worth plotting: `names` without updated/PLAYER of players that were updated at every step."""
    updates = [name for name in names if name.startswith("updated/")]
    constant = {name for name in updates if all(record.get(name, 1.0) == 1.0 for record in records)}
    return [name for name in names if name not in constant]


def sheet(pngs: Mapping[str, bytes]) -> bytes:
    """All PNGs {title: PNG} on one white sheet, one below the other under their titles."""
    images = {title: Image.open(io.BytesIO(png)).convert("RGB") for title, png in pngs.items()}
    heading = 34
    height = sum(image.height + heading for image in images.values())
    canvas = Image.new("RGB", (max(image.width for image in images.values()), height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=17)
    top = 0
    for title, image in images.items():
        draw.text((12, top + 10), _text(title), fill="#1e293b", font=font)
        canvas.paste(image, ((canvas.width - image.width) // 2, top + heading))
        top += heading + image.height
    buffer = io.BytesIO()
    canvas.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
