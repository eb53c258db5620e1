"""What discriminators still cost at the end of their trainings, by what these logged: next to nothing if they won."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_jax.compare.numbers import Entry
from vae_jax.runs.workdir import read_lines

PLAYER = "discriminator"
LAST = 0.1  # of the steps, over which a cost is averaged


def discriminators_in(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """For each row with a discriminator that was logged: its own term, and the mean of it over the last tenth of the
    steps, in each run of the row."""
    found = []
    for entry in entries:
        rules = entry.judged[0].run.experiment.system.rules
        term = next(iter(rules.get(PLAYER, ())), "")
        costs = [_last(read_lines(Path(one.workdir) / "scalars.jsonl"), term) for one in entry.judged]
        if term and None not in costs:
            found.append({"name": entry.name, "term": term, "costs": costs})
    return found


def discriminators_table(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the mean over the runs of a row, ± their standard deviation."""
    rows = []
    for one in found:
        costs, spread = one["costs"], ""
        if len(costs) > 1:
            spread = f" ± {statistics.stdev(costs):.3f}"
        rows.append([one["name"], str(len(costs)), one["term"], f"{statistics.mean(costs):.3f}{spread}"])
    return ["", "seeds", "term", f"mean of the last {LAST:.0%} of the steps"], rows


def _last(lines: Sequence[Mapping[str, Any]], term: str) -> float | None:
    logged = [(line["step"], line[term]) for line in lines if term in line]
    values = [value for step, value in logged if step > (1 - LAST) * logged[-1][0]]
    return statistics.mean(values) if values else None
