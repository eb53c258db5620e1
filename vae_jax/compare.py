"""Two or more trained workdirs side by side: the DFC-VAE article in one page.

    python -m vae_jax.compare --workdirs=runs/vae_mnist,runs/dfc_mnist --workdir=runs/compare [--data_dir=DIR]
    python -m vae_jax.compare --configs=configs/vae_mnist.py,configs/dfc_mnist.py --workdir=runs/compare
                              [--config.KEY=VALUE ...]

The second form trains every config first, into WORKDIR/NAME, one after another, and goes on where it was stopped. It
writes compare.md and compare.json (the table, the t-tests), compare.html (everything, self-contained), compare.png
(every figure on one sheet) and each figure as a PNG of its own. Workdirs that differ in nothing but their seed share
a row of the table, mean ± standard deviation; pictures and tests are of the first.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from vae_jax import cli, page
from vae_jax.compare_tables import COLUMNS, ORIGINALS, RATIO, SHARPNESS, html, results, t_tests
from vae_jax.config import check_alike, check_config, differences, read_config, row_name
from vae_jax.data.contract import Dataset
from vae_jax.errors import UserError
from vae_jax.evaluate import PerImage, baseline_metrics, evaluate_run, load_eval_dataset
from vae_jax.inference import Model, Run, load_workdir
from vae_jax.latents import interpolate
from vae_jax.metrics.statistics import paired_t_tests
from vae_jax.pictures import example_indices
from vae_jax.report import always
from vae_jax.rngs import root_key
from vae_jax.train import train
from vae_jax.weight_files import check_weights
from vae_jax.workdir import read_lines, write_text

ARTICLE_DIGITS = np.array([5531, 2553, 1432, 4526, 9960, 6860, 6987, 3720, 5003, 9472])  # 0..9 in MNIST's test split
INTERPOLATIONS = ((1, 5), (1, 3), (3, 7))  # between the examples of these classes
SAMPLES = 10
ODD_CLASS = 1  # the article sets ones apart: they have few edges


@dataclasses.dataclass
class Entry:
    """One row of the table: runs that differ in nothing but their seed."""

    name: str
    runs: list[Run]
    workdirs: list[str]
    per_image: list[PerImage]  # by run


def compare(workdirs: Sequence[str], output: str | Path, data_dir: str | None = None) -> dict[str, Any]:
    """Judges all workdirs on the same images and writes the comparison into `output`; returns compare.json."""
    from vae_jax import figures  # matplotlib: only where it is used

    # ---- judge ---------------------------------------------------------------------------------------------------
    for workdir in workdirs:
        check_weights(read_config(workdir))
    runs = [load_workdir(workdir) for workdir in workdirs]
    _check_same_data(workdirs, runs)
    dataset = load_eval_dataset(runs[0], data_dir)
    entries: list[Entry] = []
    for number, (workdir, run) in enumerate(zip(workdirs, runs, strict=True), 1):
        print(f"judging {workdir} ({number} of {len(runs)}) on {dataset.size:,} images", flush=True)
        _add(entries, workdir, run, evaluate_run(run, dataset))
    models = {entry.name: Model(entry.runs[0]) for entry in entries}

    # ---- numbers -------------------------------------------------------------------------------------------------
    first = entries[0].per_image[0]
    labels = first.get("label")
    subsets = _subsets(labels, dataset.size)
    variances = {ORIGINALS: first["target_laplacian_variance"]}
    variances |= {entry.name: entry.per_image[0]["laplacian_variance"] for entry in entries}
    numbers = _numbers(entries, subsets)
    tests = {title: paired_t_tests({n: v[mask] for n, v in variances.items()}) for title, mask in subsets.items()}

    key = root_key(runs[0].config.seed, "sample")
    pictures = _pictures(models, _baselines(runs), dataset, labels, variances, subsets, key)
    pictures |= _balances(entries)

    # ---- write ---------------------------------------------------------------------------------------------------
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    for name, png in pictures.items():
        (output / f"{name.lower().replace(' ', '_')}.png").write_bytes(png)
    (output / "compare.png").write_bytes(figures.sheet(pictures))
    record = numbers | {"t_tests": {title: [test._asdict() for test in list_] for title, list_ in tests.items()}}
    write_text(output / "compare.json", json.dumps(record, indent=2) + "\n")
    config = runs[0].config
    judged = f"{dataset.size:,} images of {config.data.name}, split {config.data.eval}"
    table, test_tables = results(numbers), {title: t_tests(list_) for title, list_ in tests.items()}
    markdown = [f"Judged on {judged}.\n", page.markdown_table(*table)]
    for title, test_table in test_tables.items():
        markdown += [f"Paired t-tests of the {SHARPNESS}, {title}:\n", page.markdown_table(*test_table)]
    write_text(output / "compare.md", "\n".join(markdown))
    write_text(output / "compare.html", html(judged, table, test_tables, pictures))
    return record


def _pictures(
    models: Mapping[str, Model],
    baselines: Mapping[str, Callable],
    dataset: Dataset,
    labels: np.ndarray | None,
    variances: Mapping[str, np.ndarray],
    subsets: Mapping[str, np.ndarray],
    key: jax.Array,
) -> dict[str, bytes]:
    """The figures of the article by title, as PNG."""
    from vae_jax import figures  # matplotlib: only where it is used

    chosen = _examples(labels, dataset, figures.columns(1 + len(baselines) + len(models), dataset.image_shape[0]))
    examples = dataset.read(chosen)["image"].astype(np.float32) / 255
    rows = [(ORIGINALS, examples)]
    rows += [(name, baseline({"image": examples})) for name, baseline in baselines.items()]
    rows += [(name, model.reconstruct(examples)) for name, model in models.items()]
    pictures = {"Reconstructions": figures.image_rows(rows)}
    if labels is not None:
        pictures[f"{SHARPNESS} per class"] = figures.box_plot(variances, labels, SHARPNESS)
    pictures[SHARPNESS] = figures.histograms(variances, subsets, SHARPNESS)
    for a, b in INTERPOLATIONS if labels is not None else ():
        if {a, b} <= set(labels[chosen]):
            ends = [examples[np.flatnonzero(labels[chosen] == c)[0]] for c in (a, b)]
            rows = [(name, interpolate(model, *ends)) for name, model in models.items()]
            pictures[f"Interpolation {a}-{b}"] = figures.image_rows(rows)
    rows = [
        (name if line == 0 else "", images)
        for name, model in models.items()
        if model.has_prior
        for line, images in enumerate(np.split(np.asarray(model.sample(key, 2 * SAMPLES)), 2))
    ]
    return pictures | ({"Prior samples": figures.image_rows(rows)} if rows else {})


def _baselines(runs: Sequence[Run]) -> dict[str, Callable]:
    """What any of the runs is judged beside, by name."""
    return {name: call for run in runs for name, call in run.experiment.system.baselines.items()}


def _balances(entries: Sequence[Entry]) -> dict[str, bytes]:
    """What the players of a run with more than one paid while it was trained, by title, as PNG."""
    from vae_jax import figures  # matplotlib: only where it is used

    pictures = {}
    for entry in entries:
        players = entry.runs[0].experiment.system.rules
        records = read_lines(Path(entry.workdirs[0]) / "scalars.jsonl")
        if len(players) > 1:
            told = dict.fromkeys(name for record in records for name in record)
            terms = [name for name in told if "/" not in name and name not in ("step", "images_per_second")]
            names = [*terms, *(f"updated/{player}" for player in players)]
            names = [name for name in names if not always(records, name)]
            pictures[f"Training of {entry.name}"] = figures.curves(records, names)
    return pictures


def _check_same_data(workdirs: Sequence[str], runs: Sequence[Run]) -> None:
    keys = ("data.name", "data.eval", "data.grey", "data.crop", "image_size")
    check_alike(workdirs, [run.config for run in runs], keys, "cannot be compared")
    larger = [(workdir, run.config) for workdir, run in zip(workdirs, runs, strict=True) if "factor" in run.config]
    if larger:
        check_alike(*zip(*larger, strict=True), ("factor", "sigma"), "cannot be compared")


def _add(entries: list[Entry], workdir: str, run: Run, per_image: PerImage) -> None:
    """Puts a run with those that differ from it in nothing but the seed, else into an entry of its own."""
    for entry in entries:
        first = entry.runs[0]
        same = all(line.startswith("  seed:") for line in differences(first.config, run.config))
        as_long = (first.config.steps, int(first.state.step)) == (run.config.steps, int(run.state.step))
        if same and as_long and all(other.config.seed != run.config.seed for other in entry.runs):
            entry.runs.append(run)
            entry.workdirs.append(workdir)
            entry.per_image.append(per_image)
            return
    taken = {ORIGINALS, *(entry.name for entry in entries)}
    entries.append(Entry(row_name(run.config, workdir, taken), [run], [workdir], [per_image]))


def _subsets(labels: np.ndarray | None, size: int) -> dict[str, np.ndarray]:
    """The images that are looked at apart, as masks [N]."""
    if labels is None or ODD_CLASS not in labels or len(np.unique(labels)) < 2:
        return {"all": np.ones(size, bool)}
    return {f"class != {ODD_CLASS}": labels != ODD_CLASS, f"class == {ODD_CLASS}": labels == ODD_CLASS}


def _examples(labels: np.ndarray | None, dataset: Dataset, count: int) -> np.ndarray:
    """The article's ten digits where these are MNIST's test images, else `example_indices`."""
    if labels is not None and dataset.size == 10_000 and np.array_equal(labels[ARTICLE_DIGITS], np.arange(10)):
        return ARTICLE_DIGITS
    return example_indices(labels, dataset.size, count)


def _numbers(entries: Sequence[Entry], subsets: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Per row: means over the images, then mean and standard deviation over the runs."""
    first = entries[0].per_image[0]
    target = first["target_laplacian_variance"]
    judged = [name for name in COLUMNS if all(name in p for entry in entries for p in entry.per_image)]

    def values_of(judgements: Sequence[PerImage]) -> dict[str, list[float]]:
        values = {n: [float(p[n].mean(dtype=np.float64)) for p in judgements] for n in judged if n in judgements[0]}
        sharpness = [p["laplacian_variance"].mean(dtype=np.float64) for p in judgements]
        values[RATIO] = [float(value / target.mean(dtype=np.float64)) for value in sharpness]
        for title, mask in subsets.items():
            values[f"{SHARPNESS}, {title}"] = [
                float(p["laplacian_variance"][mask].mean(dtype=np.float64)) for p in judgements
            ]
        return values

    rows = []
    for entry in entries:
        values = values_of(entry.per_image)
        rows.append({
            "name": entry.name,
            "workdirs": entry.workdirs,
            "seeds": [run.config.seed for run in entry.runs],
            "step": int(entry.runs[0].state.step),
            "mean": {name: float(np.mean(v)) for name, v in values.items()},
            "std": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
            "runs": values,
        })  # fmt: skip
    originals = {
        name: float(first[f"target_{name}"].mean(dtype=np.float64)) for name in judged if f"target_{name}" in first
    }
    originals |= {RATIO: 1.0} | {
        f"{SHARPNESS}, {title}": float(target[m].mean(dtype=np.float64)) for title, m in subsets.items()
    }
    numbers = {ORIGINALS: originals, "rows": rows}
    baselines = {name: p for entry in entries for name, p in baseline_metrics(entry.per_image[0]).items()}
    if baselines:
        numbers["baselines"] = [
            {"name": name, "seeds": [], "mean": {metric: value for metric, (value,) in values_of([p]).items()},
             "std": dict.fromkeys(values_of([p]))}
            for name, p in baselines.items()
        ]  # fmt: skip
    return numbers


