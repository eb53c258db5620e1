"""The comparison of trained runs: train the missing ones, evaluate all on the same images, write the results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.compare.distances import make_distances
from vae_jax.compare.numbers import Judged, numbers_of, rows_of, sharpness_of, subsets_of, training_speed
from vae_jax.compare.tables import SPEED, html, markdown, results, t_tests
from vae_jax.config import check_config, check_same_data, check_weights, read_config
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, judged_by, load_eval_dataset
from vae_jax.inference import Model, load_workdir
from vae_jax.metrics.frechet import Features
from vae_jax.metrics.statistics import paired_t_tests
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
    """Evaluates all workdirs on the same images and writes the comparison into `output`; returns compare.json.

    `metrics` are computed in addition to those of each run. `features` are those of the Fréchet distances; None means
    AlexNet's, and no distances if these cannot be computed.
    """
    from vae_jax.compare.pictures import pictures_of  # matplotlib: only where it is used
    from vae_jax.reports.figures import sheet

    # ---- evaluate ------------------------------------------------------------------------------------------------
    for workdir in workdirs:
        check_weights(read_config(workdir))
    runs = [load_workdir(workdir) for workdir in workdirs]
    check_same_data(workdirs, [run.config for run in runs])
    dataset, config = load_eval_dataset(runs[0], data_dir), runs[0].config
    distances, notes = make_distances(features, dataset)
    judged: list[Judged] = []
    for number, (workdir, run) in enumerate(zip(workdirs, runs, strict=True), 1):
        print(f"evaluating {workdir} ({number} of {len(runs)}) on {dataset.size:,} images", flush=True)
        model, names = Model(run), dict.fromkeys((*judged_by(run.config), *metrics))
        per_image = evaluate_run(run, dataset, tuple(names))
        judged.append(Judged(workdir, run, model, per_image, distances(run, model), training_speed(workdir)))

    # ---- numbers and pictures ------------------------------------------------------------------------------------
    entries, subsets = rows_of(judged), subsets_of(judged[0].per_image.get("label"), dataset.size)
    variances = sharpness_of(entries)
    tests = {title: paired_t_tests({n: v[mask] for n, v in variances.items()}) for title, mask in subsets.items()}
    record = numbers_of(entries, subsets, metrics)
    record["t_tests"] = {title: [test._asdict() for test in subset] for title, subset in tests.items()}
    pictures = pictures_of(entries, dataset, subsets, root_key(config.seed, "sample"))

    # ---- write ---------------------------------------------------------------------------------------------------
    table = results(record)
    if SPEED in table[0]:
        notes = [*notes, f"{SPEED}: the median of the logged training speed, on the machine that trained the run."]
    lead = f"Evaluated on {dataset.size:,} images of {config.data.name}, split {config.data.eval}."
    text = lead, table, notes, {title: t_tests(subset) for title, subset in tests.items()}
    write_study(
        output, "compare", record, markdown(*text), pictures | {"compare": sheet(pictures)}, html(*text, pictures)
    )
    return record


def train_all(configs: Sequence[ConfigDict], output: str | Path) -> list[str]:
    """Trains each config in output/NAME, resuming earlier runs; returns the workdirs."""
    names = [config.name for config in configs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"Two configs are named {repeated[0]!r}, so their workdirs would be the same.")
    for config in configs:
        check_config(config)
        check_weights(config)
    check_same_data(names, configs)
    for number, config in enumerate(configs, 1):
        print(f"training {config.name} ({number} of {len(configs)})", flush=True)
        if train(config, str(Path(output) / config.name)) is None:
            raise UserError("Stopped before the comparison; progress saved. Run the same command to resume.")
    return [str(Path(output) / name) for name in names]
