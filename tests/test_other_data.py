"""Runs judged on data that moved, or on other data: classes keep their names, and the run's own numbers stay."""

import json
import shutil

import numpy as np
import pytest
from helpers.workdirs import make_workdir
from PIL import Image

from vae_jax.cli import load_config
from vae_jax.compare.comparison import compare, with_seeds
from vae_jax.compare.numbers import are_digits, subsets_of
from vae_jax.data import load_dataset
from vae_jax.data.contract import fingerprint
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_workdir
from vae_jax.latents.exploration import explore
from vae_jax.reports.report import write_report
from vae_jax.strict_json import to_json
from vae_jax.train import train

CLASSES = ("ant", "bee", "cat", "dog")
ODD = ("$a_{", "<b>&amp;", "_c|d", "e\udcff" + "f" * 60)  # as folder names, the last with a byte that is no text


def pictures(root, split, classes, count, seed=0):
    """Folders of `count` random pictures per class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def settings(root):
    return {"name": "image_folder", "dir": str(root), "grey": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(its data, the workdir) of a classifier that learnt four classes."""
    folder = tmp_path_factory.mktemp("classes")
    data = pictures(folder / "data", "train", CLASSES, 10)
    pictures(data, "test", CLASSES, 3, seed=1)
    config = load_config("classifier_mnist:smoke")
    config.update(data=settings(data))
    train(config.lock(), str(folder / "run"))
    return data, folder / "run"


def numbers(place):
    return json.loads((place.numbers / "metrics.json").read_text()), np.load(place.numbers / "per_image.npz")


def own_files(workdir):
    files = [*(workdir / "eval").glob("*.*"), *(workdir / "pictures").glob("*"), workdir / "report.html"]
    return {file: file.read_bytes() for file in files if file.is_file()}


def test_data_that_moved_are_the_runs_own(run, tmp_path):
    data, workdir = run
    before = json.loads((workdir / "eval" / "metrics.json").read_text())
    assert before["classes"] == list(CLASSES) == list(before["per_class"]["accuracy"])
    shutil.copytree(data, tmp_path / "moved")
    place, result = evaluate_workdir(workdir, str(tmp_path / "moved"), ())
    assert place.numbers == workdir / "eval" and result == before | {"folder": str(tmp_path / "moved")}


def test_classes_are_found_by_their_names(run, tmp_path):
    """Three of the four, so that their numbers would be others; judged apart, and the page says on what."""
    data, workdir = run
    before, own = own_files(workdir), np.load(workdir / "eval" / "per_image.npz")
    for name in CLASSES[1:]:
        shutil.copytree(data / "test" / name, tmp_path / "other" / "test" / name)
    place, result = evaluate_workdir(workdir, str(tmp_path / "other"), ())
    metrics, per_image = numbers(place)
    assert place.numbers.parent == workdir / "eval" and place.numbers.name.startswith("other-")
    np.testing.assert_array_equal(per_image["label"], own["label"][3:])
    np.testing.assert_allclose(per_image["cross_entropy"], own["cross_entropy"][3:], rtol=1e-5)
    assert list(metrics["per_class"]["accuracy"]) == list(CLASSES[1:])
    assert metrics["folder"] == str(tmp_path / "other") and metrics == result
    page = write_report(workdir, place)
    assert page.parent == place.numbers and page.read_text().count(str(tmp_path / "other")) == 2
    assert own_files(workdir) == before


def test_unknown_classes_and_no_classes(run, tmp_path):
    data, workdir = run
    shutil.copytree(data, tmp_path / "more")
    (tmp_path / "more" / "test" / "eel").mkdir()
    shutil.copy(data / "test" / "ant" / "0.png", tmp_path / "more" / "test" / "eel")
    told = "(?s)not trained with: eel.*its classes: ant, bee, cat, dog, eel.*those of the training: ant, bee, cat, dog"
    with pytest.raises(UserError, match=told):
        evaluate_workdir(workdir, str(tmp_path / "more"), ())
    (tmp_path / "flat" / "test").mkdir(parents=True)
    shutil.copy(data / "test" / "ant" / "0.png", tmp_path / "flat" / "test")
    with pytest.raises(UserError, match="have no labels, by which a classifier is judged"):
        evaluate_workdir(workdir, str(tmp_path / "flat"), ())


