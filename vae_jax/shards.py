"""Copies images into shards (array_record files) that are read by index, in memory or streamed.

    python -m vae_jax.shards --source=NAME [--dir=DIR] --output=OUT [--splits=train,test] [--images_per_shard=10000]
    python -m vae_jax.shards --output=OUT [--splits=train,test] --verify

NAME is what --config.data.name would be: image_folder, archives, parquet, ... or a name in tensorflow-datasets; DIR is
its data.dir. Then --config.data.name=shards --config.data.dir=OUT reads what was copied. Files are copied as they are;
arrays become PNGs of the same pixels. The same command goes on where it was stopped, makes again what is missing or
whose SHA-256 is wrong, and does nothing if all is done. --verify looks at the sums alone and writes nothing.
"""

import contextlib
import fcntl
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from vae_jax import cli
from vae_jax.data import read_stored
from vae_jax.data.crops import own_crop
from vae_jax.data.image_files import tell
from vae_jax.data.shard_files import VERSION, command, read_manifest, write_shard, wrong_sum
from vae_jax.data.slices import parse_split
from vae_jax.data.stored import Content, Stored
from vae_jax.errors import UserError
from vae_jax.runs.workdir import write_text
from vae_jax.strict_json import to_json

TOLD_EVERY = 5.0  # seconds


def make_shards(source: str, folder: str, output: Path, splits: Sequence[str], images_per_shard: int) -> None:
    """Copies these splits of the data set `source`; UserError for what cannot be read or written."""
    output.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        for split in splits:
            stored = _source(source, folder, split, [other for other in splits if other != split])
            place = os.path.abspath(folder) if folder else ""
            about = {"name": source, "dir": place, "split": split, "splits": list(splits), "sha256": stored.identity}
            manifest = _begin(output, stored, about, images_per_shard)
            _complete(output, split, manifest, stored)
            _summary(split, manifest)


def _source(source: str, folder: str, split: str, others: Sequence[str]) -> Stored:
    try:
        stored = read_stored(source, folder, split, others)
    except UserError as error:  # which speaks of configs
        text = str(error).replace("--config.data.dir", "--dir").replace("data.dir", "--dir")
        raise UserError(text) from None
    if not stored.names:
        raise UserError(f"{source}, split {split}, has no images. {tell(stored.left_out)}".strip())
    if stored.left_out:
        print(f"{split}: {tell(stored.left_out)}", flush=True)
    return stored


