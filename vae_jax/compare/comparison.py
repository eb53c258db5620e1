"""Trained workdirs side by side: train what is missing, judge all on the same images, write one comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.compare.distances import make_distances
from vae_jax.compare.numbers import Judged, numbers_of, rows_of, sharpness_of, subsets_of, training_speed
from vae_jax.compare.tables import SHARPNESS, SPEED, html, results, t_tests
from vae_jax.config import check_config, check_same_data, check_weights, read_config
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, judged_by, load_eval_dataset
from vae_jax.inference import Model, load_workdir
from vae_jax.metrics.frechet import Features
from vae_jax.metrics.statistics import PairedTest, paired_t_tests
from vae_jax.reports import page
from vae_jax.reports.study import write_study
from vae_jax.runtime.rngs import root_key
from vae_jax.train import train


def compare(
    workdirs: Sequence[str],
    output: str | Path,
    data_dir: str | None = None,
    metrics: Sequence[str] = (),
    features: Features | None = None,
) -> dict[str, Any]:
    """Judges all workdirs on the same images and writes the comparison into `output`; returns compare.json.

    `metrics` are judged beside those of each run. `features` are what the Fréchet distances look at: where they are
    None, AlexNet's, or no distance is taken if that cannot be.
    """
    from vae_jax.compare import pictures as compare_pictures  # matplotlib: only where it is used

    for workdir in workdirs:
        check_weights(read_config(workdir))
    runs = [load_workdir(workdir) for workdir in workdirs]
    check_same_data(workdirs, [run.config for run in runs])
    dataset, config = load_eval_dataset(runs[0], data_dir), runs[0].config
    distances, notes = make_distances(features, dataset)
    judged: list[Judged] = []
    for number, (workdir, run) in enumerate(zip(workdirs, runs, strict=True), 1):
        print(f"judging {workdir} ({number} of {len(runs)}) on {dataset.size:,} images", flush=True)
        model, names = Model(run), dict.fromkeys((*judged_by(run.config), *metrics))
        per_image = evaluate_run(run, dataset, tuple(names))
        judged.append(Judged(workdir, run, model, per_image, distances(run, model), training_speed(workdir)))

    entries, subsets = rows_of(judged), subsets_of(judged[0].per_image.get("label"), dataset.size)
    variances = sharpness_of(entries)
    numbers = numbers_of(entries, subsets, metrics)
    tests = {title: paired_t_tests({n: v[mask] for n, v in variances.items()}) for title, mask in subsets.items()}
    pictures = compare_pictures.pictures_of(entries, dataset, subsets, root_key(config.seed, "sample"))
    on = f"Judged on {dataset.size:,} images of {config.data.name}, split {config.data.eval}."
    return _write(output, on, numbers, notes, tests, pictures)


def _write(
    output: str | Path,
    judged: str,
    numbers: dict[str, Any],
    notes: Sequence[str],
    tests: Mapping[str, Sequence[PairedTest]],
    pictures: Mapping[str, bytes],
) -> dict[str, Any]:
    """Writes the comparison into `output`: `judged` says on what, `notes` go below the table; returns compare.json."""
    from vae_jax.reports import figures  # matplotlib: only where it is used

    record = numbers | {"t_tests": {title: [test._asdict() for test in list_] for title, list_ in tests.items()}}
    table, test_tables = results(numbers), {title: t_tests(list_) for title, list_ in tests.items()}
    if SPEED in table[0]:
        notes = [*notes, f"{SPEED} is the median of what each training logged, on the machine that trained."]
    markdown = [judged, page.markdown_table(*table), *notes]
    for title, test_table in test_tables.items():
        markdown += [f"Paired t-tests of the {SHARPNESS}, {title}:", page.markdown_table(*test_table)]
    pngs = {**pictures, "compare": figures.sheet(pictures)}
    write_study(output, "compare", record, markdown, pngs, html(judged, table, notes, test_tables, pictures))
    return record


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
