"""Standard output and error of a command whose reader may leave before it ends."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

LEFT = "nobody reads the output any more; the command goes on without it, and Ctrl-C stops it"


class Output:
    """A text stream that writes to nowhere, and says so, once its reader, such as `head`, has left."""

    def __init__(self, stream: TextIO):
        self._stream, self.needed = stream, True

    def write(self, text: str) -> int:
        """As the stream's."""
        return self._on(self._stream.write, text) or len(text)

    def flush(self) -> None:
        """As the stream's."""
        self._on(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _on(self, function: Any, *arguments: str) -> int | None:
        try:
            return function(*arguments)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # where the rest goes, also what Python writes at its end
            os.close(nowhere)
        if self.needed and self._stream is not sys.__stderr__:
            print(LEFT, file=sys.stderr, flush=True)


@contextlib.contextmanager
def readers_may_leave() -> Iterator[None]:
    """Within the context, sys.stdout and sys.stderr are `Output`s: a training is not lost with the reader of a pipe."""
    if sys.stdout is None or sys.stderr is None:  # closed from the start: nothing is written
        yield
        return
    out, err = Output(sys.stdout), Output(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.needed = False  # the command is over
            out.flush()
            err.flush()