def _begin(output: Path, stored: Stored, about: Mapping[str, Any], images_per_shard: int) -> dict[str, Any]:
    """The manifest of an earlier start, without the shards that are wrong, or a new one without any."""
    split, images = about["split"], len(stored.names)
    new = {"version": VERSION, "images": images, "classes": list(stored.classes), "source": dict(about)}
    new |= {"images_per_shard": images_per_shard, "shards": [None] * -(-images // images_per_shard)}
    if not (output / f"{split}.json").is_file():
        return new
    found = read_manifest(output, split, of_any_version=True)
    if found["version"] != VERSION:
        print(f"{split}: made again, as its shards are of version {found['version']}", file=sys.stderr)
        return new
    _check_same(output, found, new)
    wrong = _wrong(output, split, found["shards"])
    for number in wrong.keys() & {i for i, shard in enumerate(found["shards"]) if shard is not None}:
        print(f"{split}: {found['shards'][number]['file']} is {wrong[number]}, and made again", file=sys.stderr)
    return new | {"shards": [None if i in wrong else shard for i, shard in enumerate(found["shards"])]}


def _check_same(output: Path, found: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """UserError where the shards that are there are of another source, or were cut elsewhere."""
    split, name, was = new["source"]["split"], new["source"]["name"], found["source"]["name"]
    if was != name:
        raise UserError(f"{output} has shards of {was}, split {split}, not of {name}. Choose another --output.")
    if found["source"]["sha256"] != new["source"]["sha256"]:
        raise UserError(
            f"{name}, split {split}, has changed since its shards in {output} were begun: {found['images']:,} images "
            f"then, {new['images']:,} now, or other names, sizes or labels{_splits(found, new)}. Choose another "
            f"--output, or delete {output / f'{split}.json'} to make all of them again."
        )
    if found["images_per_shard"] != new["images_per_shard"]:
        raise UserError(
            f"The shards of {split} in {output} have --images_per_shard={found['images_per_shard']}, not "
            f"{new['images_per_shard']}. Give the same number, or choose another --output."
        )


def _splits(found: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why labels may be others although nothing has changed: classes are those of all splits."""
    was, now = (",".join(one["source"]["splits"]) for one in (found, new))
    return "" if was == now else f" (as the splits were {was} then, and are {now} now)"


def _wrong(output: Path, split: str, shards: Sequence[Mapping[str, Any] | None]) -> dict[int, str]:
    """{number: what is wrong} of shards that are missing, or not what they were."""
    wrong, told = {}, time.monotonic()
    for number, shard in enumerate(shards):
        if why := wrong_sum(output, shard):
            wrong[number] = why
        if time.monotonic() - told > TOLD_EVERY:
            print(f"{split}: checked {number + 1:,} of {len(shards):,} shards", file=sys.stderr)
            told = time.monotonic()
    return wrong


def _complete(output: Path, split: str, manifest: dict[str, Any], stored: Stored) -> None:
    """Makes the shards that are missing, and notes each in the manifest."""
    shards, size, images = manifest["shards"], manifest["images_per_shard"], manifest["images"]
    missing = [number for number, shard in enumerate(shards) if shard is None]
    needed = sum(min(size, images - number * size) for number in missing)
    told, rows, following = _tell(split, needed, images, len(shards)), iter(()), -1
    for number in missing:
        first, stop = number * size, min((number + 1) * size, images)
        rows = rows if first == following else told(first, stored.read(first), stored.names)
        entry = write_shard(
            output / f"{split}-{number:05}-of-{len(shards):05}.array_record", itertools.islice(rows, stop - first)
        )
        if entry["images"] != stop - first:
            raise UserError(f"{split} ends after {first + entry['images']:,} of {images:,} images. Is it complete?")
        shards[number], following = entry, stop
        write_text(output / f"{split}.json", to_json(manifest))


def _tell(split: str, needed: int, images: int, count: int) -> Any:
    """A function that gives the images of a source their names, and tells now and then how far it is."""
    start = last = time.monotonic()
    made = 0

    def told(first: int, rows: Iterator[tuple[Content, int | None]], names: Sequence[str]) -> Iterator[Any]:
        nonlocal last, made
        for i, (content, label) in enumerate(rows, first):
            yield names[i], content, label
            made += 1
            if (now := time.monotonic()) - last > TOLD_EVERY:
                last, rate = now, made / (now - start)
                there = f"{images - needed + made:,} of {images:,} images"
                print(f"{split}: {there}, {rate:,.0f} images/s, {count:,} shards in all", file=sys.stderr)

    return told


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """UserError if another process is writing there."""
    with open(output / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{output} is being written by another process. Wait for it, or stop it.") from None
        except OSError as error:  # some network file systems do not support locks
            print(f"warning: {output} cannot be locked ({error}): write there only once at a time", file=sys.stderr)
        yield


def _summary(split: str, manifest: Mapping[str, Any]) -> None:
    size = sum(shard["bytes"] for shard in manifest["shards"])
    print(f"{split}: {manifest['images']:,} images, {size:,} bytes, shards: {len(manifest['shards']):,}", flush=True)
    if unreadable := [reason for shard in manifest["shards"] for reason in shard["unreadable"]]:
        print(f"{split}: {len(unreadable):,} of them have no content, such as {unreadable[0]}", flush=True)


def verify_shards(output: Path, splits: Sequence[str]) -> None:
    """UserError unless all shards of these splits are there and have the SHA-256 that they had."""
    for split in splits:
        manifest = read_manifest(output, split)
        if wrong := _wrong(output, split, manifest["shards"]):
            lines = "".join(f"\n  number {number} is {why}" for number, why in [*wrong.items()][:10])
            raise UserError(
                f"{len(wrong):,} of the {len(manifest['shards']):,} shards of {split} in {output} are wrong:{lines}\n"
                f"Make them again with\n  {command(manifest, output)}"
            )
        _summary(split, manifest)


def main() -> None:
    """The command line."""
    splits = list(dict.fromkeys(SPLITS.value))
    if not splits or any(parse_split(split)[0] != split for split in splits):
        raise UserError(f"--splits is {','.join(splits)!r}; expected names of whole splits, such as train,test.")
    output = Path(OUTPUT.value)
    if VERIFY.value:
        verify_shards(output, splits)
        return
    if not SOURCE.value:
        raise UserError(f"--source=... is missing. {flags.FLAGS['source'].help}")
    make_shards(SOURCE.value, DIR.value or "", output, splits, IMAGES_PER_SHARD.value)
    crop = own_crop(SOURCE.value)
    box = f" --config.data.crop={crop}" if crop != "square" else ""
    print(f"read them with --config.data.name=shards --config.data.dir={output}{box}")


if __name__ == "__main__":
    SOURCE = flags.DEFINE_string("source", None, "What the images are in now, a name as for --config.data.name.")
    DIR = cli.path_flag("dir", "Its folder, as for --config.data.dir.")
    OUTPUT = cli.path_flag("output", "Folder of the shards.", required=True)
    SPLITS = flags.DEFINE_list("splits", "train,test", "Splits to copy, separated by commas.")
    IMAGES_PER_SHARD = flags.DEFINE_integer("images_per_shard", 10_000, "Images in each shard.", lower_bound=1)
    VERIFY = flags.DEFINE_boolean("verify", False, "Only checks the SHA-256 of the shards that are there.")
    cli.run(main)
