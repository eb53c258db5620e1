"""Weights files: safetensors with a manifest beside them, `NAME.safetensors` and `NAME.json`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from vae_jax.errors import UserError
from vae_jax.paths import local_path
from vae_jax.runs.workdir import write_bytes, write_text
from vae_jax.state import flatten, unflatten
from vae_jax.strict_json import to_json
from vae_jax.weights.finding import check_file


def save_weights(path: str | Path, tree: Any, manifest: Mapping[str, Any]) -> None:
    """Writes a tree of arrays and its manifest: `manifest` (source, source_sha256, licence) and the file's SHA-256."""
    path = local_path(path)
    data = save({name: np.ascontiguousarray(leaf) for name, leaf in flatten(tree).items()})
    manifest = {**manifest, "sha256": hashlib.sha256(data).hexdigest()}
    write_bytes(path, data)
    write_text(path.with_suffix(".json"), to_json(manifest, indent=2) + "\n")


def load_weights(path: str | Path, expected: Any, whole: Any = None) -> Any:
    """Reads a weights file as a tree like `expected` (arrays or shapes); UserError unless sum, keys and shapes match.

    If `expected` is part of a network, `whole` is all of it: the file may also hold the rest.
    """
    path = local_path(path)
    manifest = path.with_suffix(".json")
    check_file(path)
    data = path.read_bytes()
    try:
        wanted = json.loads(manifest.read_text())["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{manifest} is not a weights manifest: {error!r}. Convert the weights again.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise UserError(
            f"{path} is damaged or does not match its manifest: its SHA-256 is {found}, "
            f"expected {wanted}. Convert or copy it again."
        )
    try:
        leaves = load(data)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}.") from None
    return fit(leaves, expected, str(path), whole)


def stored_names(path: Path) -> set[str]:
    """The names of the arrays in a weights file, without reading the arrays."""
    try:
        with path.open("rb"), safe_open(path, "numpy") as file:  # safe_open does not say why a file cannot be read
            return set(file.keys())
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}.") from None


def fit(leaves: Mapping[str, np.ndarray], expected: Any, source: str, whole: Any = None) -> Any:
    """Named arrays as a tree like `expected`; UserError with the differences unless names and shapes match.

    Extra leaves are allowed if they belong to `whole`.
    """
    have = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    want = {name: tuple(leaf.shape) for name, leaf in flatten(expected).items()}
    beyond = {name: tuple(leaf.shape) for name, leaf in flatten(whole).items() if name not in want}
    have = {name: shape for name, shape in have.items() if beyond.get(name) != shape}
    if have != want:
        missing, unused = sorted(want.items() - have.items()), sorted(have.items() - want.items())
        raise UserError(
            f"{source} does not match the network.\n  missing: {_list(missing)}\n  unexpected: {_list(unused)}"
        )
    return unflatten(expected, leaves)


def _list(entries: list[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in entries) or "nothing"
