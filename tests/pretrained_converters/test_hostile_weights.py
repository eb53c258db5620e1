"""Malicious files and archives in place of weights: refused, and nothing in them is run or written."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.checks import ROOT

from pretrained_converters import convert, converters
from pretrained_converters.sources import read_source
from vae_jax.errors import UserError

GOOD = (ROOT / "tests" / "golden" / "torch_zip.pth").read_bytes()
LEGACY = (ROOT / "tests" / "golden" / "torch_legacy.pth").read_bytes()


class Touch:
    """A pickle that creates a file when it is loaded in the usual way."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def torch_zip(content) -> bytes:
    """As torch.save would write it."""
    with zipfile.ZipFile(data := io.BytesIO(), "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(content))
    return data.getvalue()


def tar_of(kind: str, *entries: tuple[str, bytes | None, bytes, str]) -> bytes:
    """A tar archive of (name, type or None for a file, content, target of a link)."""
    with tarfile.open(fileobj=(data := io.BytesIO()), mode=f"w:{kind}") as archive:
        for name, type_, content, link in entries:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = type_ or tarfile.REGTYPE, len(content), link
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    with zipfile.ZipFile(data := io.BytesIO(), "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return data.getvalue()


def evil_files(mark: Path) -> dict[str, bytes]:
    """Pickles that would create the file `mark`, in every supported format."""
    return {
        "zip.pth": torch_zip({"weight": Touch(mark)}),
        "legacy.pth": LEGACY[:137] + pickle.dumps({"weight": Touch(mark)}),
        "numpy.ckpt": pickle.dumps({"params": Touch(mark)}, protocol=2),
        "bare.pth": pickle.dumps(Touch(mark), protocol=0),
    }


@pytest.mark.parametrize("name", evil_files(Path()))
@pytest.mark.parametrize("wrap", [
    None, lambda name, data: tar_of("gz", (name, None, data, "")), lambda name, data: zip_of((name, data))
])  # fmt: skip
def test_pickles_are_not_executed(name, wrap, tmp_path, capsys):
    """Bare and in an archive; through the command, which ends with one message and exit code 2."""
    mark, data = tmp_path / "executed", evil_files(tmp_path / "executed")[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "home"))
        if name != "zip.pth":
            pickle.loads(data[137:] if name == "legacy.pth" else data)
            mark.unlink()  # an ordinary load does execute it
        source = tmp_path / (name if wrap is None else f"{name}.archive")
        source.write_bytes(data if wrap is None else wrap(name, data))
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            convert.main(["alexnet", f"--source={source}"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and ("refused and was not run" in error or "not a weights file" in error)
    assert sorted(tmp_path.rglob("*")) == before


STRANGE = {
    "a way out": ("../../weights.pth", None, GOOD, ""),
    "an absolute name": ("/tmp/weights.pth", None, GOOD, ""),
    "a symbolic link": ("weights.pth", tarfile.SYMTYPE, b"", "/etc/passwd"),
    "a hard link": ("weights.pth", tarfile.LNKTYPE, b"", "/etc/passwd"),
    "a device": ("weights.pth", tarfile.CHRTYPE, b"", ""),
    "a pipe": ("weights.pth", tarfile.FIFOTYPE, b"", ""),
    "the same name again": ("good/weights.pth", None, GOOD, ""),
}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("strange", STRANGE)
def test_strange_archives_are_refused(strange, kind, tmp_path, monkeypatch):
    """Even with good weights beside the strange entry; nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path / "home"))
    path = tmp_path / "archive"
    path.write_bytes(tar_of(kind, ("good/weights.pth", None, GOOD, ""), STRANGE[strange]))
    with pytest.raises(UserError, match="archive is refused and was not unpacked: .*weights.pth' is a link"):
        converters.CONVERTERS["alexnet"](path, None)
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(tar_of(kind, ("good/weights.pth", None, GOOD, "")))
    assert "plain.weight" in read_source(path, ()).arrays  # and without it, it is read


@pytest.mark.parametrize("name", ["../weights.pth", "/weights.pth", "a/../../weights.pth"])
def test_strange_zips_are_refused(name, tmp_path):
    path = tmp_path / "archive.whl"
    path.write_bytes(zip_of(("good.txt", b""), (name, GOOD)))
    with pytest.raises(UserError, match="archive.whl is refused"):
        read_source(path, ())


def test_html_pages_in_place_of_files(tmp_path):
    """What a server sends to those who are not logged in, under every name that weights have."""
    page = b"<!DOCTYPE html><html><body>Please log in.</body></html>"
    for name in ("x.pth", "x.safetensors", "x.tar.gz", "x.whl", "x.caffemodel"):
        (tmp_path / name).write_bytes(page)
        with pytest.raises(UserError, match="is not a weights file of a known format"):
            read_source(tmp_path / name, ())
    (tmp_path / "x.whl").write_bytes(zip_of(("weights.pth", page)))
    with pytest.raises(UserError, match="x.whl: weights.pth is not a weights file"):
        read_source(tmp_path / "x.whl", ())
