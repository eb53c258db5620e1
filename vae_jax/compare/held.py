"""Whether the runs of a comparison held their terms at their targets, by what their trainings logged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.compare.numbers import Judged
from vae_jax.multipliers import held_terms
from vae_jax.runs.workdir import read_lines

LAST = 1_000  # steps at the end of a training, over which a term is judged
NEAR = 0.05  # relative distance within which a term counts as held


class HeldTerm(NamedTuple):
    """A term that a run was told to hold, in the means that its training logged.

    mean, furthest: over the last `LAST` steps, the mean of the term and its largest distance from the target, relative.
    since: the step from which on the term stayed within `NEAR` of its target; None if it did not to the end.
    weight: the term's weight at the end.
    """

    workdir: str
    term: str
    target: float
    mean: float
    furthest: float
    since: int | None
    weight: float


def held_in(judged: Sequence[Judged]) -> list[HeldTerm]:
    """The terms that are held in each run, as far as its training logged them."""
    return [
        _held_term(one.workdir, term, held.target, lines)
        for one in judged
        for term, held in held_terms(one.run.experiment.system.rules).items()
        if (lines := [line for line in read_lines(Path(one.workdir) / "scalars.jsonl") if f"{term}_weight" in line])
    ]


def held_table(terms: Sequence[HeldTerm]) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    header = ["run", "term", "target", f"mean of the last {LAST:,} steps", "furthest from the target",
              f"within {NEAR:.0%} since step", "weight at the end"]  # fmt: skip
    rows = [
        [held.workdir, held.term, f"{held.target:g}", f"{held.mean:.5g} ({held.mean / held.target - 1:+.1%})",
         f"{held.furthest:.1%}", "not held" if held.since is None else f"{held.since:,}", f"{held.weight:.3g}"]
        for held in terms
    ]  # fmt: skip
    return header, rows


def _held_term(workdir: str, term: str, target: float, lines: Sequence[dict[str, Any]]) -> HeldTerm:
    steps = np.array([line["step"] for line in lines])
    values, end = np.array([line[term] for line in lines], np.float64), lines[-1]
    last, distances = steps > end["step"] - LAST, np.abs(values / target - 1)
    away = np.flatnonzero(~(distances < NEAR))
    first = away[-1] + 1 if away.size else 0
    since = int(steps[first]) if first < len(steps) else None
    mean, furthest = float(values[last].mean()), float(distances[last].max())
    return HeldTerm(workdir, term, target, mean, furthest, since, end[f"{term}_weight"])
