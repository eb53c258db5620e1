"""Compares a training with its counterpart in another framework: ratios of images per second, round by round.

    python -m vae_jax.bench --config=NAME --peer=torch|keras [--calls=20] [--peer_python=PATH]

measures our training, on random images, and every layout of the peer's (tests/peers, each in its own process) in turn.
A round takes as many steps of each as our train call has, and every other round is in reverse order, so that changes in
the machine's speed affect all of them alike. A ratio above 1 means that ours is faster; of two layouts the faster one
counts. The peers' networks have the fixed sizes of the configs in `TRAININGS`; the batch size is free.

    python -m vae_jax.bench --table=FILE,FILE

prints a table of the lines that such measurements wrote into these files.
"""

import contextlib
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.bench.machine import machine
from vae_jax.errors import UserError

ROOT = Path(__file__).parents[2]  # the checkout
PEERS = {"torch": ("contiguous", "channels_last"), "keras": ("",)}  # the layouts of each framework
TRAININGS = {  # config.name -> the peer's --system, the height and width of its images
    "dfc_mnist": ("dfc_mnist", 28),
    "dfc_celeba_123": ("dfc_celeba", 64),
    "vaegan_celeba": ("vae_gan", 64),
}
WARM_UP = 3  # rounds


def against_peer(
    config: ConfigDict, peer: str, python: str, calls: int, prepare: Callable[[ConfigDict], Callable[[], float]]
) -> dict[str, Any]:
    """The record of a comparison: the ratios of `compare`, the images per second of every round, and the setup.

    Args:
      prepare: config -> a function that runs one train call and returns its seconds.
    """
    options = [f"--system={peer_system(config)}", f"--batch_size={config.batch_size}"]
    steps = config.steps_per_call
    with contextlib.ExitStack() as running:
        turns, described = {}, {}
        for layout in PEERS[peer]:  # the peer first, to report at once what it lacks
            say(" ".join(filter(None, ["preparing", peer, layout])))
            command = [python, "-m", f"tests.peers.{peer}_peer", *options, *([f"--layout={layout}"] if layout else [])]
            described, turns[layout or peer] = running.enter_context(started(command, peer, steps))
        turns["ours"] = prepare(config)
        rates = {name: [] for name in turns}
        for i in range(WARM_UP + calls):
            for name in turns if i % 2 == 0 else reversed(turns):
                rates[name].append(steps * config.batch_size / turns[name]())
            if i >= WARM_UP:
                *theirs, (_, ours) = measured = [(name, rate[-1]) for name, rate in rates.items()]
                text = "  ".join(f"{name} {rate:.4g}" for name, rate in measured)
                text += "".join(f", {ours / rate:.2f} x {name}" for name, rate in theirs)
                say(f"round {i + 1 - WARM_UP} of {calls}, images/s: {text}")
    rates = {name: rate[WARM_UP:] for name, rate in rates.items()}
    return {
        "config": config.name, "system": config.system, "peer": peer, "peer_version": described["version"],
        "batch_size": config.batch_size, "steps_per_call": steps, "calls": calls, "images_per_second": rates,
        **ratios_of(rates["ours"], {name: rate for name, rate in rates.items() if name != "ours"}), **machine(),
    }  # fmt: skip


def ratios_of(ours: Sequence[float], theirs: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Ratios ours / theirs of images per second [rounds], for the layout with the smaller median ratio."""
    ratios = {layout: [a / b for a, b in zip(ours, rates, strict=True)] for layout, rates in theirs.items()}
    medians = {layout: statistics.median(ratio) for layout, ratio in ratios.items()}
    layout = min(medians, key=lambda name: medians[name])
    lower, _, upper = statistics.quantiles(ratios[layout], n=4, method="inclusive")
    return {
        "ratio_medians": medians, "layout": layout, "ratios": ratios[layout], "ratio_median": medians[layout],
        "ratio_quartiles": [lower, upper],
    }  # fmt: skip


def read_records(names: Sequence[str]) -> list[dict[str, Any]]:
    """The records in these files; UserError if a file holds none."""
    records = []
    for name in names:
        try:
            record = json.loads(Path(name).read_text())
            problem = "" if "ratio_quartiles" in record else "it is not a comparison"
        except (OSError, ValueError, TypeError) as error:
            record, problem = {}, str(error)
        if problem:
            raise UserError(f"--table cannot read {name}: {problem}. Expected the line that --peer prints.")
        records.append(record)
    return records


def comparison_table(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of comparisons: medians of the rounds, with the quartiles in brackets."""
    header = ["training", "batch", "steps per call", "peer", "Python, jax", "ours / peer (quartiles)", "rounds"]
    rows = [
        [
            record["config"],
            str(record["batch_size"]),
            str(record["steps_per_call"]),
            f"{record['peer']} {record['peer_version'].partition('+')[0]}",
            f"{record['versions']['python']}, {record['versions']['jax']}",
            "{:.2f} ({:.2f} - {:.2f})".format(record["ratio_median"], *record["ratio_quartiles"]),
            str(record["calls"]),
        ]
        for record in records
    ]
    return header, rows


def peer_system(config: ConfigDict) -> str:
    """The peers' name for the training of a config; UserError if they do not have it."""
    system, size = TRAININGS.get(config.name, ("", 0))
    if config.image_size != size:
        known = ", ".join(f"{name} ({side}x{side})" for name, (_, side) in TRAININGS.items())
        raise UserError(
            f"{config.name} at {config.image_size}x{config.image_size} has no counterpart in other frameworks. "
            f"Known: {known}."
        )
    return system


@contextlib.contextmanager
def started(command: Sequence[str], peer: str, steps: int) -> Iterator[tuple[dict[str, Any], Callable[[], float]]]:
    """The description that a peer's program prints once it is ready, and a function that times `steps` in seconds."""
    with tempfile.TemporaryFile("w+") as errors:

        def fail(problem: str) -> UserError:
            errors.seek(0)
            reason = errors.read().strip() or problem
            return UserError(
                f"The {peer} peer failed: {shlex.join(command)}\n{reason.splitlines()[-1]}\n"
                "The peers are in tests/peers of a clone of the repository. "
                f"Install its requirements:\n  {command[0]} -m pip install -r tests/peers/requirements.txt\n"
                "or choose a Python that has them: --peer_python=PATH."
            )

        pipe = subprocess.PIPE
        try:
            program = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, cwd=ROOT)
        except OSError as error:
            raise fail(str(error)) from None

        def answer() -> Any:
            assert program.stdout is not None  # a pipe
            line = program.stdout.readline()
            try:
                return json.loads(line)
            except ValueError:
                program.communicate()  # wait for its error message
                raise fail(f"its answer was {line!r}") from None

        def seconds() -> float:
            with contextlib.suppress(BrokenPipeError):  # it has ended and will not answer
                print(steps, file=program.stdin, flush=True)
            return answer()

        with program:
            try:
                yield answer(), seconds
            finally:
                program.kill()


def say(text: str) -> None:
    """Prints progress; stdout is for the result."""
    print(text, file=sys.stderr, flush=True)
