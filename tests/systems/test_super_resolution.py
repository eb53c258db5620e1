"""The super-resolution VAE: inputs, outputs and comparisons, against Pillow, scipy and scikit-image."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.upscaling import SIZE, config_of, drawn, judged_by_scikit_image, low_by_hand, photographs, resized
from PIL import Image

from vae_jax.cli import load_config
from vae_jax.compare import comparison as compare
from vae_jax.data import load_dataset
from vae_jax.data.contract import in_memory
from vae_jax.errors import UserError
from vae_jax.evaluate import make_evaluate, summarise
from vae_jax.experiment import check_shapes, make_experiment
from vae_jax.inference import Model, load_model
from vae_jax.metrics.upscaling import UPSCALING
from vae_jax.models.super_resolution import VectorEncoder, VectorUpscaler, depth_to_space
from vae_jax.reports import figures
from vae_jax.state import flatten
from vae_jax.systems import make_system
from vae_jax.train import train


@pytest.mark.parametrize("variants", ["x2", "x4,pixel", "x2,document", "x4,document"])
def test_every_variant_fits_together(variants):
    config = load_config(f"{ROOT}/configs/sr_vae_pets.py:{variants},smoke")
    experiment = make_experiment(config, (64, 64, 3), labelled=False)
    frozen = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(experiment.system.frozen))
    check_shapes(config, experiment, frozen)
    rule = {"l2": 0.001, "kl": 1.0 if "document" in variants else 1e-7}
    rule |= {} if "pixel" in variants else {"feature": 0.8}
    assert experiment.system.rules == {"vae": rule}
    assert config.terms.l2.reduction == "sum"
    if "pixel" not in variants:
        assert (config.terms.feature.taps, config.terms.feature.reduction) == (("relu3_3",), "mean")


def test_the_loss_by_hand():
    """With a last convolution of zeros, as before the first step, the spatial network is Pillow's bicubic."""
    config = config_of("x2,pixel")
    target = photographs(SIZE, SIZE + 8).astype(np.float32) / 255
    system, params, low = make_system(config, (SIZE, SIZE + 8, 3)), drawn(config).state.params, low_by_hand(target, 2)
    params["vae"]["decoder"]["sub_pixels"] = jax.tree.map(np.zeros_like, params["vae"]["decoder"]["sub_pixels"])

    @jax.jit
    def say(batch, low):
        values, _ = system.terms(params, {}, {}, batch, jax.random.key(1), 0)
        return values, system.encode(params, {}, {}, low), system.evaluate(params, {}, {}, batch)[1]

    values, code, judged = say({"image": target}, low)
    recon = np.stack([resized(image, (SIZE, SIZE + 8)) for image in low])
    np.testing.assert_allclose(values["l2"], ((recon - target) ** 2).sum(axis=(1, 2, 3)).mean(), rtol=1e-4)
    mean, logvar = (np.asarray(part, np.float64) for part in code)
    np.testing.assert_allclose(mean[..., 2:], low)
    assert np.isneginf(logvar[..., 2:]).all()
    m, v = mean[..., :2], logvar[..., :2]
    kl = 0.5 * (m**2 + np.exp(v) - 1 - v).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(values["kl"], kl.mean(), rtol=1e-4)
    np.testing.assert_allclose(judged["kl"], kl, rtol=1e-4)


