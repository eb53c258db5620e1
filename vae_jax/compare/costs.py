"""What the training of each row costs, by lines that `python -m vae_jax.bench` printed in one sitting."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import image_shape
from vae_jax.errors import UserError

COSTS = {  # key of a benchmark -> title, unit, number format
    "images_per_second": ("train images/s", 1.0, ",.0f"),
    "gflop_per_image": ("GFLOP/image", 1.0, ".3g"),
    "peak_memory_bytes": ("peak memory MB", 1e6, ",.0f"),
}


def read_costs(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file as records. UserError for a line that is no benchmark of a train step."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"--costs cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None
    records = []
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            whole = json.loads(line)
            record = {key: whole[key] for key in ("config", "batch_size", "image_shape", "device", *COSTS)}
        except (ValueError, TypeError, KeyError):
            record = {}
        if not record.get("images_per_second"):
            raise UserError(
                f"--costs: line {number} of {path} is no benchmark of a train step. Expected lines that "
                "`python -m vae_jax.bench --config=NAME --part=step` printed."
            )
        records.append(record)
    return records


def check_costs(configs: Sequence[ConfigDict], records: Sequence[Mapping[str, Any]]) -> None:
    """UserError if there are benchmarks, but not of every config."""
    missing = dict.fromkeys(config.name for config in configs if cost_of(config, records) is None)
    if records and missing:
        known = ", ".join(f"{one['config']} ({one['batch_size']} x {one['image_shape']})" for one in records)
        raise UserError(
            f"--costs has no benchmark of {', '.join(missing)}, with its batch size and image shape. It has {known}."
        )


def cost_of(config: ConfigDict, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The last benchmark of a config, by its name, batch size and image shape."""
    own = (config.name, config.batch_size, list(image_shape(config)))
    same = [one for one in records if (one["config"], one["batch_size"], one["image_shape"]) == own]
    return {key: same[-1][key] for key in ("device", *COSTS)} if same else None


def cost_cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of COSTS for a row of compare.json."""
    cost = row.get("cost") or {}
    return [f"{cost[key] / unit:{spec}}" if cost.get(key) else "" for key, (_, unit, spec) in COSTS.items()]
