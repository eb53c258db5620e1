"""Checkpoints that are verified: Orbax writes the arrays, a manifest of SHA-256 sums says what was written.

WORKDIR/checkpoints/STEP holds the arrays, WORKDIR/checkpoints/manifests/STEP.json the sums. A step without a
manifest was never finished. Restoring verifies the newest step and falls back to the one before, saying so.
"""

import hashlib
import json
import shutil
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from vae_jax.errors import UserError
from vae_jax.state import State, flatten, unflatten


class Checkpoints:
    """The checkpoints of one workdir, the last `keep` of them."""

    def __init__(self, workdir: str | Path, keep: int = 2):
        self.folder = Path(workdir).absolute() / "checkpoints"
        self._keep = keep
        self._checkpointer = ocp.StandardCheckpointer()

    def steps(self) -> list[int]:
        """The finished steps, oldest first."""
        return sorted(int(path.stem) for path in (self.folder / "manifests").glob("*.json"))

    def save(self, state: State) -> int:
        """Writes `state` and returns once it is complete; older ones beyond `keep` are removed after that."""
        step = int(state.step)
        if step in self.steps() and self._problem(step) is None:
            return step
        target = self.folder / str(step)
        if jax.process_index() == 0:
            self._manifest(step).unlink(missing_ok=True)  # until it is whole again, it does not count
        self._checkpointer.save(target, flatten(state), force=True)
        self._checkpointer.wait_until_finished()
        if jax.process_index() == 0:
            manifest = self._manifest(step)
            manifest.parent.mkdir(exist_ok=True)
            temporary = manifest.with_suffix(".tmp")
            temporary.write_text(json.dumps(_sums(target), indent=1))
            temporary.replace(manifest)
            for old in self.steps()[: -self._keep]:
                self._manifest(old).unlink()
                shutil.rmtree(self.folder / str(old), ignore_errors=True)
            for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"checkpoint {step}")
        return step

    def restore(self, target: State) -> State | None:
        """The newest good checkpoint in the shapes and shardings of `target`; None where there never was one."""
        steps = self.steps()
        for step in reversed(steps):
            problem = self._problem(step)
            if problem is None:
                return self._read(step, target)
            print(f"checkpoint {step} in {self.folder} is damaged: {problem}; trying the one before")
        if steps:
            raise UserError(
                f"No checkpoint in {self.folder} is whole. Restore the folder from a copy, or remove it to "
                "start from scratch."
            )
        return None

    def _read(self, step: int, target: State) -> State:
        wanted = flatten(target)
        stored = self._checkpointer.metadata(self.folder / str(step)).item_metadata
        have = {name: tuple(stored[name].shape) for name in stored}
        want = {name: tuple(leaf.shape) for name, leaf in wanted.items()}
        if have != want:
            differing = sorted({name for name, _ in have.items() ^ want.items()})
            lines = [
                f"  {name}: {have.get(name, 'not there')} there, {want.get(name, 'nothing')} expected"
                for name in differing[:10]
            ]
            more = f"\n  and {len(differing) - 10} more" if len(differing) > 10 else ""
            raise UserError(f"{self.folder / str(step)} holds another model:\n" + "\n".join(lines) + more)
        return unflatten(target, self._checkpointer.restore(self.folder / str(step), wanted))

    def _manifest(self, step: int) -> Path:
        return self.folder / "manifests" / f"{step}.json"

    def _problem(self, step: int) -> str | None:
        """What is wrong with the files of a step, or None."""
        folder = self.folder / str(step)
        try:
            expected = json.loads(self._manifest(step).read_text())
        except ValueError:
            return "its manifest cannot be read"
        if not folder.is_dir():
            return "its folder is missing"
        found = _sums(folder)
        for name, total in expected.items():
            if name not in found:
                return f"{name} is missing"
            if found[name] != total:
                return f"{name} has changed"
        return None


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
