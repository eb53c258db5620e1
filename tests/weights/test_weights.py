"""Weights files: complete, with the right shapes and the SHA-256 of their manifest; all others are refused."""

import json
import os
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.users import unprivileged

from vae_jax.backbones import load_backbone
from vae_jax.backbones.mnist_classifier import init
from vae_jax.errors import UserError
from vae_jax.state import flatten
from vae_jax.weights import files, finding


@pytest.fixture
def tree():
    return init(jax.random.key(0), ())


@pytest.fixture
def path(tmp_path, tree):
    files.save_weights(tmp_path / "mnist_classifier.safetensors", tree, {"origin": "a test", "licence": "Apache-2.0"})
    return tmp_path / "mnist_classifier.safetensors"


def test_round_trip(path, tree):
    loaded = load_backbone("mnist_classifier", path)
    for name, leaf in flatten(tree).items():
        np.testing.assert_array_equal(flatten(loaded)[name], leaf)
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["origin"] == "a test" and len(manifest["sha256"]) == 64


def test_where_weights_are_looked_up(path, monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    assert finding.find_weights("mnist_classifier") == path
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "empty"))
    assert finding.find_weights("mnist_classifier").parent == finding.SHIPPED
    with pytest.raises(UserError, match="(?s)vgg99.safetensors is in neither .*empty nor .*shipped.*is not published"):
        finding.find_weights("vgg99")


def test_shipped_weights_are_small_and_intact():
    assert (finding.SHIPPED / "mnist_classifier.safetensors").stat().st_size < 1_000_000
    load_backbone("mnist_classifier", finding.SHIPPED / "mnist_classifier.safetensors")


def test_weights_that_may_not_be_read(tree):
    """The file is named, never told to be missing or damaged."""
    with tempfile.TemporaryDirectory() as folder:
        files.save_weights(path := Path(folder) / "mine.safetensors", tree, {})
        os.chmod(folder, 0o755)
        for closed in (path, path.parent):
            closed.chmod(0)
            for read in (files.stored_names, lambda path: files.load_weights(path, tree)):
                with unprivileged(), pytest.raises(PermissionError, match=str(path)):
                    read(path)
            closed.chmod(0o755)


def test_damaged_files(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match="damaged or does not match its manifest"):
        load_backbone("mnist_classifier", path)
    path.write_bytes(whole)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(UserError, match="is not a weights manifest"):
        load_backbone("mnist_classifier", path)
    path.with_suffix(".json").unlink()
    with pytest.raises(UserError, match="mnist_classifier.json is missing"):
        load_backbone("mnist_classifier", path)


def test_the_right_sum_of_a_wrong_file(path):
    import hashlib

    data = b"\x80\x04cos\nsystem\n(S'true'\ntR."  # a pickle: refused, not executed
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(UserError, match="not a safetensors file"):
        load_backbone("mnist_classifier", path)


def test_wrong_shapes_list_what_is_missing_and_unexpected(path, tree):
    tree = {**tree, "dense": {**tree["dense"], "kernel": np.zeros((100, 64), np.float32)}}
    tree["extra"] = {"bias": np.zeros(3, np.float32)}
    del tree["conv1"]
    files.save_weights(path, tree, {})
    with pytest.raises(UserError) as error:
        load_backbone("mnist_classifier", path)
    missing, unexpected = str(error.value).splitlines()[1:]
    assert missing.startswith("  missing: ") and unexpected.startswith("  unexpected: ")
    assert "conv1/kernel (3, 3, 1, 32)" in missing and "dense/kernel (576, 64)" in missing
    assert "extra/bias (3,)" in unexpected and "dense/kernel (100, 64)" in unexpected