def train_all(configs: Sequence[ConfigDict], output: str | Path) -> list[str]:
    """Trains each config into output/NAME, or goes on there; returns these workdirs."""
    names = [config.name for config in configs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"Two of the configs are called {repeated[0]!r}; their workdirs would be the same.")
    for config in configs:
        check_config(config)
        check_weights(config)
    for number, config in enumerate(configs, 1):
        print(f"training {config.name} ({number} of {len(configs)})", flush=True)
        if train(config, str(Path(output) / config.name)) is None:
            raise UserError("Stopped before the comparison. The same command goes on from there.")
    return [str(Path(output) / name) for name in names]


def main() -> None:
    """The command line."""
    if bool(CONFIGS.value) == bool(WORKDIRS.value):
        raise UserError("Say what to compare with either --workdirs=DIR,DIR or --configs=FILE.py,FILE.py.")
    workdirs = WORKDIRS.value or train_all(cli.load_configs(CONFIGS.value), WORKDIR.value)
    if len(workdirs) < 2:
        raise UserError("A comparison takes two or more runs, separated by commas.")
    compare(workdirs, WORKDIR.value, DATA_DIR.value)
    print((Path(WORKDIR.value) / "compare.md").read_text())
    print(f"page: {Path(WORKDIR.value) / 'compare.html'}")


if __name__ == "__main__":
    WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of trained runs, separated by commas.")
    CONFIGS = flags.DEFINE_list("configs", None, "Configs to train and compare, FILE.py[:variant], by commas.")
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write the comparison to.", required=True)
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are now, if not where the runs found them.")
    cli.run(main)
