"""Verified checkpoints: arrays that were read back once, and a manifest with the SHA-256 sums of their files.

WORKDIR/checkpoints/STEP holds the arrays, WORKDIR/checkpoints/manifests/STEP.json the sums. The arrays are written to
STEP.unfinished, then the manifest is written, and the folder is renamed last. So an unfinished step has no folder STEP,
and a folder without a manifest is damaged. Restoring verifies the newest step; if it is damaged, a message says so and
the previous one is used.

While a run goes on, a checkpoint is written by a thread: the steps wait only for the copy of the state off the device.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError
from vae_jax.runs.arrays import ArrayFiles
from vae_jax.runs.workdir import write_text
from vae_jax.runtime.processes import on_first_process
from vae_jax.runtime.sharding import on_host
from vae_jax.state import State, flatten, unflatten
from vae_jax.strict_json import to_json

UNFINISHED = ".unfinished"
FAILED_SAVES = 3  # consecutive failed saves that end a run
ADDED = ("skipped",)  # leaves that checkpoints of earlier versions lack; they are restored as zero


class NotSaved(UserError):
    """A checkpoint could not be written."""


class Checkpoints:
    """The checkpoints of one workdir; only the last `keep` of them are kept.

    `publish` is called after each write, and raises if what is now in the workdir cannot reach its place.
    """

    def __init__(self, workdir: str | Path, keep: int = 2, publish: Callable[[], None] = lambda: None):
        self.folder = Path(workdir).absolute() / "checkpoints"
        self._keep, self._publish = keep, publish
        self._failed = 0  # consecutive failed saves
        self._files = ArrayFiles()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[str | None] | None = None

    def steps(self) -> list[int]:
        """The steps that have a folder or a manifest, oldest first."""
        names = [path.name for path in self.folder.glob("*") if path.is_dir()]
        return sorted({int(name) for name in names if name.isdigit()} | self._manifests())

    def save(self, state: State) -> int:
        """Writes `state`, then removes all but the last `keep` checkpoints; returns the step.

        UserError if `state` contains a NaN or infinity. NotSaved if the disk is full or cannot be written; earlier
        checkpoints are not affected. With several processes, process 0 writes the state, which may be split over their
        devices; all others wait for it and raise the same errors.
        """
        self.finish()
        step, leaves = int(state.step), on_host(flatten(state))
        _check_finite(step, leaves, self.folder)
        self._on_first_process(lambda: self._write(step, leaves), step)
        return step

    def try_out(self, state: State) -> None:
        """NotSaved unless `state` can be written here and read back; leaves nothing behind."""
        step, leaves = int(state.step), on_host(flatten(state))
        self._on_first_process(lambda: self._write_unfinished(step, leaves), step)
        on_first_process(self._remove_tried_out)

    def save_meanwhile(self, state: State) -> None:
        """Like `save`, but returns when the state has been copied off the devices: a thread writes it.

        The write before it is waited for. If that has failed, it is a warning; UserError after FAILED_SAVES consecutive
        failures.
        """
        failure = on_first_process(self._result)
        self._failed = self._failed + 1 if failure else 0
        if self._failed == FAILED_SAVES:
            raise UserError(
                f"{failure}\n{FAILED_SAVES} consecutive saves failed: the run ends. Fix the disk and run the same "
                "command to resume."
            )
        if failure:
            _warn(f"{failure} The run continues; {FAILED_SAVES} consecutive failed saves end it.")
        step, leaves = int(state.step), {name: np.array(leaf) for name, leaf in on_host(flatten(state)).items()}
        _check_finite(step, leaves, self.folder)
        if jax.process_index() == 0:
            self._writing = self._writer.submit(self._attempt, lambda: self._write(step, leaves), step)

    def finish(self) -> None:
        """Waits for the thread of `save_meanwhile`, if it writes; a failure is a warning."""
        if failure := self._result():
            _warn(failure)

    def saved(self) -> list[int]:
        """The good steps, once the thread of `save_meanwhile` has written; all processes must call it."""
        self.finish()
        return on_first_process(lambda: [step for step in self.steps() if self._problem(step) is None])

    def _result(self) -> str | None:
        """Waits for the thread; why it could not write."""
        writing, self._writing = self._writing, None
        return writing.result() if writing else None

    def restore(self, target: State) -> State | None:
        """The newest good checkpoint in the shapes and shardings of `target`; None if none was ever finished.

        If leaves of `target` are NumPy arrays, the restored ones are too. UserError if all checkpoints are damaged.
        """
        problems = {}
        for step in reversed(self.steps()):
            problem = self._problem(step)
            if problem is None:
                return self._read(step, target)
            if not self._path(step).is_dir() and self._path(step, UNFINISHED).is_dir():
                continue
            problems[step] = problem
            print(f"checkpoint {step} in {self.folder} is damaged: {problem}; trying the previous one", flush=True)
        if problems:
            raise UserError(
                f"All checkpoints in {self.folder} are damaged:\n"
                + "\n".join(f"  {step}: {problem}" for step, problem in problems.items())
                + "\nRestore the folder from a backup, or delete it to start from scratch."
            )
        return None

    def _on_first_process(self, write: Callable[[], None], step: int) -> None:
        """Calls `write` on process 0; NotSaved on all of them if it fails."""
        if failure := on_first_process(lambda: self._attempt(write, step)):
            raise NotSaved(failure)

    def _attempt(self, write: Callable[[], None], step: int) -> str | None:
        """Calls `write`; why it failed."""
        try:
            return write()
        except Exception as error:  # Orbax raises many kinds of errors when the disk fails
            self._remove_unfinished()
            return self._failure(step, error)

    def _write_unfinished(self, step: int, leaves: Mapping[str, np.ndarray]) -> None:
        self._files.write(self._path(step, UNFINISHED), leaves)

    def _write(self, step: int, leaves: Mapping[str, np.ndarray]) -> None:
        if step in self.steps() and self._problem(step) is None:
            return
        self._remove(step)  # damaged, if it exists
        self._write_unfinished(step, leaves)
        sums = _sums(self._path(step, UNFINISHED))
        write_text(self._manifest(step), to_json(sums, indent=1))
        self._path(step, UNFINISHED).replace(self._path(step))
        for old in [n for n in self.steps() if n < step][: 1 - self._keep or None]:
            self._remove(old)
        for lost in [n for n in self.steps() if n > step and self._problem(n)]:
            self._remove(lost)
        self._remove_unfinished()
        self._publish()

    def _remove(self, step: int) -> None:
        self._manifest(step).unlink(missing_ok=True)
        shutil.rmtree(self._path(step), ignore_errors=True)

    def _remove_unfinished(self) -> None:
        """Removes what interrupted saves have left behind."""
        for pattern in (f"*{UNFINISHED}*", "*.orbax-checkpoint-tmp*"):
            for leftover in self.folder.glob(pattern):
                _remove_tree(leftover)
        for leftover in self._manifest(0).parent.glob("*.tmp"):
            leftover.unlink(missing_ok=True)
        for step in self._manifests():
            if not self._path(step).is_dir():
                self._manifest(step).unlink()

    def _remove_tried_out(self) -> None:
        self._remove_unfinished()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _failure(self, step: int, error: Exception) -> str:
        code = re.search(r"os_error_code='(\d+)'", str(error))  # of tensorstore, which raises a ValueError
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        reason = os.strerror(int(code[1])) if code else told
        good = [n for n in self.steps() if n != step and self._problem(n) is None]
        left = f"The newest good one is step {good[-1]:,}." if good else "There is no earlier one."
        return f"The checkpoint of step {step:,} could not be written to {self.folder}: {reason}. {left}"

    def _read(self, step: int, target: State) -> State:
        wanted = flatten(target)
        stored = self._files.described(self._path(step))
        zero = {name: wanted.pop(name) for name in ADDED if name not in stored}
        have = {name: _described(stored[name]) for name in stored}
        want = {name: _described(leaf) for name, leaf in wanted.items()}
        if have != want:
            differing = sorted({name for name, _ in have.items() ^ want.items()})
            lines = [
                f"  {name}: {have.get(name, 'nothing')} found, {want.get(name, 'nothing')} expected"
                for name in differing[:10]
            ]
            more = f"\n  and {len(differing) - 10} more" if len(differing) > 10 else ""
            raise UserError(f"{self._path(step)} holds a different model:\n" + "\n".join(lines) + more)
        places = {name: getattr(leaf, "sharding", None) for name, leaf in zero.items()}
        zero = {name: jax.device_put(np.zeros(leaf.shape, leaf.dtype), places[name]) for name, leaf in zero.items()}
        return unflatten(target, self._files.read(self._path(step), wanted) | zero)

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
            return f"its manifest, {manifest.name}, is unreadable"
        if not folder.is_dir():
            return "its folder is missing"
        found = _sums(folder)
        for name, total in expected.items():
            if name not in found:
                return f"{name} is missing"
            if found[name] != total:
                return f"{name} has changed"
        return None


def _remove_tree(folder: Path) -> None:
    """Removes a folder, in which threads of a save that failed may still be creating files for a moment."""
    for wait in (0.0, 0.1, 1.0):
        time.sleep(wait)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


def _warn(what: str) -> None:
    if jax.process_index() == 0:
        print(f"warning: {what}", flush=True)


def _described(leaf) -> str:
    return f"{tuple(leaf.shape)}" + ("" if leaf.dtype == jnp.float32 else f" {leaf.dtype}")


def _check_finite(step: int, leaves: Mapping[str, np.ndarray], folder: Path) -> None:
    for name, leaf in leaves.items():
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all():
            raise UserError(
                f"Step {step:,} was not saved: {name} contains a NaN or infinity. "
                f"The checkpoints in {folder} contain none.\n"
                "A smaller learning rate or a bound on the values that grew usually helps, in a new --workdir."
            )


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
