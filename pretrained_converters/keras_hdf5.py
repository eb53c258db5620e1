"""Reads the Keras 2 HDF5 files of the DFC-VAE article into our names; layouts are the same (HWIO, NHWC flattening).

Layers of one kind are numbered in the order they were made, starting anywhere: conv2d_6 is the first convolution of a
model if five others were made before it.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vae_jax.errors import UserError

# Keras's kind of layer -> our names, in order.
CLASSIFIER = {"conv2d": ("conv1", "conv2", "conv3"), "dense": ("dense", "logits")}
ENCODER = {
    "conv2d": ("conv1", "conv2", "conv3", "conv4"),
    "dense": ("dense",),
    "t_mean": ("mean",),
    "t_log_var": ("logvar",),
}
DECODER = {"dense": ("dense",), "conv2d_transpose": ("upconv",), "image": ("image",)}

LAYER = re.compile(r"(?P<kind>\w+?)(_(?P<number>\d+))?")


def read_classifier(path: Path) -> dict[str, np.ndarray]:
    """`save` of the whole classifier: {'conv1/kernel': ...}."""
    return _rename(_read(path, "model_weights"), CLASSIFIER, path)


def read_vae(path: Path) -> dict[str, np.ndarray]:
    """`save_weights` of a VAE: {'encoder/conv1/kernel': ..., 'decoder/image/bias': ...}."""
    parts = {"encoder": ENCODER, "decoder": DECODER}
    return {
        f"{part}/{name}": leaf
        for part, names in parts.items()
        for name, leaf in _rename(_read(path, part), names, path).items()
    }


def _read(path: Path, group: str) -> dict[tuple[str, str], np.ndarray]:
    """All arrays below a group by (layer, 'kernel' or 'bias')."""
    import h5py

    arrays = {}

    def collect(name, node):
        if isinstance(node, h5py.Dataset):
            layer, leaf = name.split("/")[-2:]
            arrays[layer, leaf.removesuffix(":0")] = np.asarray(node, np.float32)

    try:
        with h5py.File(path, "r") as file:
            if group not in file:
                raise UserError(f"{path} has no group {group!r}; it has {', '.join(file)}. Is it the right file?")
            file[group].visititems(collect)
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file: {error}.") from None
    return arrays


def _rename(arrays: Mapping, names: Mapping[str, tuple[str, ...]], path: Path) -> dict[str, np.ndarray]:
    """Every array under our name for its layer; UserError for a layer without one."""
    ours = {}
    layers = sorted({layer for layer, _ in arrays}, key=lambda layer: int(LAYER.fullmatch(layer)["number"] or 0))
    left = {kind: list(chosen) for kind, chosen in names.items()}
    for layer in layers:
        kind = LAYER.fullmatch(layer)["kind"]
        if not left.get(kind):
            expected = ", ".join(f"{len(chosen)} of {kind}" for kind, chosen in names.items())
            raise UserError(f"{path} has an unexpected layer {layer}. It has {', '.join(layers)}; expected {expected}.")
        ours[layer] = left[kind].pop(0)
    return {f"{ours[layer]}/{leaf}": array for (layer, leaf), array in arrays.items()}