def test_the_gradient_by_hand():
    """Of 0.001 l2 + KL with the document's networks, against the loss written out with std = exp(logvar / 2)."""
    config = config_of("x2,document,pixel")
    target = photographs()[:2].astype(np.float32) / 255
    system, key, params = make_system(config, (SIZE, SIZE, 3)), jax.random.key(1), drawn(config).state.params
    low = low_by_hand(target, 2)
    eps = jax.random.normal(key, (2, 256))

    def by_hand(params):
        mean, logvar = VectorEncoder(256).apply({"params": params["vae"]["encoder"]}, low)
        z = mean + jnp.exp(0.5 * logvar) * eps
        recon = VectorUpscaler((SIZE, SIZE, 3), 2).apply({"params": params["vae"]["decoder"]}, z)
        kl = -0.5 * jnp.sum(1 + logvar - mean**2 - jnp.exp(logvar))
        return (0.001 * jnp.sum((recon - target) ** 2) + kl) / 2

    def ours(params):
        values, _ = system.terms(params, {}, {}, {"image": target}, key, 0)
        return sum(system.rules["vae"][name] * value for name, value in values.items())

    (value, gradient), (expected, reference) = (jax.jit(jax.value_and_grad(f))(params) for f in (ours, by_hand))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    reference = flatten(reference)
    for path, leaf in flatten(gradient).items():
        np.testing.assert_allclose(leaf, reference[path], atol=1e-4 * np.abs(reference[path]).max(), err_msg=path)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_reference_is_the_high_resolution_target(factor):
    """Returning the input scores scikit-image's distance from the target, which is large; were the input the reference,
    as in the document, it would score 100 dB. Returning the target does score 100 dB."""
    config = config_of(f"x{factor},pixel")
    system = make_system(config, (SIZE, SIZE, 3))
    dataset, run = in_memory(photographs()), drawn(config)
    target = photographs().astype(np.float32) / 255
    low = low_by_hand(target, factor)
    names = [name for name in UPSCALING if name.endswith(str(factor))] + ["mse"]

    def judged(recon):
        system_ = dataclasses.replace(system, evaluate=lambda params, stats, frozen, batch: (recon(batch), {}))
        return make_evaluate(system_, dataset, run.mesh, 8, names)(run.state, {})

    given_back = judged(system.baselines["nearest"])
    known = judged(lambda batch: batch["image"])
    by_hand = {
        "nearest": low.repeat(factor, axis=1).repeat(factor, axis=2),
        "bicubic": np.stack([resized(image, (SIZE, SIZE)) for image in low]).clip(0, 1),
    }
    for name in names[:-1]:
        judge = judged_by_scikit_image(name)
        for baseline, recon in by_hand.items():
            expected = [judge(t, r) for t, r in zip(target, recon, strict=True)]
            np.testing.assert_allclose(given_back[f"{baseline}/{name}"], expected, rtol=1e-4)
        np.testing.assert_allclose(given_back[name], given_back[f"nearest/{name}"], rtol=1e-6)
        best = 100 if name.startswith("psnr") else 1
        np.testing.assert_allclose(known[name], best, rtol=1e-5)
        assert np.all(given_back[name] < (60 if best == 100 else 0.9999))
    summary = summarise(given_back)
    assert list(summary["baselines"]) == ["nearest", "bicubic"]
    mse = np.square(by_hand["bicubic"] - target).mean()
    np.testing.assert_allclose(summary["baselines"]["bicubic"]["mse"], mse, rtol=1e-4)


# ---- the networks ----------------------------------------------------------------------------------------------------


def test_depth_to_space():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 12)).astype(np.float32)
    y = np.asarray(depth_to_space(x, 2))
    assert y.shape == (2, 6, 10, 3)
    for a in range(2):
        for b in range(2):
            np.testing.assert_array_equal(y[:, a::2, b::2], x[..., 3 * (2 * a + b) : 3 * (2 * a + b) + 3])


