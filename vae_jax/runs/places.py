"""Where a judgement is written: a run's own, and one of other data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.runs.workdir import digest_of


class Place(NamedTuple):
    """numbers: the folder of metrics.json and per_image.npz. pictures: that of the grids. report: the page."""

    numbers: Path
    pictures: Path
    report: Path


def own_place(workdir: Path) -> Place:
    """Of the data that the run was trained for."""
    return Place(workdir / "eval", workdir / "pictures", workdir / "report.html")


def other_place(workdir: Path, folder: str | Path, sums: Mapping[str, Any]) -> Place:
    """Of other data, in one folder below WORKDIR/eval: it has the name of theirs and a digest of their sums."""
    here = workdir / "eval" / f"{Path(folder).resolve().name or 'data'}-{digest_of(sums)[:8]}"
    return Place(here, here / "pictures", here / "report.html")


def agree(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether two fingerprints of data are of the same: what both know is equal. Streamed data know less."""
    return all(found[key] == value for key, value in recorded.items() if key in found)
