"""A workdir in a bucket: gs://BUCKET/RUN, s3://BUCKET/RUN, or another address that fsspec knows.

A bucket has no locks, no appending and no renaming. So a run works in a folder of this machine: what the bucket has is
copied there first, and what has changed is copied back after every checkpoint and at the end. A checkpoint's arrays go
before its manifest, and are read back, and what was removed here is removed there last: whenever the machine is lost,
the bucket holds the newest complete checkpoint. The folder is removed when all of it is in the bucket.

Instead of a lock, the bucket has the file `lock`, in which a run renews its name. Another one takes it over when it has
not been renewed for `ABANDONED` seconds; the first, should it still live, then ends at its next checkpoint.
"""

import contextlib
import importlib.util
import io
import logging
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

from vae_jax.errors import UserError
from vae_jax.paths import is_address, local_path
from vae_jax.runtime.processes import on_first_process

RENEWED = 15.0  # seconds between a run's signs of life
ABANDONED = 60.0  # seconds without one after which another run may go on
LOCK = "lock"  # of the bucket, and of the folder, where `workdir.open_workdir` has one of its own
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs"}
RIGHTS = "Check the address and your rights (gcloud auth application-default login; aws configure)."


class AtHand(NamedTuple):
    """A workdir as a folder of this machine.

    `publish` copies its changes to where it belongs; UserError if it cannot.
    """

    folder: Path
    publish: Callable[[], None]


@contextlib.contextmanager
def at_hand(workdir: str | Path, writing: bool = True) -> Iterator[AtHand]:
    """The workdir, here for as long as the context lasts, and then where it belongs.

    A folder of this machine is itself. Of an address, the files are copied; in the context, messages name the address.
    With several processes, only process 0 has the files. UserError if the bucket cannot be read, or, if `writing`, is
    in use or cannot be written.
    """
    if not is_address(workdir):
        yield AtHand(local_path(workdir), lambda: None)
        return
    copy = Copy(str(workdir))
    try:
        with _named(copy):
            on_first_process(copy.fetch)
            if writing:
                on_first_process(copy.lock)
            yield AtHand(copy.folder, copy.publish)
    except BaseException:
        try:
            copy.close()
        except UserError as second:  # what ended the run is the one to raise
            print(f"error: {second}", file=sys.stderr, flush=True)
        raise
    copy.close()


