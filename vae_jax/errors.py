"""User errors, and how commands report them."""

import contextlib
import difflib
import errno
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vae_jax.runtime.output import readers_may_leave


class UserError(Exception):
    """An error that the user can fix: commands print its message without a traceback and exit with code 2.

    The message says what is wrong, where, what was expected, and what to do.
    """


MISTAKE = 2  # exit code
PATH_ERRORS = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EROFS)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HINTS = dict.fromkeys(PATH_ERRORS, "Choose another folder or file.")
HINTS |= dict.fromkeys(DISK_ERRORS, "Free some disk space and run the same command again.")


@contextlib.contextmanager
def unreadable_told(place: object, advice: str, how: str = "") -> Iterator[None]:
    """Whatever a library raises on the broken file or folder `place` becomes a UserError."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{place} cannot be read{how}: {error}. {advice}") from None


@contextlib.contextmanager
def mistakes_told() -> Iterator[None]:
    """The context of a command: a user error becomes one message and exit code 2, never a traceback."""
    with readers_may_leave():
        try:
            yield
        except UserError as error:
            _end(str(error))
        except OSError as error:
            if error.errno not in HINTS:
                raise
            _end(f"{error.filename}: {error.strerror}. {HINTS[error.errno]}")
        except RuntimeError as error:
            if "home directory" not in str(error):  # of Path.home and Path.expanduser
                raise
            _end("This user has no home folder: set HOME, or write the path without ~.")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(MISTAKE)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the closest known name, or all of them."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
    """`table[name]`, or a UserError with the closest known name; `what` is the kind of name."""
    if name not in table:
        raise UserError(f"Unknown {what} {name!r}. {did_you_mean(name, table)}")
    return table[name]


FLAX_OWN = ("parent", "name")  # parameters of every Flax module, not options


def call_with_options(function: Callable, what: str, *args: Any, **options: Any) -> Any:
    """`function(*args, **options)`, or a UserError that names an unknown or missing option of `what`."""
    parameters = list(inspect.signature(function).parameters.values())[len(args) :]
    known = [parameter.name for parameter in parameters if parameter.name not in FLAX_OWN]
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known) if known else "It takes no options."
            raise UserError(f"{what} has no option {option!r}. {hint}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise UserError(f"{what} needs the option {parameter.name!r}.")
    return function(*args, **options)
