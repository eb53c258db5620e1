"""Arrays by name in a folder, written and read by Orbax. A write is good only when it has been read back."""

import contextlib
import functools
import logging as standard_logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from vae_jax.errors import UserError


class ArrayFiles:
    """Reads and writes folders of arrays; this process does so alone, whatever the number of processes."""

    def __init__(self):
        process = jax.process_index()
        this_one = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=this_one)
        self._checkpointer = ocp.Checkpointer(handler, multiprocessing_options=this_one)

    def write(self, folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the arrays and reads them back; raises many kinds of errors where the disk fails, UserError where
        other values come back."""
        with _quiet(), _searchable(folder) as path:
            self._checkpointer.save(path, dict(arrays), force=True)
        found = self.read(folder, arrays)
        for name, array in arrays.items():
            if np.asarray(found[name]).tobytes() != np.asarray(array).tobytes():
                raise UserError(f"other values of {name} were read back than had been written")

    def read(self, folder: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays in the shapes, types and shardings of `wanted`; NumPy arrays where those are."""
        with _searchable(folder) as path:
            return self._checkpointer.restore(path, dict(wanted))

    def described(self, folder: Path) -> dict[str, Any]:
        """{name: shape and dtype} of what the folder holds."""
        with _searchable(folder) as path:
            found: Any = self._checkpointer.metadata(path).item_metadata
        return dict(found or {})


@contextlib.contextmanager
def _searchable(folder: Path) -> Iterator[Path]:
    """The same folder under a name that Orbax takes: to it brackets are a pattern, and backslashes and bytes that are
    not UTF-8 are invalid."""
    if not re.search(r"[\[\\\udc80-\udcff]", str(folder)):
        yield folder
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as links:
        link = Path(links) / "folder"
        link.symlink_to(folder.parent)
        yield link / folder.name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the tracebacks that Orbax's threads log for errors that are also raised here."""
    _silence_abandoned_writes()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@functools.cache
def _silence_abandoned_writes() -> None:
    """After a failed save, suppresses the errors of its other writes, for the rest of the process.

    Otherwise tensorstore's threads print them, and asyncio reports that nobody retrieved them.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda it: None if str(it.exc_value) == "Event loop is closed" else hook(it)
    standard_logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())
