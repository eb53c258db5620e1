"""Reads the Keras files of the DFC-VAE article into our names; layouts are the same (HWIO, NHWC flattening).

Of all that Keras 2 and 3 write: `save` as .h5 and .keras, `save_weights` as .h5 and .weights.h5. Keras appends numbers
to the names of layers, starting anywhere and sometimes twice (conv2d_5, conv2d_6_1, conv2d_7_1 are three convolutions
in a row), so that only the order of the layers of one kind counts, which is that of the file's lists of names. In
.weights.h5, layers are called and numbered by their class, from 0 in each model; Keras 3 adds their own names.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.errors import UserError

# Our names, in Keras's order, and what Keras calls them without numbers: first the article's own name.
CLASSIFIER = {"conv1": ("conv2d",), "conv2": ("conv2d",), "conv3": ("conv2d",)}
CLASSIFIER |= {"dense": ("dense",), "logits": ("dense",)}
ENCODER = {f"conv{i}": ("conv2d",) for i in range(1, 5)}
ENCODER |= {"dense": ("dense",), "mean": ("t_mean", "dense"), "logvar": ("t_log_var", "dense")}
DECODER = {"dense": ("dense",), "upconv": ("conv2d_transpose",), "image": ("image", "conv2d")}
VAE = {"encoder": ("encoder", "functional"), "decoder": ("decoder", "functional", "sequential")}


class Layer(NamedTuple):
    """A layer or model of a file: its name, its class (or again its name), and what it holds.

    arrays: {'kernel': ..., 'bias': ...} of a layer. layers: those of a model.
    """

    name: str
    kind: str
    arrays: dict[str, np.ndarray]
    layers: list["Layer"]


def read_classifier(path: Path) -> dict[str, np.ndarray]:
    """The whole classifier: {'conv1/kernel': ...}."""
    return _arrays(_assign(_read(path), CLASSIFIER, path))


def read_vae(path: Path) -> dict[str, np.ndarray]:
    """A VAE of an encoder and a decoder: {'encoder/conv1/kernel': ..., 'decoder/image/bias': ...}."""
    found = _read(path)
    models = _assign([layer for layer in found if layer.layers], VAE, path)
    if missing := [part for part in VAE if part not in models]:
        names = ", ".join(layer.name for layer in found) or "nothing"
        raise UserError(f"{path} has no {missing[0]}; it has {names}. Is it the file of a VAE?")
    return {
        f"{part}/{name}": array
        for part, names in (("encoder", ENCODER), ("decoder", DECODER))
        for name, array in _arrays(_assign(models[part].layers, names, path)).items()
    }


def _arrays(layers: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    return {f"{name}/{leaf}": array for name, layer in layers.items() for leaf, array in layer.arrays.items()}


def _assign(layers: Iterable[Layer], names: Mapping[str, tuple[str, ...]], path: Path) -> dict[str, Layer]:
    """Every layer under our name, the first that is left for its name or else its kind; UserError if there is none."""
    assigned, left = {}, dict(names)
    for layer in layers:
        stems = (_stem(layer.name), _stem(layer.kind))
        ours = next((ours for stem in stems for ours, theirs in left.items() if stem in theirs), None)
        if ours is None:
            has, expected = (", ".join(all_names) for all_names in ([each.name for each in layers], names))
            raise UserError(f"{path} has an unexpected layer {layer.name}. It has {has}; expected {expected}.")
        assigned[ours] = layer
        del left[ours]
    return assigned


def _stem(name: str) -> str:
    """conv2d_6_1 -> conv2d."""
    return re.sub(r"(_\d+)+$", "", name)


def _read(path: Path) -> list[Layer]:
    """The layers with weights, in order."""
    import h5py

    try:
        with h5py.File(_unzipped(path), "r") as file:
            found = _by_class(file) if "vars" in file else _by_name(file.get("model_weights", file))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a readable file of Keras's weights (.h5, .keras): {error}.") from None
    return found


def _unzipped(path: Path) -> Path | io.BytesIO:
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _by_name(group: Any) -> list[Layer]:
    """Of .h5: groups with lists of names, of a model's layers or of a layer's or nested model's weights."""
    found = []
    for name in _names(group, "layer_names"):
        layers: dict[str, dict[str, np.ndarray]] = {}
        for weight in _names(group[name], "weight_names"):
            *_, layer, leaf = weight.split("/")
            layers.setdefault(layer, {})[leaf.removesuffix(":0")] = np.asarray(group[name][weight], np.float32)
        nested = [Layer(layer, layer, arrays, []) for layer, arrays in layers.items()]
        found += nested if len(nested) == 1 else [Layer(name, name, {}, nested)] if nested else []
    return found


def _names(group: Any, which: str) -> list[str]:
    if which not in group.attrs:
        raise ValueError(f"{group.name} has no list of {which}")
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs[which]]


def _by_class(group: Any) -> list[Layer]:
    """Of .weights.h5: groups called by class, or by attribute in a subclass, with weights by number."""
    found, layers = [], group.get("layers", group)
    for kind in sorted(layers.keys() - {"vars"}, key=lambda kind: (_stem(kind), len(kind), kind)):
        layer = layers[kind]
        variables = layer.get("vars", {})
        weights = [np.asarray(variables[number], np.float32) for number in sorted(variables)]
        nested = _by_class(layer) if "layers" in layer else []
        if weights or nested:
            name = variables.attrs.get("name", kind) if "vars" in layer else kind
            found.append(Layer(name, kind, dict(zip(("kernel", "bias"), weights, strict=False)), nested))
    return found