def test_an_earlier_workdir_knows_its_classes_from_its_data_report(run, tmp_path):
    """And one that recorded nothing cannot say that data in another folder are its own."""
    data, workdir = run
    shutil.copytree(workdir, tmp_path / "run")
    shutil.copytree(data / "test" / "dog", tmp_path / "dogs" / "test" / "dog")
    (tmp_path / "run" / "inputs.json").unlink()
    place, result = evaluate_workdir(tmp_path / "run", str(tmp_path / "dogs"), ())
    assert list(result["per_class"]["accuracy"]) == ["dog"] and place.numbers.name.startswith("dogs-")
    assert evaluate_workdir(tmp_path / "run", None, ())[0].numbers == tmp_path / "run" / "eval"


def recorded(workdir, root, name):
    """An untrained VAE of these pictures, with the sums of its data."""
    make_workdir(workdir, data=settings(root))
    file = workdir / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": name}))
    config = load_config("vae_mnist:smoke")
    config.update(data=settings(root))
    sums = {part: fingerprint(load_dataset(config, config.data[part])) for part in ("train", "eval")}
    (workdir / "inputs.json").write_text(to_json(sums))
    return str(workdir)


def test_runs_of_different_images(tmp_path):
    """Refused, with both names; judged on one folder they can be compared, and then it says on which."""
    roots = [pictures(tmp_path / name, "train", ("x",), 4, seed) for seed, name in enumerate("ab")]
    for seed, root in enumerate(roots):
        pictures(root, "test", ("x",), 4, 2 + seed)
    workdirs = [recorded(tmp_path / f"run_{root.name}", root, root.name) for root in roots]
    with pytest.raises(UserError, match="run_a and .*run_b cannot be compared: .*4 of .*/a, split test and 4 of .*/b"):
        compare(workdirs, tmp_path / "out")
    with pytest.raises(UserError, match="/b holds other images than .*run_a .* Choose a place with --output"):
        explore(workdirs[0], tmp_path / "run_a" / "latents", str(roots[1]))
    shutil.rmtree(roots[1] / "test")
    shutil.copytree(roots[0] / "test", roots[1] / "test")
    workdirs[1] = recorded(tmp_path / "again", roots[1], "again")
    compare(workdirs, tmp_path / "out")
    text = (tmp_path / "out" / "compare.md").read_text()
    assert f"{workdirs[1]} was trained on 4 of {roots[1]}, split train" in text
    assert "Evaluated on 4 images of image_folder, split test." in text
    compare(workdirs, tmp_path / "out", data_dir=str(pictures(tmp_path / "c", "test", ("x",), 3)))
    assert f"Evaluated on 3 images of image_folder in {tmp_path / 'c'}" in (tmp_path / "out" / "compare.md").read_text()


def test_names_that_are_markup(tmp_path):
    """Of runs and of classes, in pictures, Markdown and HTML; and classes that are no digits are not called ones."""
    data = pictures(tmp_path / "data", "test", ODD, 2)
    pictures(data, "train", ODD, 2)
    workdirs = [recorded(tmp_path / f"run_{i}", data, name) for i, name in enumerate(("$x|_{y", "<i>&lt;_"))]
    record = compare(workdirs, tmp_path / "out")
    assert set(record["t_tests"]) == {"Laplacian variance, all", "PSNR dB"}
    written = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert "laplacian_variance_per_class.png" in written and "interpolation_1-3.png" not in written
    text = (tmp_path / "out" / "compare.md").read_text()
    assert r"| \$x\|\_{y |" in text and r"| \<i>\&lt;\_ |" in text
    assert "&lt;i&gt;&amp;lt;_" in (tmp_path / "out" / "compare.html").read_text()
    _, result = evaluate_workdir(tmp_path / "run_0", None, ())
    assert list(result["per_class"]["mse"]) == list(ODD)
    write_report(tmp_path / "run_0")


def test_what_digits_are():
    labels = np.array([0, 1, 1, 2])
    assert are_digits("mnist", ()) and are_digits("image_folder", tuple("0123456789"))
    assert not are_digits("image_folder", CLASSES) and not are_digits("fashion_mnist", ())
    assert set(subsets_of(labels, 4, digits=True)) == {"class != 1", "class == 1"}
    assert set(subsets_of(labels, 4, digits=False)) == {"all"} == set(subsets_of(None, 4, digits=True))


def test_a_config_without_a_name(tmp_path):
    configs = [load_config("vae_mnist:smoke"), load_config("dfc_mnist:smoke")]
    configs[1].name = ""
    with pytest.raises(UserError, match="Config 2 of --configs has no name"):
        with_seeds([config.lock() for config in configs], 1)
    assert not (tmp_path / "out").exists()
