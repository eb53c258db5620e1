"""Upscaling folders: tiles without seams, every kind of image, nothing overwritten."""

import numpy as np
import pytest
from helpers.upscaling import config_of, drawn, photographs
from PIL import Image

from vae_jax import upscale
from vae_jax.errors import UserError
from vae_jax.inference import Model
from vae_jax.upscale import upscale_folder, upscale_tiled


@pytest.fixture(scope="module")
def model():
    """A model with spatial latents."""
    return Model(drawn(config_of("x2,pixel")))


def test_tiles_have_no_seams(model):
    """All tiles have the same size; with too small a margin around a cut there would be seams."""
    image = photographs(70, 87)[0]
    whole = np.asarray(model.upscale(image[None])[0])
    seen = []
    calls = model.upscale
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "upscale", lambda images: seen.append(images.shape) or calls(images))
        tiled = upscale_tiled(model, image, tile=32)
        assert model.receptive_radius == 8 and set(seen) == {(1, 32, 32, 3)} and len(seen) == 4 * 5
        assert tiled.dtype == np.uint8 and tiled.shape == (140, 174, 3)
        np.testing.assert_allclose(tiled, 255 * whole, rtol=0, atol=0.501)
        patch.setattr(model, "receptive_radius", 2)
        assert np.abs(upscale_tiled(model, image, tile=32) - 255 * whole).max() > 3


def test_tiles_cover_a_side_once():
    for length in (5, 32, 33, 48, 49, 200):
        tiles = list(upscale._tiles(length, 32, 8))
        covered = np.zeros(length, int)
        for seen, kept in tiles:
            assert seen.stop - seen.start == min(length, 32)
            assert kept.start == 0 or kept.start - seen.start >= 8
            assert kept.stop == length or seen.stop - kept.stop >= 8
            covered[kept] = 1
        assert covered.all()


@pytest.fixture
def folder(tmp_path):
    """Colour, grey, transparent, 16-bit, rotated and broken images, and a file that is not an image."""
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    colours = photographs(20, 30)[0]
    Image.fromarray(colours).save(images / "colour.png")
    Image.fromarray(colours[..., 0]).save(images / "deep" / "grey.bmp")
    Image.fromarray(np.dstack([colours, np.zeros((20, 30), np.uint8)])).save(images / "transparent.png")
    Image.fromarray(np.full((6, 7), 65535, np.uint16)).save(images / "deep" / "sixteen.tif")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    Image.fromarray(colours).save(images / "side.jpg", exif=exif, quality=95)
    (images / "broken.jpg").write_bytes(b"no image")
    (images / "notes.txt").write_text("none")
    (images / ".hidden.png").write_bytes(b"")
    return images


def test_a_folder(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(upscale, "load_model", lambda workdir: model)
    output = tmp_path / "out"
    skipped = upscale_folder("run", str(folder), str(output))
    assert set(skipped) == {"broken.jpg"}
    made = {str(path.relative_to(output)): np.asarray(Image.open(path)) for path in output.rglob("*.png")}
    assert {name: array.shape for name, array in made.items()} == {
        "colour.png": (40, 60, 3), "deep/grey.png": (40, 60, 3), "transparent.png": (40, 60, 3),
        "deep/sixteen.png": (12, 14, 3), "side.png": (60, 40, 3),
    }  # fmt: skip
    colours = photographs(20, 30)[:1]
    np.testing.assert_allclose(made["colour.png"], 255 * model.upscale(colours)[0], rtol=0, atol=0.501)
    for name, value in (("transparent.png", colours), ("deep/sixteen.png", np.zeros((1, 6, 7, 3)))):
        white = 255 * model.upscale(np.ones(value.shape))[0]
        np.testing.assert_allclose(made[name], white, rtol=0, atol=0.501)
    turned = np.rot90(made["side.png"].astype(float))  # the jpeg is not exactly the photograph
    straight = 255 * np.asarray(model.upscale(np.rot90(colours[0], -1)[None])[0])
    assert np.abs(turned - np.rot90(straight)).mean() < 10
    told = capsys.readouterr().out
    assert "Left out: hidden, 1 (.hidden.png); not images by their extension, 1 (.txt)." in told
    assert "colour.png, 30x20 -> 60x40" in told and "skipped broken.jpg: UnidentifiedImageError" in told

    with pytest.raises(UserError, match="colour.png already exists and is not overwritten. Choose another --output"):
        upscale_folder("run", str(folder), str(output))


def test_mistakes(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(upscale, "load_model", lambda workdir: model)
    output = str(tmp_path / "out")
    with pytest.raises(UserError, match="There is no folder nowhere"):
        upscale_folder("run", "nowhere", output)
    with pytest.raises(UserError, match=r"takes images \[N, h, w, 3\], not \(0, 8, 8, 3\)"):
        model.upscale(np.zeros((0, 8, 8, 3)))
    (folder / "colour.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="would both be written to"):
        upscale_folder("run", str(folder), output)
    (tmp_path / "one").mkdir()
    with pytest.raises(UserError, match="No images in"):
        upscale_folder("run", str(tmp_path / "one"), output)
    (tmp_path / "one" / "broken.png").write_bytes(b"")
    with pytest.raises(UserError, match="None of the images in"):
        upscale_folder("run", str(tmp_path / "one"), output)


def test_a_vector_takes_one_size(folder, tmp_path, monkeypatch):
    """An image of that size is upscaled; the others are listed with their sizes."""
    vector = Model(drawn(config_of("x2,document,pixel")))
    monkeypatch.setattr(upscale, "load_model", lambda workdir: vector)
    Image.fromarray(photographs(16, 16)[0]).save(folder / "fits.png")
    skipped = upscale_folder("run", str(folder), str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["fits.png"]
    assert "takes images [N, 16, 16, 3], not (1, 20, 30, 3)" in skipped["colour.png"]
