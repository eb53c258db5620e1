"""A trace of some train steps, which TensorBoard shows: `python -m vae_jax.main ... --profile=STEPS`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


class Profile:
    """Traces `steps` steps into WORKDIR/profile, from the second call on: the first one has costs of its own.

    Only process 0 traces. A trace that cannot be written is a warning: the run goes on.
    """

    def __init__(self, workdir: Path, steps: int):
        self.folder = workdir / "profile"
        self._left = steps if jax.process_index() == 0 else 0
        self._warm, self._running = False, False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._finish()
        if self._left > 0:
            print(f"warning: --profile: {self._left:,} steps were left to trace when the run ended", flush=True)

    def run(self, step: int, count: int, call: Callable, *inputs: Any) -> Any:
        """`call(*inputs)`, which takes `count` steps from `step` on; waits for it if the trace ends with it."""
        if self._left > 0 and self._warm and not self._running:
            jax.profiler.start_trace(self.folder)
            self._running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            result = call(*inputs)
        self._warm = True
        if self._running:
            self._left -= count
            if self._left <= 0:
                jax.block_until_ready(result)
                self._finish()
        return result

    def _finish(self) -> None:
        if not self._running:
            return
        self._running = False
        try:
            jax.profiler.stop_trace()
        except (OSError, RuntimeError) as error:
            print(f"warning: the trace could not be written to {self.folder}: {error}", flush=True)
        else:
            print(f"trace: {self.folder} (pip install xprof, tensorboard --logdir={self.folder})", flush=True)
