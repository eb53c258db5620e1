"""Paths as users give them."""

import os
import re
from pathlib import Path

from vae_jax.errors import UserError


def is_address(given: str | Path) -> bool:
    """Whether this is the address of something that is not on this machine, such as gs://BUCKET/RUN."""
    return re.match(r"[a-z][a-z0-9+.-]*://", str(given)) is not None


def local_path(given: str | Path) -> Path:
    """The path with ~ expanded. UserError for the address of a bucket, or where ~ is not known."""
    text = os.path.expanduser(given)
    if scheme := re.match(r"([a-z][a-z0-9+.-]+):/", text):
        raise UserError(
            f"{given} is not a folder or file of this machine, and {scheme[1]}: is not read here. Copy it to "
            "this machine first, or choose another."
        )
    if re.match(r"~(/|$)", text):
        raise UserError(f"{given}: this user has no home folder. Set the environment variable HOME, or write ~ out.")
    return Path(text)
