"""Downloads a published file once: to a temporary name, checked, then renamed."""

import hashlib
import os
import sys
import time
import urllib.request
from pathlib import Path

from vae_jax.errors import UserError
from vae_jax.weights.published import Origin

CHUNK = 1 << 20
TIMEOUT = 20  # seconds without an answer


def download(origin: Origin, folder: Path) -> Path:
    """The file of `origin` in `folder`, downloaded unless it is there; UserError if it cannot be, or is incomplete."""
    target, part = folder / origin.file, folder / f"{origin.file}.part-{os.getpid()}"
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest().startswith(origin.sha256):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _fetch(origin.get, part)
        if not found.startswith(origin.sha256):
            raise UserError(
                f"{origin.get} did not send the published file: its SHA-256 is {found}, expected {origin.sha256}. "
                "Nothing was kept; try again, or download it another way and pass it with --source=FILE."
            )
        part.replace(target)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{origin.get} cannot be downloaded: {error}. Download {origin.file} on a machine with network access "
            f"(SHA-256 {origin.sha256 or 'not published'}) and pass it with --source=FILE."
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _fetch(url: str, part: Path) -> str:
    """Downloads `url` to `part`, printing progress, and returns its SHA-256."""
    total, sha, shown = 0, hashlib.sha256(), time.monotonic()
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, part.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        print(f"downloading {url}" + (f", {size / 1e6:,.0f} MB" if size else ""), file=sys.stderr)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            sha.update(chunk)
            total += len(chunk)
            if time.monotonic() - shown > 2:
                shown = time.monotonic()
                print(f"  {total / 1e6:,.0f} MB" + (f" of {size / 1e6:,.0f}" if size else ""), file=sys.stderr)
    if size and total != size:
        raise OSError(f"it ended after {total:,} of {size:,} bytes")
    return sha.hexdigest()
