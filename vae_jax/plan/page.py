"""Plans as text: a page for each, and one table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_jax.errors import UserError

Record = Mapping[str, Any]
OPTIONS = {"remat": False, "accumulate": 1, "shard_state": False}  # said where they differ from these
PARTS = {
    "state": "state", "frozen": "frozen weights", "batch": "batch", "held": "training images",
    "temporaries": "temporaries", "program": "program",
}  # fmt: skip
HEADER = (
    "config", "topology", "batch", "options", "memory of a device", "of it temporaries", "GFLOP / image",
    "memory traffic / image", "of it padding", "collectives", "estimated images/s", "bound by",
)  # fmt: skip


def page(record: Record) -> str:
    """What a terminal shows of a plan."""
    most, batch, devices = record["memory"]["limit"], record["batch_size"], record["devices"]
    title = f"{record['config']} on {record['topology']} ({devices} x {record['device']})"
    lines = [
        f"{title}: {batch:,} images a step, {batch // devices:,} on each device; {options(record)}",
        _line("memory of a device", _memory(record["memory"], most)),
    ]
    if "evaluation" in record:
        lines.append(_line("in an evaluation", _memory(record["evaluation"], most)))
    if record["streamed"]:
        lines.append(_line("training images", "streamed: more than data.memory_limit for each device of a host"))
    if guess := record.get("estimate"):
        times = ", ".join(f"{ms:.3g} ms by {name}" for name, ms in guess["ms"].items())
        products, bandwidth, links = guess["peaks"].values()
        peaks = f"{products / 1e12:,.0f} TFLOP/s, {bandwidth / 1e9:,.0f} GB/s and {links / 1e9:,.0f} GB/s to others"
        lines += [
            _line("cost of an image", f"{record['gflop_per_image']:.3g} GFLOP, {_traffic(record)}"),
            _line("devices exchange", exchanged(record)),
            _line(
                "estimate", f"{guess['images_per_second']:,.0f} images/s, bound by {guess['bound_by']}: a step takes"
            ),
            _line("", f"{times},"),
            _line("", f"if a device gave its published {peaks}, and nothing else took time"),
        ]
        if count := record.get("kernels"):
            lines.append(_line("", f"such as the launches of {count:,} kernels, some microseconds each"))
    return "\n".join(lines)


def read_records(names: Sequence[str]) -> list[dict]:
    """The plans in files of JSON lines; UserError if a file holds none."""
    records = []
    for name in names:
        try:
            found = [json.loads(line) for line in Path(name).read_text().splitlines() if line.strip()]
            problem = "" if found and all("memory" in record for record in found) else "it holds no plans"
        except (OSError, ValueError, TypeError) as error:
            found, problem = [], str(error)
        if problem:
            raise UserError(f"--table cannot read {name}: {problem}. Expected the lines that --json prints.")
        records += found
    return records


def table(records: Sequence[Record]) -> tuple[Sequence[str], list[list[str]]]:
    """Header and a row for each plan."""
    return HEADER, [_row(record) for record in records]


def _row(record: Record) -> list[str]:
    memory, guess = record["memory"], record.get("estimate")
    total = size(memory["total"]) + ("" if memory["fits"] else f" of {size(memory['limit'])}")
    start = [record["config"], record["topology"], f"{record['batch_size']:,}", options(record), total]
    if guess is None:
        return [*start, *[""] * (len(HEADER) - len(start))]
    return [
        *start,
        size(memory["temporaries"]),
        f"{record['gflop_per_image']:.3g}",
        size(record["traffic_per_image"]),
        _padding(record),
        exchanged(record),
        f"{guess['images_per_second']:,.0f}",
        guess["bound_by"],
    ]


def options(record: Record) -> str:
    """The dtypes, and the options that are not at their defaults."""
    dtypes = [record["dtype"]]
    if record["backbone_dtype"] != record["dtype"] and record["memory"].get("frozen"):
        dtypes.append(f"backbone {record['backbone_dtype']}")
    set_ones = [f"{name}={record[name]}" for name, default in OPTIONS.items() if record[name] != default]
    return ", ".join(dtypes + set_ones)


def exchanged(record: Record) -> str:
    """The collectives of a step."""
    parts = [
        f"{size(one['bytes'])} by {one['count']} {kind}{'s' if one['count'] > 1 else ''}"
        for kind, one in record["collectives"].items()
    ]
    return ", ".join(parts) or "nothing"


def size(count: float) -> str:
    """Bytes, in the unit in which there are fewer than 1024."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:,.4g} GiB"


def _traffic(record: Record) -> str:
    padding = _padding(record)
    return f"{size(record['traffic_per_image'])} to and from memory{f', {padding} of it padding' if padding else ''}"


def _padding(record: Record) -> str:
    share = record["padding_per_image"] / record["traffic_per_image"]
    return f"{share:.0%}" if share else ""


def _memory(memory: Record, most: float) -> str:
    known = sum(memory.get(kind, 0) for kind in ("state", "frozen", "batch"))
    parts = {name: memory.get(kind, 0) for kind, name in PARTS.items()}
    if known:  # of a train step
        parts |= {"padding and results": max(memory.get("arrays", 0) - known, 0)}
    else:
        parts |= {"weights and batch": memory.get("arrays", 0), "what training holds": memory.get("beside", 0)}
    parts = ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)
    verdict = f"{size(memory['total'])} of {size(most)}, " + ("fits" if memory["fits"] else "DOES NOT FIT")
    return f"{verdict}: {parts}" if parts else verdict


def _line(name: str, what: str) -> str:
    return f"  {name:20} {what}"