class Copy:
    """The files of `address` in a temporary folder."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        if self.address.endswith(":"):
            raise UserError(f"{address} names no bucket; expected an address such as {address}BUCKET/RUN.")
        self._files, self._root = _file_system(self.address)
        self._temporary = Path(tempfile.gettempdir()) / f"vae_jax-{os.getpid()}-{time.time_ns():x}"
        self.folder = self._temporary / PurePosixPath(self._root).name
        self._there: dict[str, tuple[int, int]] = {}  # what the bucket has: size and time of the file here
        self._me = f"process {os.getpid()} on {platform.node()}, started {time.strftime('%Y-%m-%d %H:%M:%S %z')}"
        self._over, self._taken_by = threading.Event(), ""
        self._keeper: threading.Thread | None = None  # renews the lock, which is ours

    def fetch(self) -> None:
        """Copies everything that is there, except for checkpoints whose writing was interrupted."""
        with _told(f"{self.address} cannot be read"):
            self._files.invalidate_cache()
            try:
                found: Any = self._files.find(self._root, detail=True)
            except FileNotFoundError:
                raise OSError("there is no such bucket") from None
        names = {path.removeprefix(self._root).lstrip("/"): info["size"] or 0 for path, info in found.items()}
        names.pop(LOCK, None)
        wanted = [name for name in names if _complete(name, names)]
        self._there = dict.fromkeys(names, (-1, -1))
        self.folder.mkdir(parents=True)
        if wanted:
            size = sum(names[name] for name in wanted) / 1e6
            print(f"reading {self.address}: {len(wanted):,} files, {size:,.1f} MB", flush=True)
        for name in wanted:
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with _told(f"{self.address}/{name} cannot be read"):
                self._files.get_file(f"{self._root}/{name}", str(file))
            self._there[name] = _stamp(file)

    def lock(self) -> None:
        """UserError if another run goes on there; waits until it is known not to."""
        owner, since = self._owner(), time.monotonic()
        if owner:
            print(f"{self.address} was in use by {owner}; waiting {ABANDONED:.0f} s for a sign of life", flush=True)
        while owner and time.monotonic() - since < ABANDONED:
            time.sleep(min(RENEWED / 3, ABANDONED))
            if (now := self._owner()) and now != owner:
                raise UserError(
                    f"{self.address} is in use by another run: {now}. Wait for it to end, stop it, or choose another "
                    "--workdir."
                )
            owner = now
        self._renew()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def publish(self) -> None:
        """Copies what has changed here to the bucket, and removes there what was removed here."""
        if self._taken_by:
            raise UserError(f"{self.address} was taken over by another run, {self._taken_by}. Stop one of them.")
        files = {file.relative_to(self.folder).as_posix(): file for file in self.folder.rglob("*") if file.is_file()}
        files = {name: file for name, file in files.items() if name != LOCK and not name.endswith(".tmp")}
        for name in sorted(files, key=lambda name: (_is_manifest(name), name)):
            stamp = _stamp(files[name])
            if self._there.get(name) == stamp:
                continue
            with _told(f"{self.address}/{name} cannot be written"):
                self._files.put_file(str(files[name]), f"{self._root}/{name}")
                self._there[name] = (-1, -1)
                if name.startswith("checkpoints/") and not self._is_there(name, files[name]):
                    raise OSError("other bytes were read back than had been written")
            self._there[name] = stamp
        for name in sorted(self._there.keys() - files.keys(), key=lambda name: (not _is_manifest(name), name)):
            with _told(f"{self.address}/{name} cannot be removed"), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")
            del self._there[name]

    def close(self) -> None:
        """Publishes, if this run has the lock, and removes the folder; if that fails, leaves it, and says where."""
        try:
            if self._keeper:
                self.publish()
        except UserError as error:
            raise UserError(
                f"{error}\nWhat this run has written is in {self.folder}. Copy it to {self.address}, or run the same "
                "command to go on from the newest checkpoint there."
            ) from None
        else:
            shutil.rmtree(self._temporary, ignore_errors=True)
        finally:
            self._over.set()
            if self._keeper:
                self._keeper.join(RENEWED)  # it may be waiting for a bucket that does not answer
            if self._keeper and not self._keeper.is_alive() and not self._taken_by:
                with contextlib.suppress(Exception):
                    self._files.rm_file(f"{self._root}/{LOCK}")

    def _is_there(self, name: str, file: Path) -> bool:
        return self._files.cat_file(f"{self._root}/{name}") == file.read_bytes()

    def _owner(self) -> str:
        """What the lock says; nothing if there is none."""
        with _told(f"{self.address} cannot be read"), contextlib.suppress(FileNotFoundError):
            return self._files.cat_file(f"{self._root}/{LOCK}").decode(errors="replace").strip()
        return ""

    def _renew(self) -> None:
        with _told(f"{self.address} cannot be written"):
            line = f"{self._me}, seen {time.strftime('%H:%M:%S')} ({time.time_ns():x})\n"
            self._files.pipe_file(f"{self._root}/{LOCK}", line.encode())

    def _keep(self) -> None:
        """Renews the lock until the end, or until it is another run's. A bucket that does not answer is asked again."""
        while not self._over.wait(RENEWED):
            with contextlib.suppress(UserError):
                owner = self._owner()
                if owner and not owner.startswith(self._me):
                    self._taken_by = owner
                    return
                self._renew()


class _Renamed(io.TextIOBase):
    """A text stream in which the folder has the name of its address."""

    def __init__(self, stream: TextIO, copy: Copy):
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        self._stream.write(text.replace(str(self._copy.folder), self._copy.address))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def _named(copy: Copy) -> Iterator[None]:
    """In the context, what is printed and what a UserError says names the address in place of the folder."""
    with contextlib.redirect_stdout(_Renamed(sys.stdout, copy)):
        try:
            yield
        except UserError as error:
            raise type(error)(str(error).replace(str(copy.folder), copy.address)) from None


def _file_system(address: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it). UserError where it is not installed."""
    scheme = address.partition(":")[0]
    package = PACKAGES.get(scheme, "fsspec")
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{address} needs the package {package}, which is not here: pip install 'vae_jax[buckets]'")
    import fsspec.core

    logging.getLogger("gcsfs").setLevel(logging.ERROR)  # it doubts the type of every bucket of an emulator
    try:
        files, root = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise UserError(f"{address} is no address that can be used: {error}") from None
    if len(PurePosixPath(root.strip("/")).parts) < 2:
        raise UserError(f"{address} is a whole bucket; expected a folder in it, such as {address}/run.")
    return files, root


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever error a bucket answers with, as a UserError."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: {reason}. {RIGHTS}") from error


def _is_manifest(name: str) -> bool:
    return name.startswith("checkpoints/manifests/")


def _complete(name: str, names: Any) -> bool:
    """Whether a file is of no checkpoint, or of one whose manifest is there as well, which was written last."""
    parts = name.split("/")
    if parts[0] != "checkpoints" or _is_manifest(name):
        return True
    return f"checkpoints/manifests/{parts[1]}.json" in names


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
