"""The columns of a comparison: Fréchet distances, requested metrics, training speed."""

import json

import jax
import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from helpers.frechet import SMALL, by_singular_values, means
from helpers.workdirs import make_workdir

from vae_jax import backbones
from vae_jax.compare.comparison import compare
from vae_jax.compare.costs import read_costs
from vae_jax.compare.distances import make_distances
from vae_jax.compare.tables import results
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, load_eval_dataset
from vae_jax.inference import Model, load_model, load_workdir
from vae_jax.metrics import check_metrics
from vae_jax.metrics.frechet import Features
from vae_jax.runtime.rngs import root_key
from vae_jax.weights.files import save_weights


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Two untrained VAEs with different seeds, the first with a log of an invented training."""
    folder = tmp_path_factory.mktemp("frechet")
    paths = [make_workdir(folder / f"run_{seed}", seed=seed) for seed in (0, 1)]
    rates = [{"step": step, "images_per_second": rate} for step, rate in enumerate((90.0, 1200.0, 1e6))]
    lines = [{"step": 1, "eval/psnr": 3.0}, *rates]
    (paths[0] / "scalars.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths


def test_columns_of_a_comparison(workdirs, tmp_path):
    """Distances of reconstructions and samples to the originals, by NumPy alone; means over two seeds; a requested
    metric; the speed of the run that has a log."""
    metrics = ("psnr", "target_digit_accuracy", "laplacian_variance")
    record = compare(list(map(str, workdirs)), tmp_path / "out", metrics=metrics, features=SMALL)

    dataset = load_eval_dataset(load_workdir(workdirs[0]), None)
    images = dataset.arrays["image"].astype(np.float32) / 255
    assert len(images) == 100
    title = "FD-mnist_classifier relu3 28x28 N=100"
    for seed, workdir in enumerate(workdirs):
        model = load_model(workdir)
        sets = {"reconstructions": model.reconstruct(images), "samples": model.sample(root_key(seed, "sample"), 100)}
        for name, others in sets.items():
            expected = by_singular_values(means(SMALL, images), means(SMALL, others))
            assert record["rows"][0]["runs"][f"{title}, {name}"][seed] == pytest.approx(expected, rel=1e-3)
    (first,) = record["rows"]
    values = first["runs"][f"{title}, samples"]
    assert values[0] != values[1] and first["mean"][f"{title}, samples"] == pytest.approx(np.mean(values))
    assert first["std"][f"{title}, samples"] == pytest.approx(np.std(values, ddof=1))

    without = first | {"name": "plain", "images_per_second": [None]}
    without["mean"] = {name: value for name, value in first["mean"].items() if "samples" not in name}
    header, rows = results(record | {"rows": [without, first]})
    assert header[-3:] == [f"{title}, reconstructions", f"{title}, samples", "images/s"]
    assert [row[-1] for row in rows] == ["", "", "1,200"] and first["images_per_second"] == [1200.0, None]
    assert rows[1][-3] == f"{first['mean'][header[-3]]:.4g} ± {first['std'][header[-3]]:.4g}"
    assert rows[0][-2] == rows[1][-2] == "" and " ± " in rows[2][-2]
    assert header.count("target_digit_accuracy") == header.count("PSNR dB") == 1 and "laplacian_variance" not in header
    accuracy = evaluate_run(load_workdir(workdirs[0]), dataset, ["target_digit_accuracy"])["target_digit_accuracy"]
    assert first["runs"]["target_digit_accuracy"][0] == accuracy.mean()
    for file in ("compare.md", "compare.html"):
        text = (tmp_path / "out" / file).read_text()
        assert f"{title}: the Fréchet distance between all 100 images" in text and "machine that trained" in text


COST = {
    "config": "vae_mnist", "batch_size": 32, "image_shape": [28, 28, 1], "device": "a chip",
    "images_per_second": 1234.5, "gflop_per_image": 0.01234, "peak_memory_bytes": 2e9,
}  # fmt: skip


def test_costs(workdirs, tmp_path):
    """The last line of a config counts; costs stand in place of the speed in the trainings' logs."""
    shape = load_workdir(workdirs[0]).config.batch_size
    lines = [COST | {"batch_size": shape, "images_per_second": 1.0}, COST | {"batch_size": shape}]
    (tmp_path / "costs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = compare(list(map(str, workdirs)), tmp_path / "out", costs=read_costs(tmp_path / "costs.jsonl"))
    header, (_, row) = results(record)
    assert header[-3:] == ["train images/s", "GFLOP/image", "peak memory MB"] and "images/s" not in header
    assert row[-3:] == ["1,234", "0.0123", "2,000"]
    assert "by vae_jax.bench on a chip." in (tmp_path / "out" / "compare.md").read_text()


def test_costs_that_do_not_fit(workdirs, tmp_path):
    file, arguments = tmp_path / "costs.jsonl", [f"--workdirs={workdirs[0]},{workdirs[1]}", f"--workdir={tmp_path}/out"]
    for text, words in (
        ("{}", "line 1 of"),
        (json.dumps(COST | {"images_per_second": None}), "no benchmark of a train step"),
        (json.dumps(COST | {"config": "dfc_mnist"}), "no benchmark of vae_mnist"),
    ):
        file.write_text(text + "\n")
        assert_mistake(run("vae_jax.compare", *arguments, f"--costs={file}"), words)
    assert_mistake(run("vae_jax.compare", *arguments, f"--costs={tmp_path}/none"), "--costs cannot read")
    file.write_text(json.dumps(COST) + "\n")
    untrained = ["--configs=vae_mnist:smoke,dfc_mnist:smoke", f"--workdir={tmp_path}/new", f"--costs={file}"]
    assert_mistake(run("vae_jax.compare", *untrained), "no benchmark of vae_mnist, dfc_mnist")
    assert not (tmp_path / "new").exists()


def test_missing_columns(workdirs, tmp_path):
    """Without AlexNet's weights a note replaces the distances; older records without a speed have no column for it."""
    record = compare([str(workdirs[1]), str(workdirs[1])], tmp_path)
    text = (tmp_path / "compare.md").read_text()
    assert "The Fréchet distance is omitted. No weights for alexnet." in text
    assert "FD-" not in text and "images/s" not in text
    for row in record["rows"]:
        del row["images_per_second"]
    assert results(record)[0][-1] == "Laplacian variance, all"
    with pytest.raises(UserError, match="needs images of at least 31 pixels for relu5, not 28"):
        compare([str(workdirs[1])] * 2, tmp_path, features=Features())


def test_baselines_have_distances_too(tmp_path, monkeypatch):
    """The baselines of super-resolution, by the first features of an untrained AlexNet."""
    tree = jax.device_get(backbones.BACKBONES["alexnet"].init(jax.random.key(0), ("relu1",)))
    save_weights(tmp_path / "alexnet.safetensors", tree, {})
    monkeypatch.setenv("VAE_JAX_WEIGHTS", str(tmp_path))
    run, features = load_workdir(make_workdir(tmp_path / "run", "sr_vae_pets")), Features("alexnet", "relu1")
    dataset = load_eval_dataset(run, None)
    distances, (note,) = make_distances(features, dataset)
    images = dataset.arrays["image"].astype(np.float32) / 255
    found = distances(run, Model(run))
    title = features.distance_name(images.shape[1], len(images))
    assert title in note and "64 features, the spatial means of alexnet relu1." in note
    columns = {f"{name}{title}, reconstructions" for name in ("", "nearest/", "bicubic/")}
    assert columns <= set(found) <= columns | {f"{title}, samples"}
    for name, baseline in run.experiment.system.baselines.items():
        expected = by_singular_values(means(features, images), means(features, baseline({"image": images})))
        assert found[f"{name}/{title}, reconstructions"] == pytest.approx(expected, rel=1e-3)


def test_photographs_without_a_prior(tmp_path):
    """All pictures are written except prior samples."""
    compare([str(make_workdir(tmp_path / "run", "sr_vae_pets"))], tmp_path / "out")
    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert {"compare", "reconstructions", "laplacian_variance"} <= pictures and "prior_samples" not in pictures


def test_metrics_are_checked_before_anything_is_trained():
    for name, message in (("psnrr", "Did you mean 'psnr'"), ("lpips_vgg", "No weights for vgg16")):
        with pytest.raises(UserError, match=message):
            check_metrics(["ssim", name])
