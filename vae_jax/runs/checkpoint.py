"""Checkpoints that are verified: Orbax writes the arrays, a manifest of SHA-256 sums says what was written.

WORKDIR/checkpoints/STEP holds the arrays, WORKDIR/checkpoints/manifests/STEP.json the sums. A step is written as
STEP.unfinished, then its manifest, and is renamed last: one that was never finished has no folder STEP, and one that
has a folder and no manifest is damaged. Restoring verifies the newest step and falls back to the one before, saying so.
"""

import contextlib
import functools
import hashlib
import json
import logging as standard_logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from vae_jax.errors import UserError
from vae_jax.runs.workdir import write_text
from vae_jax.runtime.processes import on_first_process
from vae_jax.state import State, flatten, unflatten

UNFINISHED = ".unfinished"
FAILED_SAVES = 3  # in a row: then a run gives up
ADDED = ("skipped",)  # leaves that the checkpoints of earlier versions lack, where they were zero


class NotSaved(UserError):
    """The disk would not take a checkpoint."""


class Checkpoints:
    """The checkpoints of one workdir, the last `keep` of them."""

    def __init__(self, workdir: str | Path, keep: int = 2):
        self.folder = Path(workdir).absolute() / "checkpoints"
        self._keep = keep
        self._failed = 0  # saves since the last that did not fail
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        self._checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)

    def steps(self) -> list[int]:
        """The steps that have a folder or a manifest, oldest first."""
        names = [path.name for path in self.folder.glob("*") if path.is_dir()]
        return sorted({int(name) for name in names if name.isdigit()} | self._manifests())

    def save(self, state: State) -> int:
        """Writes `state` and returns its step once it is complete; older ones beyond `keep` are removed after that.

        UserError where `state` holds a number that is not finite. NotSaved where the disk is full or refuses, and what
        was there before is as it was. Of many processes, of which each has the state, the first does it, and all wait
        for it and raise what it raises.
        """
        step = int(state.step)
        _check_finite(state, self.folder)
        failure = on_first_process(lambda: self._try_to_write(step, state))
        if failure:
            raise NotSaved(failure)
        return step

    def save_or_warn(self, state: State) -> None:
        """The same in the middle of a run, which goes on without it: UserError only for FAILED_SAVES in a row."""
        try:
            self.save(state)
            self._failed = 0
        except NotSaved as error:
            self._failed += 1
            if self._failed == FAILED_SAVES:
                raise UserError(f"{error}\nThis was failed save {FAILED_SAVES} in a row: the run gives up.") from None
            if jax.process_index() == 0:
                print(f"warning: {error} Going on; {FAILED_SAVES} failed saves in a row end the run.", flush=True)

    def restore(self, target: State) -> State | None:
        """The newest good checkpoint in the shapes and shardings of `target`; None where there never was one.

        Leaves of `target` may be arrays of numpy: then those of the checkpoint are.

        UserError where there are some, and all are damaged.
        """
        problems = {}
        for step in reversed(self.steps()):
            problem = self._problem(step)
            if problem is None:
                return self._read(step, target)
            if not self._path(step).is_dir() and self._path(step, UNFINISHED).is_dir():
                continue
            problems[step] = problem
            print(f"checkpoint {step} in {self.folder} is damaged: {problem}; trying the one before", flush=True)
        if problems:
            raise UserError(
                f"No checkpoint in {self.folder} is whole:\n"
                + "\n".join(f"  {step}: {problem}" for step, problem in problems.items())
                + "\nRestore the folder from a copy, or remove it to start from scratch."
            )
        return None

    def _try_to_write(self, step: int, state: State) -> str | None:
        """Why it could not be written, or None."""
        if step in self.steps() and self._problem(step) is None:
            return None
        with _quiet():
            try:
                self._write(step, state)
            except Exception as error:  # whatever the disk makes Orbax raise
                self._remove_unfinished()
                return self._failure(step, error)
        return None

    def _write(self, step: int, state: State) -> None:
        self._remove(step)  # what there is of it is damaged
        self._checkpointer.save(self._path(step, UNFINISHED), jax.device_get(flatten(state)), force=True)
        sums = _sums(self._path(step, UNFINISHED))
        write_text(self._manifest(step), json.dumps(sums, indent=1))
        self._path(step, UNFINISHED).replace(self._path(step))
        for old in [n for n in self.steps() if n < step][: 1 - self._keep or None]:
            self._remove(old)
        for lost in [n for n in self.steps() if n > step and self._problem(n)]:
            self._remove(lost)
        self._remove_unfinished()

    def _remove(self, step: int) -> None:
        self._manifest(step).unlink(missing_ok=True)
        shutil.rmtree(self._path(step), ignore_errors=True)

    def _remove_unfinished(self) -> None:
        """Whatever saves that ended early have left."""
        for pattern in (f"*{UNFINISHED}*", "*.orbax-checkpoint-tmp*"):
            for leftover in self.folder.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self._manifest(0).parent.glob("*.tmp"):
            leftover.unlink(missing_ok=True)
        for step in self._manifests():
            if not self._path(step).is_dir():
                self._manifest(step).unlink()

    def _failure(self, step: int, error: Exception) -> str:
        code = re.search(r"os_error_code='(\d+)'", str(error))  # of tensorstore, which raises a ValueError
        reason = os.strerror(int(code[1])) if code else f"{type(error).__name__}: {error}"
        good = [n for n in self.steps() if self._problem(n) is None]
        left = f"The newest that is there is step {good[-1]:,}." if good else "There is none yet."
        return f"The checkpoint of step {step:,} could not be written to {self.folder}: {reason}. {left}"

    def _read(self, step: int, target: State) -> State:
        wanted = flatten(target)
        stored = self._checkpointer.metadata(self._path(step)).item_metadata
        zero = {name: wanted.pop(name) for name in ADDED if name not in stored}
        have = {name: _described(stored[name]) for name in stored}
        want = {name: _described(leaf) for name, leaf in wanted.items()}
        if have != want:
            differing = sorted({name for name, _ in have.items() ^ want.items()})
            lines = [
                f"  {name}: {have.get(name, 'not there')} there, {want.get(name, 'nothing')} expected"
                for name in differing[:10]
            ]
            more = f"\n  and {len(differing) - 10} more" if len(differing) > 10 else ""
            raise UserError(f"{self._path(step)} holds another model:\n" + "\n".join(lines) + more)
        places = {name: getattr(leaf, "sharding", None) for name, leaf in zero.items()}
        zero = {name: jax.device_put(np.zeros(leaf.shape, leaf.dtype), places[name]) for name, leaf in zero.items()}
        return unflatten(target, self._checkpointer.restore(self._path(step), wanted) | zero)

    def _path(self, step: int, suffix: str = "") -> Path:
        return self.folder / f"{step}{suffix}"

    def _manifest(self, step: int) -> Path:
        return self.folder / "manifests" / f"{step}.json"

    def _manifests(self) -> set[int]:
        return {int(path.stem) for path in (self.folder / "manifests").glob("*.json")}

    def _problem(self, step: int) -> str | None:
        """What is wrong with the files of a step, or None."""
        manifest, folder = self._manifest(step), self._path(step)
        if not manifest.is_file():
            return f"its manifest, {manifest.name}, is missing"
        try:
            expected = dict(json.loads(manifest.read_text()))
        except (ValueError, TypeError):
            expected = {}
        if not expected:
            return f"its manifest, {manifest.name}, cannot be read"
        if not folder.is_dir():
            return "its folder is missing"
        found = _sums(folder)
        for name, total in expected.items():
            if name not in found:
                return f"{name} is missing"
            if found[name] != total:
                return f"{name} has changed"
        return None


def _described(leaf) -> str:
    return f"{tuple(leaf.shape)}" + ("" if leaf.dtype == jnp.float32 else f" {leaf.dtype}")


def _check_finite(state: State, folder: Path) -> None:
    for name, leaf in flatten(state).items():
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(np.asarray(leaf)).all():
            raise UserError(
                f"Step {int(state.step):,} was not saved: {name} holds a number that is not finite. "
                f"The checkpoints in {folder} hold none.\n"
                "The usual cure is a smaller learning rate or a bound on what grew, in a new --workdir."
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that Orbax's threads log of an error that is raised to us as well."""
    _forget_given_up_writes()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@functools.cache
def _forget_given_up_writes() -> None:
    """From now on: where a save failed, the other writes tell of their failures to nobody.

    Else tensorstore's threads print that they cannot, and asyncio, whenever it collects what ran them, that none asked.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda it: None if str(it.exc_value) == "Event loop is closed" else hook(it)
    standard_logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
