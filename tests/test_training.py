"""Whole runs, in this process: train, stop, resume, finish, evaluate, use."""

import json
import shutil

import jax
import numpy as np
import pytest

from vae_jax import load_model
from vae_jax.backbones import load_backbone
from vae_jax.data import DATASETS
from vae_jax.data.contract import in_memory, take
from vae_jax.data.synthetic import synthetic
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, load_eval_dataset, summarise
from vae_jax.inference import load_workdir
from vae_jax.runs.workdir import check_inputs, open_workdir, read_lines
from vae_jax.train import Options, train
from vae_jax.weights.files import save_weights


def config_of(smoke, name, **changes):
    config = smoke(name)
    config.update(changes)
    return config.lock()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A DFC-VAE of the smoke size, trained once for all tests of this file."""
    from conftest import ROOT

    from vae_jax.cli import load_config

    workdir = tmp_path_factory.mktemp("runs") / "dfc"
    metrics = train(load_config(f"{ROOT}/configs/dfc_mnist.py:smoke").lock(), str(workdir))
    return workdir, metrics


def test_what_a_run_leaves(finished):
    workdir, metrics = finished
    assert json.loads((workdir / "eval" / "metrics.json").read_text()) == metrics
    assert metrics["step"] == 4 and len(metrics["state_digest"]) == 64 and metrics["examples"] == 100
    assert {"mse", "psnr", "ssim", "bce", "kl", "laplacian_variance", "blur_percent"} <= set(metrics)
    assert set(metrics["per_class"]["laplacian_variance"]) == {str(c) for c in range(10)}
    per_image = np.load(workdir / "eval" / "per_image.npz")
    assert all(per_image[name].shape == (100,) for name in per_image)
    for name in ("config.json", "report.html", "pictures/samples_0000004.png", "pictures/reconstructions_0000004.png"):
        assert (workdir / name).stat().st_size > 100
    (run,) = read_lines(workdir / "runs.jsonl")
    assert run["from_step"] == 0 and "jax" in run["versions"] and "python" in run["command"]
    steps = [line["step"] for line in read_lines(workdir / "scalars.jsonl") if "feature" in line]
    assert steps == [2, 4]
    assert list((workdir / "tensorboard").iterdir())


def test_cached_targets_change_no_curve(finished, smoke, tmp_path):
    config = config_of(smoke, "dfc_mnist", backbone={"cache_targets": True})
    metrics = train(config, str(tmp_path / "cached"))
    curves = [read_lines(workdir / "scalars.jsonl") for workdir in (finished[0], tmp_path / "cached")]
    compared = ("kl", "feature", "loss/vae", "gradient_norm/vae", "update_norm/vae")
    expected, found = ([[line[name] for name in compared] for line in curve if "kl" in line] for curve in curves)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert metrics["feature"] == pytest.approx(finished[1]["feature"], rel=1e-5)


def test_the_report_is_self_contained(finished):
    page = (finished[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4
    assert "://" not in page.split("</style>")[1] and 'src="/' not in page


def test_offline_evaluation_is_the_same(finished):
    workdir, metrics = finished
    run = load_workdir(workdir)
    offline = summarise(evaluate_run(run, load_eval_dataset(run, None)))
    assert offline == {name: metrics[name] for name in offline}


def test_an_example_does_not_depend_on_its_batch(finished):
    """Odd batch sizes, four devices: every example is evaluated exactly once, with the same result."""
    from vae_jax.evaluate import make_evaluate

    run = load_workdir(finished[0])
    dataset, frozen = load_eval_dataset(run, None), run.experiment.system.frozen()
    frozen = jax.device_put(frozen)
    big, small = (
        make_evaluate(run.experiment.system, dataset, run.mesh, size, ("psnr", "ssim"))(run.state, frozen)
        for size in (100, 12)
    )
    for name in big:
        np.testing.assert_allclose(small[name], big[name], rtol=2e-5, atol=1e-5, err_msg=name)


def test_the_same_command_again_changes_nothing(finished, smoke):
    workdir, metrics = finished
    assert train(smoke("dfc_mnist").lock(), str(workdir)) == metrics
    assert read_lines(workdir / "runs.jsonl")[-1]["from_step"] == 4


def test_another_model_in_the_workdir(finished, smoke):
    config = smoke("dfc_mnist")
    config.latents = 7
    with pytest.raises(UserError, match="(?s)holds a different run.*latents: 5 in the workdir, 7 now"):
        train(config.lock(), str(finished[0]))


def test_other_weights_in_the_workdir(finished, smoke, tmp_path):
    """Weights that have changed since are an error."""
    shutil.copytree(finished[0], tmp_path / "run")
    other = jax.tree.map(lambda leaf: 2 * leaf, load_backbone("mnist_classifier"))
    save_weights(tmp_path / "mnist_classifier.safetensors", other, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
        with pytest.raises(UserError, match="(?s)had different inputs.*frozen weights: .* in the workdir, .* now"):
            train(smoke("dfc_mnist").lock(), str(tmp_path / "run"))


def one_pixel(dataset):
    images = dataset.arrays["image"].copy()
    images[1, 2, 3] ^= 1  # of an image that is none of the sixteen whose sum is taken in any case
    return in_memory(images, dataset.arrays["label"])


def one_label(dataset):
    labels = dataset.arrays["label"].copy()
    labels[1] ^= 1
    return in_memory(dataset.arrays["image"], labels)


@pytest.mark.parametrize("change, told", [
    (one_pixel, r"  train.sha256 of all images: \w{64} in the workdir, \w{64} now"),
    (one_label, r"  train.sha256 of all labels: \w{64} in the workdir, \w{64} now"),
    (lambda dataset: take(dataset, 0, 500), "  train.images: 512 in the workdir, 500 now"),
])  # fmt: skip
def test_other_data_in_the_workdir(change, told, finished, smoke, monkeypatch):
    monkeypatch.setitem(DATASETS, "synthetic", lambda config, split: (
        change(synthetic(config, split)) if split == "train" else synthetic(config, split)
    ))  # fmt: skip
    with pytest.raises(UserError, match=f"(?s)had different inputs.*{told}.*--accept_new_data"):
        train(smoke("dfc_mnist").lock(), str(finished[0]))


def test_other_data_can_be_accepted(finished, smoke, tmp_path, monkeypatch, capsys):
    """Told and recorded, so that the next start finds nothing different; other weights and classes cannot."""
    shutil.copytree(finished[0], tmp_path / "run")
    config = smoke("dfc_mnist").lock()
    monkeypatch.setitem(DATASETS, "synthetic", lambda config, split: take(synthetic(config, split), 0, 64))
    train(config, str(tmp_path / "run"), Options(accept_new_data=True))
    assert "goes on with other data than before:\n  train.images: 512 in the workdir, 64 now" in capsys.readouterr().out
    train(config, str(tmp_path / "run"))
    inputs = json.loads((tmp_path / "run" / "inputs.json").read_text())
    for other in ({"frozen weights": "0" * 64}, {"classes": ["a"]}):
        (tmp_path / "run" / "inputs.json").write_text(json.dumps({"classes": ["b"]} | inputs))
        with pytest.raises(UserError, match="Use the same data and weights as before, or choose"):
            check_inputs(tmp_path / "run", {"classes": ["b"]} | inputs | other, accept_data=True)


def test_data_in_memory_or_not_are_the_same_inputs(finished, smoke, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    inputs = tmp_path / "run" / "inputs.json"
    before = json.loads(inputs.read_text())
    for split in ("train", "eval"):
        before[split] = {key: before[split][key] for key in ("images", "sha256")}
    check_inputs(tmp_path / "run", before)  # now streamed
    inputs.write_text(json.dumps(before))
    assert train(smoke("dfc_mnist").lock(), str(tmp_path / "run")) == finished[1]  # noted by an earlier version


def test_a_workdir_in_use(finished, smoke):
    config = smoke("dfc_mnist").lock()
    in_use = r"in use by another run: process \d+ on .* since 20\d\d"
    with open_workdir(finished[0], config), pytest.raises(UserError, match=in_use):
        train(config, str(finished[0]))
    train(config, str(finished[0]))


def test_a_line_cut_short_and_lines_of_a_lost_future(finished, smoke, tmp_path):
    """What a killed run may leave in scalars.jsonl does not stop the next one, and is not drawn."""
    shutil.copytree(finished[0], tmp_path / "run")
    lines = tmp_path / "run" / "scalars.jsonl"
    lines.write_text(lines.read_text() + '{"step": 50, "kl": 1.0}\n{"step": 4, "k')
    train(config_of(smoke, "dfc_mnist", steps=6), str(tmp_path / "run"))
    steps = [line["step"] for line in read_lines(lines) if "feature" in line]
    assert steps == [2, 4, 6]


def test_fewer_steps_than_done(finished, smoke, tmp_path):
    with pytest.raises(UserError, match="at step 4 already, past steps"):
        train(config_of(smoke, "dfc_mnist", steps=2), str(finished[0]))


def test_longer_training_resumes(finished, smoke, tmp_path):
    shutil.copytree(finished[0], tmp_path / "longer")
    metrics = train(config_of(smoke, "dfc_mnist", steps=6), str(tmp_path / "longer"))
    assert metrics["step"] == 6


def test_a_folder_that_is_not_a_workdir(smoke, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not the workdir of a run"):
        train(smoke("vae_mnist").lock(), str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_was_cut_short(smoke, tmp_path):
    """Killed, or stopped by a full disk, before there was a config.json: the workdir can be used."""
    for name in ("lock", "config.json.tmp"):
        (tmp_path / name).touch()
    with open_workdir(tmp_path, smoke("vae_mnist").lock()):
        assert (tmp_path / "config.json").is_file()
    assert not (tmp_path / "config.json.tmp").exists()


def test_load_model(finished):
    model = load_model(finished[0])
    images = np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32)
    mean, logvar = model.encode(images)
    assert mean.shape == logvar.shape == (3, 5)
    recon = np.asarray(model.reconstruct(images))
    assert recon.shape == (3, 28, 28, 1) and recon.min() >= 0 and recon.max() <= 1
    np.testing.assert_array_equal(recon, model.decode(mean))
    bytes_ = (255 * images).astype(np.uint8)
    np.testing.assert_allclose(model.encode(bytes_)[0], model.encode(bytes_ / np.float32(255))[0], atol=1e-6)
    samples = model.sample(jax.random.key(0), 4)
    assert samples.shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(samples, model.sample(jax.random.key(0), 4))
    np.testing.assert_allclose(
        model.sample(jax.random.key(0), 4, temperature=0.0)[0], model.decode(np.zeros((1, 5)))[0], rtol=1e-6
    )


@pytest.mark.parametrize(
    "images, words",
    [
        (np.full((1, 28, 28, 1), 255.0), r"these lie in \[255, 255\]"),
        (np.full((1, 28, 28, 1), -0.1), "must lie in"),
        (np.full((1, 28, 28, 1), np.nan), "must lie in"),
        (np.zeros((28, 28)), r"takes images \[N, 28, 28, 1\], not \(28, 28\)"),
    ],
)
def test_load_model_refuses_what_is_out_of_range(finished, images, words):
    with pytest.raises(UserError, match=words):
        load_model(finished[0]).encode(images)


def test_load_model_that_is_not_an_autoencoder(tmp_path, smoke):
    with pytest.raises(UserError, match="There is no workdir"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no config.json"):
        load_model(tmp_path)
    train(smoke("classifier_mnist").lock(), str(tmp_path / "classifier"))
    with pytest.raises(UserError, match="does not encode"):
        load_model(tmp_path / "classifier")


def test_pictures_of_a_folder(smoke, tmp_path):
    """Colour pictures of any size from a folder, one of them broken: training works and the broken one is named."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20 + i, 31, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / split / f"{i}.jpg")
    (tmp_path / "photos" / "train" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    config = config_of(
        smoke, "vae_mnist", image_size=16,
        data={"name": "image_folder", "dir": str(tmp_path / "photos"), "grey": False},
    )  # fmt: skip
    metrics = train(config, str(tmp_path / "run"))
    assert metrics["examples"] == 5 and "per_class" not in metrics
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert list(report["train"]["unreadable"]) == ["broken.jpg"] and report["train"]["files"] == 13
    assert "broken.jpg" in (tmp_path / "run" / "report.html").read_text()
    assert load_model(tmp_path / "run").sample(jax.random.key(0), 2).shape == (2, 16, 16, 3)


def test_classes_that_are_gone_are_not_accepted(tmp_path):
    (tmp_path / "inputs.json").write_text(json.dumps({"train": {"images": 3}, "classes": ["a", "b"]}))
    with pytest.raises(UserError, match=r"classes: \['a', 'b'\] in the workdir, nothing now"):
        check_inputs(tmp_path, {"train": {"images": 4}}, accept_data=True)
