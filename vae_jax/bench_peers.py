"""This training beside the same one in another framework: the ratio of their images per second, pair by pair.

    python -m vae_jax.bench --config=configs/NAME.py --peer=torch|keras [--rounds=3] [--peer_python=PATH]

runs ours (`--part=step`) and every layout of the peer's (tests/peers) one after the other, each in a process of its
own, as many times as there are rounds. A ratio above 1 is in our favour; of two layouts the faster one of a round
counts. The peers' networks have fixed sizes, which are those of the configs in `TRAININGS`; the batch size is free.

    python -m vae_jax.bench --table=FILE,FILE

makes a table of the lines that were printed so into these files.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.errors import UserError

ROOT = Path(__file__).parent.parent
PEERS = {"torch": ("contiguous", "channels_last"), "keras": ("",)}  # the layouts of each framework
TRAININGS = {  # by the name that a config gives itself: the peer's --system, the height and width of its images
    "dfc_mnist": ("dfc_mnist", 28),
    "dfc_celeba_123": ("dfc_celeba", 64),
    "vaegan_celeba": ("vae_gan", 64),
}
OURS = ("peer", "rounds", "peer_python", "part", "data")  # flags that our own measurement does not pass on


def against_peer(config: ConfigDict, peer: str, python: str, rounds: int, calls: int) -> dict[str, Any]:
    """The record of a comparison: `compare`'s ratios, the images per second of every run, and what ran."""
    system = peer_system(config)
    ours = [sys.executable, "-m", "vae_jax.bench", *without_flags(sys.argv[1:], OURS), "--part=step"]
    options = [f"--system={system}", f"--batch_size={config.batch_size}", f"--calls={calls}"]
    theirs = {
        layout: [python, "-m", f"tests.peers.{peer}_peer", *options, *([f"--layout={layout}"] if layout else [])]
        for layout in PEERS[peer]
    }
    hint = (
        f"Install what it needs:\n  {python} -m pip install -r tests/peers/requirements.txt\n"
        "or name the Python that has it: --peer_python=PATH."
    )
    records = []
    for i in range(rounds):  # the peer first: what it lacks is told at once
        record = {layout or peer: run(command, f"The {peer} peer", hint, ROOT) for layout, command in theirs.items()}
        record["ours"] = run(ours, "vae_jax.bench")
        records.append(record)
        rates = "  ".join(f"{name} {measured['images_per_second']:.4g}" for name, measured in record.items())
        print(f"round {i + 1} of {rounds}, images/s: {rates}", file=sys.stderr, flush=True)
    their, *_, our = records[0].values()
    rates = {name: [record[name]["images_per_second"] for record in records] for name in records[0]}
    return {
        "config": config.name, "system": config.system, "peer": peer, "peer_version": their["version"],
        "batch_size": config.batch_size, "calls": calls, "rounds": rounds, "images_per_second": rates,
        **compare(rates["ours"], {name: rate for name, rate in rates.items() if name != "ours"}),
        **{key: our[key] for key in ("steps_per_call", "device", "devices", "versions", "commit")},
    }  # fmt: skip


def compare(ours: Sequence[float], theirs: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Ratios ours / theirs of images per second [rounds], for every layout and against the faster layout of a round."""
    by_layout = {layout: [a / b for a, b in zip(ours, rates, strict=True)] for layout, rates in theirs.items()}
    ratios = [min(pair) for pair in zip(*by_layout.values(), strict=True)]
    return {
        "ratios_by_layout": by_layout,
        "ratios": ratios,
        "ratio_median": statistics.median(ratios),
        "ratio_minimum": min(ratios),
        "ratio_maximum": max(ratios),
    }


def read_records(names: Sequence[str]) -> list[dict[str, Any]]:
    """The records in these files; UserError where one holds none."""
    records = []
    for name in names:
        try:
            record = json.loads(Path(name).read_text())
            problem = "" if "ratio_median" in record else "it is no comparison"
        except (OSError, ValueError, TypeError) as error:
            problem = str(error)
        if problem:
            raise UserError(f"--table cannot read {name}: {problem}. Expected the line that --peer prints.")
        records.append(record)
    return records


def table(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of comparisons: medians of the rounds, with the smallest and the largest in brackets."""
    header = ["training", "batch", "steps per call", "peer", "Python, jax", "ours / peer", "rounds"]
    rows = [
        [
            record["config"],
            str(record["batch_size"]),
            str(record["steps_per_call"]),
            f"{record['peer']} {record['peer_version'].partition('+')[0]}",
            f"{record['versions']['python']}, {record['versions']['jax']}",
            f"{record['ratio_median']:.2f} ({record['ratio_minimum']:.2f} - {record['ratio_maximum']:.2f})",
            str(record["rounds"]),
        ]
        for record in records
    ]
    return header, rows


def peer_system(config: ConfigDict) -> str:
    """What the peers call the training of a config; UserError where they have none."""
    system, size = TRAININGS.get(config.name, ("", 0))
    if config.image_size != size:
        known = ", ".join(f"{name} ({side}x{side})" for name, (_, side) in TRAININGS.items())
        raise UserError(
            f"{config.name} at {config.image_size}x{config.image_size} has no counterpart in other frameworks. "
            f"These have: {known}."
        )
    return system


def without_flags(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """The command line without these flags, written as --name=value or --name value."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        name, equals, _ = argument.lstrip("-").partition("=")
        if not (argument.startswith("-") and name in names):
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept


def run(command: Sequence[str], what: str, hint: str = "", folder: Path | None = None) -> dict[str, Any]:
    """The record that a command prints as its last line; UserError where it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if result.returncode == 0:
            return json.loads(result.stdout.splitlines()[-1])
        problem = result.stderr.strip().splitlines()[-1:]
    except OSError as error:
        problem = [str(error)]
    except (ValueError, IndexError):
        problem = ["it printed no record"]
    raise UserError("\n".join([f"{what} failed: {shlex.join(command)}", *problem, *filter(None, [hint])]))
