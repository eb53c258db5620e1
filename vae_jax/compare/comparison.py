"""The comparison of trained runs: train the missing ones, evaluate all on the same images, write the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.compare.costs import COSTS, check_costs, cost_of
from vae_jax.compare.discriminators import discriminators_in, discriminators_table
from vae_jax.compare.distances import make_distances
from vae_jax.compare.held import held_in, held_table
from vae_jax.compare.numbers import Judged, are_digits, numbers_of, rows_of, subsets_of, tests_of, training_speed
from vae_jax.compare.same_data import check_same_images, other_training_data
from vae_jax.compare.tables import DISCRIMINATORS, HELD, SPEED, TESTS, html, markdown, results, t_tests
from vae_jax.config import check_config, check_same_data, check_weights, read_config
from vae_jax.data.crops import with_crop
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, has_own_data, judged_by, load_eval_dataset
from vae_jax.inference import Model, load_workdir
from vae_jax.metrics.frechet import Features
from vae_jax.reports.study import write_study
from vae_jax.runtime.devices import initialise, use_cores
from vae_jax.runtime.rngs import root_key
from vae_jax.strict_json import finite
from vae_jax.train import train


def compare(
    workdirs: Sequence[str],
    output: str | Path,
    data_dir: str | None = None,
    metrics: Sequence[str] = (),
    features: Features | None = None,
    costs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Evaluates all workdirs on the same images and writes the comparison into `output`; returns compare.json.

    `metrics` are computed in addition to those of each run. `features` are those of the Fréchet distances; None means
    AlexNet's, and no distances if these cannot be computed. `costs` are benchmarks, as `read_costs` reads them.
    """
    from vae_jax.compare.pictures import pictures_of  # matplotlib: only where it is used
    from vae_jax.reports.figures import sheet

    # ---- evaluate ------------------------------------------------------------------------------------------------
    for workdir in workdirs:
        check_weights(read_config(workdir))
    runs = [load_workdir(workdir) for workdir in workdirs]
    check_same_data(workdirs, [run.config for run in runs])
    check_costs([run.config for run in runs], costs)
    if data_dir is None:
        check_same_images(workdirs, runs)
    dataset, config = load_eval_dataset(runs[0], data_dir), runs[0].config
    distances, notes = make_distances(features, dataset)
    notes = [*notes, *other_training_data(workdirs, runs)]
    judged: list[Judged] = []
    for number, (workdir, run) in enumerate(zip(workdirs, runs, strict=True), 1):
        print(f"evaluating {workdir} ({number} of {len(runs)}) on {dataset.size:,} images", flush=True)
        model, names = Model(run), dict.fromkeys((*judged_by(run.config), *metrics))
        per_image = evaluate_run(run, dataset, tuple(names))
        measured = distances(run, model), cost_of(run.config, costs), training_speed(workdir)
        judged.append(Judged(workdir, run, model, per_image, *measured))

    # ---- numbers and pictures ------------------------------------------------------------------------------------
    entries, digits = rows_of(judged), are_digits(config.data.name, dataset.classes)
    subsets = subsets_of(judged[0].per_image.get("label"), dataset.size, digits)
    tests = tests_of(entries, subsets)
    record = numbers_of(entries, subsets, metrics)
    record["t_tests"] = {title: [test._asdict() for test in subset] for title, subset in tests.items()}
    if held := held_in(judged):
        record["held"] = [term._asdict() for term in held]
    if discriminators := discriminators_in(entries):
        record["discriminators"] = discriminators
    pictures = pictures_of(entries, dataset, subsets, root_key(config.seed, "sample"))

    # ---- write ---------------------------------------------------------------------------------------------------
    table = results(finite(record))
    if SPEED in table[0]:
        notes = [*notes, f"{SPEED}: the median of the logged training speed, on the machine that trained the run."]
    if devices := sorted({row["cost"]["device"] for row in record["rows"] if "cost" in row}):
        notes = [*notes, f"{', '.join(title for title, *_ in COSTS.values())}: of training, by vae_jax.bench on "
                 f"{', '.join(devices)}."]  # fmt: skip
    if any("elbo" in row["mean"] for row in record["rows"]):
        counts = sorted({run.config.elbo_samples for run in runs if run.experiment.system.has_elbo})
        notes = [*notes, f"ELBO and bits/dim: z drawn from q(z | x), samples per image: {', '.join(map(str, counts))}."]
    folder = "" if has_own_data(runs[0], dataset, data_dir) else f" in {data_dir or config.data.dir}"
    lead = f"Evaluated on {dataset.size:,} images of {config.data.name}{folder}, split {config.data.eval}."
    others = {HELD: held_table(held)} if held else {}
    others |= {DISCRIMINATORS: discriminators_table(discriminators)} if discriminators else {}
    others |= {f"{TESTS} {title}": t_tests(subset) for title, subset in tests.items()}
    if tests:
        notes = [*notes, "Paired t-tests compare the same images, each with its mean over the seeds of a row; p, Holm: "
                 "corrected for the number of pairs in the table."]  # fmt: skip
    text = lead, table, notes, others
    write_study(
        output, "compare", record, markdown(*text), pictures | {"compare": sheet(pictures)}, html(*text, pictures)
    )
    return record


def with_seeds(configs: Sequence[ConfigDict], seeds: int) -> dict[str, ConfigDict]:
    """Each config with `seeds` consecutive seeds, the first its own, by the name of its workdir: NAME, then NAME_seedN.

    All configs come with their first seed, then all with the second, so that a stop leaves whole seeds.
    """
    runs: list[tuple[str, ConfigDict]] = []
    for number in range(seeds):
        for config in configs:
            one = config.copy_and_resolve_references()
            one.seed += number
            runs.append((f"{one.name}_seed{one.seed}" if number and one.name else one.name, one.lock()))
    names = [name for name, _ in runs]
    if "" in names:
        raise UserError(
            f"Config {names.index('') + 1} of --configs has no name, which that of its workdir is. Set its config.name."
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"Two configs are named {repeated[0]!r}, so their workdirs would be the same.")
    return dict(runs)


def train_all(configs: Mapping[str, ConfigDict], output: str | Path) -> list[str]:
    """Trains each config in output/NAME, resuming earlier runs; returns the workdirs."""
    for config in configs.values():
        check_config(config)
        check_weights(config)
    check_same_data(list(configs), [with_crop(config) for config in configs.values()])
    initialise(list(configs.values()))
    use_cores([config.batch_size for config in configs.values()])
    for number, (name, config) in enumerate(configs.items(), 1):
        print(f"training {name} ({number} of {len(configs)})", flush=True)
        if train(config, str(Path(output) / name)) is None:
            raise UserError("Stopped before the comparison; progress saved. Run the same command to resume.")
    return [str(Path(output) / name) for name in configs]