@pytest.mark.parametrize("factor", [2, 4])
def test_the_documents_networks(factor):
    """16, 32, 64 halved three times; back by 32, 16, 3, with one more doubling of 64 per factor of two."""
    shapes = jax.eval_shape(lambda: make_system(config_of(f"x{factor},document,pixel", image_size=64), (64, 64, 3))
                            .init(jax.random.key(0), {"image": jnp.zeros((1, 64, 64, 3))})[0]["vae"])  # fmt: skip
    kernels = {path: leaf.shape for path, leaf in flatten(shapes).items() if path.endswith("kernel")}
    inside = (64 // factor // 8) ** 2 * 64
    expected = {
        "encoder/conv1": (3, 3, 3, 16),
        "encoder/conv2": (3, 3, 16, 32),
        "encoder/conv3": (3, 3, 32, 64),
        "encoder/mean": (inside, 256),
        "encoder/logvar": (inside, 256),
        "decoder/dense": (256, inside),
    }
    widths = [64] * (1 + factor // 2) + [32, 16, 3]
    names = [f"conv{i + 1}" for i in range(len(widths) - 2)] + ["image"]
    for name, (inputs, outputs) in zip(names, zip(widths, widths[1:], strict=False), strict=True):
        expected[f"decoder/{name}"] = (3, 3, outputs, inputs)
    assert kernels == {f"{name}/kernel": shape for name, shape in expected.items()}


# ---- a trained model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two steps with spatial latents, and a copy of the run with another batch size."""
    folder = tmp_path_factory.mktemp("runs")
    config = config_of("x2,pixel", steps=2, steps_per_call=1, checkpoint_every=2, eval_every=2)
    train(config.lock(), str(folder / config.name))
    shutil.copytree(folder / config.name, folder / "other")
    text = (folder / "other" / "config.json").read_text()
    (folder / "other" / "config.json").write_text(text.replace('"batch_size": 8', '"batch_size": 12'))
    return folder


def test_metrics_of_a_run_are_those_of_its_upscaled_images(runs):
    """The low resolution by scipy and Pillow, `upscale`, scikit-image: the numbers of metrics.json."""
    run = runs / "sr_vae_pets_x2_pixel"
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    model = load_model(run)
    target = load_dataset(model.config, "test").arrays["image"].astype(np.float32) / 255
    low = low_by_hand(target, 2)
    large = np.asarray(model.upscale(low))
    assert large.shape == target.shape and large.min() >= 0 and large.max() <= 1
    for name in ("psnr_rgb_x2", "ssim_y_x2"):
        judge = judged_by_scikit_image(name)
        expected = np.mean([judge(t, r) for t, r in zip(target, large, strict=True)])
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-3)
    assert set(metrics["baselines"]) == {"nearest", "bicubic"}
    np.testing.assert_allclose(model.reconstruct(target), large, atol=1e-4)


def test_sizes(runs):
    spatial, vector = load_model(runs / "sr_vae_pets_x2_pixel"), Model(drawn(config_of("x2,document,pixel")))
    assert spatial.latent_shape == (16, 16, 5) and not spatial.has_prior
    assert spatial.upscale(np.zeros((2, 10, 15, 3))).shape == (2, 20, 30, 3)
    assert spatial.encode(np.zeros((1, 9, 7, 3), np.uint8))[0].shape == (1, 9, 7, 5)
    assert vector.upscale(np.zeros((2, 16, 16, 3))).shape == (2, 32, 32, 3) and vector.has_prior
    assert vector.sample(jax.random.key(0), 2).shape == (2, 32, 32, 3)
    with pytest.raises(UserError, match=r"takes images \[N, 16, 16, 3\], not \(1, 10, 16, 3\)"):
        vector.upscale(np.zeros((1, 10, 16, 3)))
    with pytest.raises(UserError, match=r"takes images \[N, h, w, 3\], not \(1, 10, 16, 1\)"):
        spatial.upscale(np.zeros((1, 10, 16, 1)))
    with pytest.raises(UserError, match=r"decode takes latents \[N, h, w, 5\], not \(1, 4, 4, 2\)"):
        spatial.decode(np.zeros((1, 4, 4, 2)))
    assert Model(drawn(config_of("x4,pixel"))).upscale(np.zeros((1, 5, 6, 3))).shape == (1, 20, 24, 3)


def test_other_systems_do_not_upscale():
    config = load_config(f"{ROOT}/configs/vae_celeba.py:smoke")
    with pytest.raises(UserError, match="A vae does not upscale images"):
        Model(drawn(config)).upscale(np.zeros((1, 32, 32, 3)))


def test_pictures_and_comparison(runs, tmp_path):
    """Rows of nearest and bicubic in the run's picture, in the table and in the grid."""
    workdirs = [str(runs / name) for name in ("sr_vae_pets_x2_pixel", "other")]
    with Image.open(next((runs / "sr_vae_pets_x2_pixel" / "pictures").glob("reconstructions_*.png"))) as picture:
        assert picture.height == 4 * (SIZE + 2) + 2
    report = (runs / "sr_vae_pets_x2_pixel" / "report.html").read_text()
    assert "From top to bottom: nearest, bicubic, reconstructions, originals." in report
    assert "<th>metric</th><th>mean</th><th>nearest</th><th>bicubic</th>" in report
    grids = []
    image_rows = figures.image_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            figures, "image_rows", lambda rows, *a: grids.append([r[0] for r in rows]) or image_rows(rows, *a)
        )
        record = compare.compare(workdirs, tmp_path)
    names = ["originals", "nearest", "bicubic", "sr_vae_pets_x2_pixel", "other"]
    assert grids[0] == names
    metrics = json.loads((runs / "sr_vae_pets_x2_pixel" / "eval" / "metrics.json").read_text())
    for row in record["baselines"]:
        np.testing.assert_allclose(row["mean"]["psnr_y_x2"], metrics["baselines"][row["name"]]["psnr_y_x2"], rtol=1e-6)
    lines = (tmp_path / "compare.md").read_text().splitlines()
    table = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert table[2:7] == names and "PSNR Y x2 dB" in lines[2]


def test_other_factors_cannot_be_compared(runs, tmp_path):
    workdirs = [runs / "sr_vae_pets_x2_pixel", tmp_path / "other"]
    shutil.copytree(*workdirs)
    config = json.loads((workdirs[1] / "config.json").read_text())
    (workdirs[1] / "config.json").write_text(json.dumps(config | {"sigma": 1.5}))
    with pytest.raises(UserError, match="cannot be compared: sigma is 1.0 in one, 1.5 in the other"):
        compare.compare([str(workdir) for workdir in workdirs], tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factor": 3}, r"factor is 3; it must be at least 2 and divide image_size \(32\)"),
        ({"factor": 1}, "factor is 1"),
        ({"sigma": 0.0}, "sigma is 0.0; expected a standard deviation above 0, in pixels"),
        ({"image_size": 40}, "cannot be encoded: the vector encoder takes images whose sides are multiples of eight"),
        ({"decoder": {"name": "celeba"}}, "Unknown decoder.name 'celeba'. Known: sr_spatial, sr_vector"),
    ],
)
def test_mistakes(changes, words):
    config = config_of("x2,document,pixel", **changes)
    with pytest.raises(UserError, match=words):
        make_system(config, (config.image_size, config.image_size, 3))
