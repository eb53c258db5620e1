"""The comparison page from real workdirs."""

import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from PIL import Image
from scipy.ndimage import gaussian_filter

from vae_jax import cli
from vae_jax.compare.comparison import compare, train_all, with_seeds
from vae_jax.errors import UserError
from vae_jax.reports import figures
from vae_jax.train import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The plain VAE with two seeds, and the DFC-VAE."""
    from conftest import ROOT

    from vae_jax.cli import load_config

    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("vae_mnist", 0), ("vae_mnist", 1), ("dfc_mnist", 0)):
        config = load_config(f"{ROOT}/configs/{name}.py:smoke")
        config.seed = seed
        train(config.lock(), str(folder / f"{name}_{seed}"))
    return folder


def test_the_article_in_one_page(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("vae_jax.compare.comparison.are_digits", lambda *_: True)  # ten classes, as if digits
    monkeypatch.setattr("vae_jax.compare.pictures.PLANE", ("psnr", "ms_ssim"))  # in place of LPIPS
    workdirs = [str(runs / name) for name in ("vae_mnist_0", "vae_mnist_1", "dfc_mnist_0")]
    record = compare(workdirs, tmp_path / "out")
    assert record == json.loads((tmp_path / "out" / "compare.json").read_text())

    plain, dfc = record["rows"]
    assert (plain["name"], plain["seeds"]) == ("vae_mnist", [0, 1]) and (dfc["name"], dfc["seeds"]) == (
        "dfc_mnist",
        [0],
    )
    mse = [json.loads((runs / f"vae_mnist_{seed}/eval/metrics.json").read_text())["mse"] for seed in (0, 1)]
    np.testing.assert_allclose(plain["runs"]["mse"], mse)
    np.testing.assert_allclose((plain["mean"]["mse"], plain["std"]["mse"]), (np.mean(mse), np.std(mse, ddof=1)))
    assert dfc["std"]["mse"] is None

    for title, images in (("class != 1", 90), ("class == 1", 10)):
        tests = record["t_tests"][f"Laplacian variance, {title}"]
        pairs = [("originals", "vae_mnist"), ("originals", "dfc_mnist"), ("vae_mnist", "dfc_mnist")]
        assert [(t["first"], t["second"]) for t in tests] == pairs
        assert all(t["images"] == images for t in tests)

    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {
        "compare", "reconstructions", "laplacian_variance_per_class", "laplacian_variance", "prior_samples",
        "interpolation_1-5", "interpolation_1-3", "interpolation_3-7", "power_by_spatial_frequency",
        "distortion_and_perception",
    }  # fmt: skip
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 50
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("data:image/png;base64,") == 9 and "://" not in page.split("</style>")[1]
    markdown = (tmp_path / "out" / "compare.md").read_text()
    assert "| vae_mnist - dfc_mnist |" in markdown and "±" in markdown


def test_only_seeds_share_a_row(runs, tmp_path):
    """Another batch size, another length, or the same seed again: separate rows with separate names."""
    config = json.loads((runs / "vae_mnist_0" / "config.json").read_text())
    for folder, changes in (("a", {"batch_size": 16}), ("b", {"steps": 8}), ("c", {})):
        shutil.copytree(runs / "vae_mnist_0", tmp_path / folder / "run")
        (tmp_path / folder / "run" / "config.json").write_text(json.dumps(config | changes))
    workdirs = [str(runs / "vae_mnist_0"), *(str(tmp_path / folder / "run") for folder in "abc")]
    record = compare(workdirs, tmp_path / "out")
    assert [row["name"] for row in record["rows"]] == ["vae_mnist_0", "run", "b/run", "c/run"]
    assert all(len(row["seeds"]) == 1 for row in record["rows"])
    assert len(record["t_tests"]["Laplacian variance, all"]) == 10 and len(record["t_tests"]["PSNR dB"]) == 6


def test_other_data_cannot_be_compared(runs, tmp_path):
    shutil.copytree(runs / "vae_mnist_0", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["data"]["name"] = "mnist_5k"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="data.name is 'synthetic' in one, 'mnist_5k' in the other"):
        compare([str(runs / "vae_mnist_0"), str(tmp_path / "other")], tmp_path / "out")


def test_pictures_of_many_rows_are_small():
    """Photographs at 64x64 from up to twenty models with long names, slightly blurred like reconstructions."""
    photograph = pytest.importorskip("skimage.data").astronaut().astype(np.float32) / 255
    crops = photograph.reshape(8, 64, 8, 64, 3).swapaxes(1, 2).reshape(64, 64, 64, 3)
    blurred = gaussian_filter(crops, (0, 0.7, 0.7, 0))
    for models in (4, 12, 20):
        count = figures.columns(1 + models, (64, 64, 3))
        rows = [("originals", crops[:count])]
        rows += [(f"the_celeba_loss_{i}", blurred[np.arange(i, i + count)]) for i in range(models)]
        png = figures.image_rows(rows)
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.width > 64 * count and picture.height > 64 * len(rows)
        assert count >= 2 and len(png) < 300_000, (models, count, len(png))
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    figures.box_plot({"a": rng.gamma(2, 0.1, 1500)}, np.arange(1500), "x", [f"class {i}" for i in range(1500)])
    assert time.perf_counter() - started < 20  # forty of the classes; all of them took three times as long
    variances, labels = {name: rng.gamma(2, 0.1, 60) for name, _ in rows[:13]}, np.arange(60) % 10
    everything = {"all": np.ones(60, bool)}
    for png in (figures.box_plot(variances, labels, "x"), figures.histograms(variances, everything, "x")):
        with Image.open(io.BytesIO(png)) as picture:
            assert 300 < picture.width < 950  # a legend in one line would make it 2,000


def test_seeds():
    """Whole seeds one after another, in folders that do not depend on their number; a clash is refused."""
    configs = [cli.load_config(f"{name}:smoke") for name in ("vae_mnist", "dfc_mnist")]
    configs[0].seed = 7
    runs = with_seeds([config.lock() for config in configs], 2)
    assert {name: config.seed for name, config in runs.items()} == {
        "vae_mnist": 7, "dfc_mnist": 0, "vae_mnist_seed8": 8, "dfc_mnist_seed1": 1,
    }  # fmt: skip
    assert list(runs)[:2] == list(with_seeds(configs, 1)) and runs["vae_mnist_seed8"].name == "vae_mnist"
    clash = cli.load_config("dfc_mnist:smoke")
    clash.name = "vae_mnist_seed8"
    with pytest.raises(UserError, match="Two configs are named 'vae_mnist_seed8'"):
        with_seeds([configs[0], clash], 2)


def test_configs_are_trained_and_compared(tmp_path, capsys, monkeypatch):
    """Each run resumes where it was stopped; --config.KEY=VALUE applies to all of them."""
    from conftest import ROOT

    names = [f"{ROOT}/configs/deepsim_invert_alexnet.py:conv5", "96", "smoke", f"{ROOT}/configs/vae_mnist.py:smoke"]
    monkeypatch.setattr(cli, "_VALUES", {"seed": "3", "data.memory_limit": "5"})
    first, second = cli.load_configs(names)
    assert (first.name, first.seed, second.data.memory_limit) == ("deepsim_invert_alexnet_conv5_96", 3, 5)
    for override, message in (
        ("--config.sed=3", "Unknown config key 'sed'"),
        ("--config.seed=x", "vae_mnist.py:smoke"),
    ):
        monkeypatch.setattr(cli, "_VALUES", dict([override.removeprefix("--config.").split("=")]))
        with pytest.raises(UserError, match=message):
            cli.load_configs(names[3:])
    monkeypatch.setattr(cli, "_VALUES", {"steps": "2", "checkpoint_every": "2"})
    configs = cli.load_configs([names[3], f"{ROOT}/configs/dfc_mnist.py:smoke"])
    with pytest.raises(UserError, match="Two configs are named 'vae_mnist'"):
        with_seeds([configs[0], configs[0]], 1)
    assert train_all(with_seeds(configs[:1], 1), tmp_path) == [str(tmp_path / "vae_mnist")]
    workdirs = train_all(with_seeds(configs, 1), tmp_path)
    told = capsys.readouterr().out
    assert "training dfc_mnist (2 of 2)" in told and "resuming from step 2" in told
    assert told.count("compiling the train step") == 2  # a finished run is evaluated again, not trained
    ratios = re.findall(r"\d s in all, ([\d.]+) times the train steps", told)
    assert len(ratios) == 2 and all(float(ratio) > 1 for ratio in ratios)
    assert [row["name"] for row in compare(workdirs, tmp_path)["rows"]] == ["vae_mnist", "dfc_mnist"]


def test_seeds_of_runs_that_are_trained():
    told = run("vae_jax.compare", "--workdirs=a,b", "--seeds=2", "--workdir=c")
    assert_mistake(told, "--seeds is for --configs, which it trains")


@pytest.mark.slow
def test_the_command_with_seeds(tmp_path):
    """Two seeds of one config: one row, their runs in two folders."""
    output, config = f"--workdir={tmp_path / 'out'}", "vae_mnist:smoke"
    assert_mistake(run("vae_jax.compare", f"--configs={config}", output), "two or more runs")
    done = run("vae_jax.compare", f"--configs={config}", "--seeds=2", output, "--config.steps=4")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert row["seeds"] == [0, 1] and row["std"]["spectrum_high"] > 0
    assert {"vae_mnist", "vae_mnist_seed1"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "p, Holm" in (tmp_path / "out" / "compare.md").read_text()
