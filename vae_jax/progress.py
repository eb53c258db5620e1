"""What a run says of itself: one line, TensorBoard, and WORKDIR/scalars.jsonl."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vae_jax.errors import UserError
from vae_jax.host_tensorflow import hide_accelerators
from vae_jax.workdir import append_line, read_lines

IN_FLIGHT = 2  # calls that may run ahead of the last one known to be finished


class Progress:
    """Collects the scalars of train calls on the device and fetches them only when there is something to say."""

    def __init__(self, workdir: Path, step: int, steps: int, batch_size: int, terms: list[str]):
        self._workdir, self._steps, self._batch_size, self._terms = workdir, steps, batch_size, terms
        records = read_lines(workdir / "scalars.jsonl")
        evaluations = [r["step"] for r in records if r["step"] <= step and any(name.startswith("eval/") for name in r)]
        self.judged = max(evaluations, default=0)  # the newest step that was evaluated
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []
        self._writer = None
        self._unsaid: list[dict[str, np.ndarray]] = []  # scalars and seconds since the last line
        self._seconds = 0.0
        self._since: float | None = None
        if jax.process_index() == 0:
            hide_accelerators()
            from clu import metric_writers  # imports TensorFlow: 3 seconds
            from tensorflow.errors import OpError

            self._refusals = OSError, OpError
            self._writer = metric_writers.SummaryWriter(str(workdir / "tensorboard"))

    def start(self) -> None:
        """Starts the clock, unless it runs, before a train call."""
        if self._since is None:
            self._since = time.perf_counter()

    def add(self, step: int, scalars: dict[str, jax.Array]) -> None:
        """Takes the scalars [K] of the call that began at `step`; waits for an earlier call, never for this one."""
        self._pending.append((step, scalars))
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1])

    def check(self) -> None:
        """Waits for all calls; UserError with step and term if one of their scalars was not finite."""
        if not self._pending:
            return
        first = self._pending[0][0]
        columns = jax.device_get([scalars for _, scalars in self._pending])
        self._seconds += time.perf_counter() - self._since
        self._since, self._pending = None, []
        values = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        bad = np.flatnonzero(values["finite"] == 0)
        if bad.size:
            names = [name for name, value in values.items() if not np.isfinite(value[bad[0]])]
            raise UserError(
                f"Training stopped: at step {first + bad[0] + 1:,} {', '.join(names)} was not a finite number. "
                f"No parameter was touched by it, and checkpoints saved before it in {self._workdir} are good.\n"
                "The usual cure is a smaller learning rate or a bound on the term that went bad, in a new --workdir."
            )
        self._unsaid.append(values)

    def log(self, step: int) -> None:
        """Prints the line of `step` and writes the means of its scalars since the line before."""
        self.check()
        if not self._unsaid or self._writer is None:
            return
        values = {name: np.concatenate([part[name] for part in self._unsaid]) for name in self._unsaid[0]}
        rate = len(values["finite"]) * self._batch_size / self._seconds
        self._unsaid, self._seconds = [], 0.0
        scalars = {name: float(value.mean()) for name, value in values.items() if name != "finite"}
        minutes = (self._steps - step) * self._batch_size / rate / 60
        left = f"{minutes:.0f} min left" if minutes >= 2 else f"{60 * minutes:.0f} s left"
        terms = "  ".join(f"{name} {scalars[name]:.5g}" for name in self._terms)
        done = f"step {step:>7,} of {self._steps:,} ({step / self._steps:4.0%})"
        print(f"{done}  {rate:7,.0f} images/s  {left:>10}  {terms}", flush=True)
        scalars["images_per_second"] = rate
        with self._going_on(f"The scalars of step {step:,}"):
            append_line(self._workdir / "scalars.jsonl", {"step": step, **scalars})
            self._writer.write_scalars(step, scalars)

    def evaluation(self, metrics: dict[str, Any], pictures: dict[str, np.ndarray]) -> None:
        """Writes what an evaluation found; its time does not count as training."""
        self.judged = metrics["step"]
        if self._writer is None:
            return
        step, means = metrics["step"], {name: value for name, value in metrics.items() if isinstance(value, float)}
        scalars = {f"eval/{name}": value for name, value in means.items()}
        print("     judged: " + "  ".join(f"{name} {value:.5g}" for name, value in means.items()), flush=True)
        with self._going_on(f"The evaluation of step {step:,}"):
            append_line(self._workdir / "scalars.jsonl", {"step": step, **scalars})
            self._writer.write_scalars(step, scalars)
            self._writer.write_images(step, {name: picture[None] for name, picture in pictures.items()})
            self._writer.flush()

    @contextlib.contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """A disk that is full costs lines and curves, not the run."""
        try:
            yield
        except self._refusals as error:
            print(f"warning: {what} could not be written: {str(error).splitlines()[0]}", flush=True)
