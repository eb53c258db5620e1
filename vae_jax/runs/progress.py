"""The progress of a run: printed lines, TensorBoard and WORKDIR/scalars.jsonl; an error if scalars are not finite."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.keys import NOT_FINITE
from vae_jax.metrics import PARTS
from vae_jax.runs.workdir import append_line, read_lines
from vae_jax.runtime.host_tensorflow import hide_accelerators
from vae_jax.runtime.processes import on_first_process

IN_FLIGHT = 2  # calls that may run beyond the last one known to be finished
COUNTS = ("finite", "skipped")  # scalars whose mean is meaningless


class Progress:
    """Collects the scalars of train calls on the device, and fetches them only to check or log them.

    `saved` gives the steps that have a checkpoint, for the message of a run that has to stop.
    """

    def __init__(self, workdir: Path, step: int, config: ConfigDict, terms: list[str], saved: Callable[[], list[int]]):
        self._workdir, self._config, self._terms, self._saved = workdir, config, terms, saved
        self.judged = on_first_process(lambda: _newest_evaluation(workdir, step))  # the step of the newest evaluation
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []
        self._writer = None
        self._unlogged: list[dict[str, np.ndarray]] = []  # scalars since the last line
        self._seconds = 0.0  # of train calls since the last line
        self.seconds = 0.0  # of all train calls
        self._started: float | None = None
        self._not_finite = 0  # consecutive steps up to the newest one
        if jax.process_index() == 0:
            hide_accelerators()
            from clu import metric_writers  # imports TensorFlow: 3 seconds
            from tensorflow import errors

            self._disk_errors = OSError, errors.OpError
            folder: Any = os.fsencode(workdir / "tensorboard")  # TensorFlow takes any bytes, not Python's text of them
            _forget_events_after(workdir / "tensorboard", step)
            self._writer = metric_writers.SummaryWriter(folder)

    def start(self) -> None:
        """Starts the clock before a train call, unless it is running."""
        if self._started is None:
            self._started = time.perf_counter()

    def add(self, step: int, scalars: dict[str, jax.Array]) -> None:
        """Takes the scalars [K] of the call that began at `step`; waits for an earlier call, never for this one."""
        self._pending.append((step, scalars))
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1])

    def check(self) -> None:
        """Waits for all calls; UserError, with step and term, if too many consecutive steps were not finite."""
        if not self._pending:
            return
        first = self._pending[0][0]
        columns = jax.device_get([scalars for _, scalars in self._pending])
        assert self._started is not None
        taken = time.perf_counter() - self._started
        self._seconds, self.seconds = self._seconds + taken, self.seconds + taken
        self._started, self._pending = None, []
        values = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        for i, finite in enumerate(values["finite"]):
            self._not_finite = 0 if finite else self._not_finite + 1
            if self._not_finite == NOT_FINITE[self._config.not_finite]:
                raise UserError(self._not_finite_message(first + i + 1, _names_not_finite(values, i)))
        bad = np.flatnonzero(values["finite"] == 0)
        if bad.size and self._writer is not None:
            step, names = first + bad[0] + 1, _names_not_finite(values, bad[0])
            print(f"warning: skipped {bad.size} of {values['finite'].size} steps, the first at step {step:,}: "
                  f"NaN or infinity in {names}", flush=True)  # fmt: skip
        self._unlogged.append(values)

    def log(self, step: int) -> None:
        """Prints the line of `step` and writes the means of the scalars since the previous line."""
        self.check()
        if self._writer is None:
            self._unlogged = []
        if self._writer is None or not self._unlogged:
            return
        values = {name: np.concatenate([part[name] for part in self._unlogged]) for name in self._unlogged[0]}
        finite, skipped = values["finite"] == 1, int(values["skipped"][-1])
        rate = len(finite) * self._config.batch_size / self._seconds
        self._unlogged, self._seconds = [], 0.0
        means = {name: value[finite].mean() for name, value in values.items() if finite.any() and name not in COUNTS}
        scalars = {name: float(mean) for name, mean in means.items()}
        print(self._line(step, scalars, rate) + (f"  skipped {skipped:,}" if skipped else ""), flush=True)
        scalars |= {"images_per_second": rate} | ({"skipped": skipped} if skipped else {})
        with self._warn_only(f"The scalars of step {step:,}"):
            append_line(self._workdir / "scalars.jsonl", {"step": step, **scalars})
            self._writer.write_scalars(step, scalars)

    def evaluation(self, metrics: dict[str, Any], pictures: dict[str, np.ndarray]) -> None:
        """Logs the results of an evaluation; its time does not count as training."""
        self.judged = metrics["step"]
        if self._writer is None:
            return
        step, means = metrics["step"], {name: value for name, value in metrics.items() if isinstance(value, float)}
        scalars = {f"eval/{name}": value for name, value in means.items()}
        shown = (f"{name} {value:.5g}" for name, value in means.items() if name not in PARTS)
        print("     evaluation: " + "  ".join(shown), flush=True)
        with self._warn_only(f"The evaluation of step {step:,}"):
            append_line(self._workdir / "scalars.jsonl", {"step": step, **scalars})
            self._writer.write_scalars(step, scalars)
            self._writer.write_images(step, {name: picture[None] for name, picture in pictures.items()})
            self._writer.flush()

    def _line(self, step: int, scalars: dict[str, float], rate: float) -> str:
        steps = self._config.steps
        minutes = (steps - step) * self._config.batch_size / rate / 60
        left = f"{minutes:.0f} min left" if minutes >= 2 else f"{60 * minutes:.0f} s left"
        terms = "  ".join(f"{name} {scalars.get(name, np.nan):.5g}" for name in self._terms)
        return f"step {step:>7,} of {steps:,} ({step / steps:4.0%})  {rate:7,.0f} images/s  {left:>10}  {terms}"

    def _not_finite_message(self, step: int, names: str) -> str:
        hint = "A smaller learning rate or a bound on that term usually helps, in a new --workdir."
        if self._config.not_finite == "stop":
            hint += " Or skip such steps: --config.not_finite=skip."
        last = f", the last of {self._not_finite} such steps in a row" if self._not_finite > 1 else ""
        good = (
            f"the checkpoints in {self._workdir} are good." if self._saved() else "no checkpoint had been saved before."
        )
        where = f"NaN or infinity in {names} at step {step:,}{last}"
        return f"Training stopped: {where}. It changed no parameters, and {good}\n{hint}"

    @contextlib.contextmanager
    def _warn_only(self, what: str) -> Iterator[None]:
        """A full disk loses lines and curves, but does not end the run."""
        try:
            yield
        except self._disk_errors as error:
            print(f"warning: {what} could not be written: {str(error).splitlines()[0]}", flush=True)


def _forget_events_after(folder: Path, step: int) -> None:
    """Drops the events after `step` from TensorBoard's files: a resumed run writes them again."""
    import tensorflow

    tf: Any = tensorflow  # takes any bytes as a path

    for file in folder.glob("events.out.tfevents.*"):
        records, unfinished = [], file.with_name(f"unfinished-{file.name}")
        with contextlib.suppress(tf.errors.DataLossError):  # the last record of a process that was killed
            records.extend(tf.data.TFRecordDataset([os.fsencode(file)]).as_numpy_iterator())
        kept = [record for record in records if tf.compat.v1.Event.FromString(record).step <= step]
        if len(kept) < len(records):
            with tf.io.TFRecordWriter(os.fsencode(unfinished)) as writer:
                for record in kept:
                    writer.write(record)
            unfinished.replace(file)


def _newest_evaluation(workdir: Path, step: int) -> int:
    records = [record for record in read_lines(workdir / "scalars.jsonl") if record["step"] <= step]
    return max((r["step"] for r in records if any(name.startswith("eval/") for name in r)), default=0)


def _names_not_finite(values: dict[str, np.ndarray], i: int) -> str:
    """The names of the scalars that are not finite at index i."""
    return ", ".join(name for name, value in values.items() if not np.isfinite(value[i]))
