"""How far runs drift apart that differ in one key, such as dtype, beside runs that differ in their seed.

    python -m vae_jax.compare.terms --workdirs=runs/plain,runs/bfloat16,runs/seed1 [--steps=100]

Runs of the same config name are compared with the first of that name, by the terms and losses that their trainings
logged up to --steps, at the steps that all of them logged. Printed is a Markdown table: for each term its mean in the
first run, and for each other run the root mean square of the difference over that of the first run.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from vae_jax import cli
from vae_jax.config import flat
from vae_jax.errors import UserError
from vae_jax.reports.page import markdown_table
from vae_jax.runs.workdir import read_config, read_lines

NO_TERM = re.compile(
    r"step|images_per_second|finite|skipped|statistics_norm|(gradient_norm|update_norm|updated)/.*|.*_weight"
)


class Logged(NamedTuple):
    """What a run was told, by dotted keys, and what it logged: {step: {name: value}}."""

    told: Mapping[str, Any]
    lines: Mapping[int, Mapping[str, float]]


def main() -> None:
    """The command line."""
    runs = [_read(workdir, STEPS.value) for workdir in WORKDIRS.value]
    print(markdown_table(*table(runs)), end="")


def table(runs: Sequence[Logged]) -> tuple[list[str], list[list[str]]]:
    """Header, and a row for each term of each name. UserError if a name has one run only, or no step in common."""
    groups: dict[str, list[Logged]] = {}
    for run in runs:
        groups.setdefault(run.told["name"], []).append(run)
    columns = list(dict.fromkeys(_difference(first, run) for first, *others in groups.values() for run in others))
    rows = []
    for name, (first, *others) in groups.items():
        differences = [_difference(first, run) for run in others]
        if not others or len(set(differences)) < len(others):
            raise UserError(
                f"Expected two or more runs of {name}, each of which differs from the first in its own way."
            )
        steps = set(first.lines).intersection(*(run.lines for run in others))
        if not steps:
            raise UserError(f"The runs of {name} have logged no step in common: train them with the same log_every.")
        values = _values(first, steps)
        distances = {
            what: _distances(values, _values(run, steps)) for what, run in zip(differences, others, strict=True)
        }
        for term in values:
            found = [distances[column].get(term) if column in distances else None for column in columns]
            rows.append(
                [name, term, f"{values[term].mean():.4g}", *("" if one is None else f"{one:.1e}" for one in found)]
            )
    return ["config", "term", "mean of the first run", *columns], rows


def _distances(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, float]:
    """{term: root mean square of the difference, relative to that of `a`}."""
    return {
        term: float(np.sqrt(np.square(b[term] - a[term]).mean() / max(np.square(a[term]).mean(), 1e-30)))
        for term in a.keys() & b.keys()
    }


def _values(run: Logged, steps: Collection[int]) -> dict[str, np.ndarray]:
    """{term: its values [steps]}, in the order in which they were logged."""
    lines = [line for step, line in run.lines.items() if step in steps]
    names = [name for name in lines[0] if all(name in line for line in lines)]
    return {name: np.array([line[name] for line in lines], np.float64) for name in names}


def _difference(first: Logged, run: Logged) -> str:
    """What a run was told that the first was not, such as dtype=bfloat16."""
    keys = sorted(key for key in {*run.told, *first.told} if run.told.get(key) != first.told.get(key))
    return ", ".join(f"{key}={run.told.get(key)}" for key in keys) or "the same again"


def _read(workdir: str, last: int) -> Logged:
    config = read_config(workdir)
    told = {key: value for key, value in flat(config.to_dict()).items() if key != "data.dir"}
    lines = {
        line["step"]: {name: value for name, value in line.items() if not NO_TERM.fullmatch(name)}
        for line in read_lines(Path(workdir) / "scalars.jsonl")
        if "images_per_second" in line and line["step"] <= last
    }
    if not lines:
        raise UserError(f"{workdir} has logged no step up to {last:,}.")
    return Logged(told, lines)


if __name__ == "__main__":
    WORKDIRS = cli.paths_flag("workdirs", "Workdirs of runs, separated by commas.", required=True)
    STEPS = flags.DEFINE_integer("steps", 10**9, "The last step to compare.", lower_bound=1)
    cli.run(main)
