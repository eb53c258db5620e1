"""Attribute vectors, linear predictions, walks and the command that writes them, from an untrained workdir."""

import json

import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from helpers.workdirs import make_workdir, unlabelled
from PIL import Image

from vae_jax.data.contract import Attributes, in_memory
from vae_jax.errors import UserError
from vae_jax.inference import load_model
from vae_jax.latents import exploration as latents
from vae_jax.latents import vectors
from vae_jax.latents.predictions import Prediction, predict_attributes


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("latents") / "run")


@pytest.fixture(scope="module")
def model(workdir):
    return load_model(workdir)


def test_a_vector_is_the_difference_of_two_means():
    z = np.array([[1, 0], [2, 4], [6, 2], [3, 10], [0, -1]], np.float32)
    on = np.array([[True, False], [False, True], [True, False], [True, False], [False, False]])
    found = vectors.attribute_vectors(z, Attributes(("hat", "smile"), on))
    assert list(found) == ["hat", "smile"]
    np.testing.assert_allclose(found["hat"], [10 / 3 - 1, 4 - 1.5])  # rows 0, 2, 3 and rows 1, 4
    np.testing.assert_allclose(found["smile"], [2 - 2.5, 4 - 11 / 4])


@pytest.mark.parametrize("value, words", [(True, "never off"), (False, "never on")])
def test_no_vector_without_examples_of_both_kinds(value, words):
    attributes = Attributes(("bald",), np.full((3, 1), value))
    with pytest.raises(UserError, match=f"'bald' has no vector: it is {words} in these 3 examples"):
        vectors.attribute_vectors(np.zeros((3, 2)), attributes)


def test_predictions_of_separable_and_of_random_attributes():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 3)) * [0.01, 1, 50] + [5, 0, -300]  # separable only after standardisation
    z[:, 2] = 7  # a dead latent
    attributes = np.stack([z[:, 0] > 5, rng.random(1200) < 0.3, np.zeros(1200, bool)], axis=1)
    z[:, 0] += np.where(attributes[:, 0], 0.002, -0.002)
    names = ("right", "noise", "never")
    train, evaluated = Attributes(names, attributes[:600]), Attributes(names, attributes[600:])
    rows = predict_attributes(z[:600], train, z[600:], evaluated)
    assert [row.attribute for row in rows] == list(names)
    assert [row.positives for row in rows] == list(attributes[600:].sum(axis=0))
    right, noise, never = rows
    assert right.accuracy == 1 and right.auc == 1 and 0.5 <= right.base_rate < 0.6
    np.testing.assert_allclose(noise.base_rate, 1 - attributes[600:, 1].mean())
    assert abs(noise.accuracy - noise.base_rate) < 0.02
    assert abs(noise.auc - 0.5) < 0.06
    assert never.accuracy is None and never.auc is None and never.base_rate == 1


def test_a_class_missing_from_the_eval_split_has_no_examples():
    attributes = Attributes(("0", "1"), np.eye(2, dtype=bool))
    np.testing.assert_array_equal(vectors.where(attributes, "1"), [False, True])
    np.testing.assert_array_equal(vectors.where(attributes, "2"), [False, False])


def test_a_walk_decodes_each_step(model):
    z, vector = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32), np.arange(5.0) / 4
    images = vectors.walk(model, z, vector, (0, 0.5, 2))
    assert images.shape == (3, 3, 28, 28, 1)
    np.testing.assert_allclose(images[:, 0], model.decode(z), atol=1e-6)
    np.testing.assert_allclose(images[:, 2], model.decode(z + 2 * vector), atol=1e-6)
    assert np.abs(images[:, 0] - images[:, 2]).max() > 1e-4
    assert vectors.walk(model, z, vector).shape[:2] == (3, len(vectors.STEPS))


def test_interpolation_ends_at_the_reconstructions(model):
    first, last = np.random.default_rng(0).uniform(size=(2, 28, 28, 1)).astype(np.float32)
    images = vectors.interpolate(model, first, last)
    assert images.shape == (11, 28, 28, 1)
    np.testing.assert_allclose(images[[0, -1]], model.reconstruct(np.stack([first, last])), atol=1e-5)


def test_encoding_keeps_the_order_and_prints_progress(model, monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, (150, 28, 28, 1)).astype(np.uint8)
    dataset = in_memory(images)
    expected = model.encode(images)[0]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(vectors, "PROGRESS", 100)
    for source in (dataset, dataset._replace(arrays=None)):
        z = vectors.encode_dataset(model, source)  # in batches of 64
        np.testing.assert_allclose(z, expected, atol=1e-5)
        assert capsys.readouterr().out == "encoded 128 of 150 images\n"


def test_the_command(workdir):
    result = run("vae_jax.latents", f"--workdir={workdir}", "--attributes=7,2", "--temperature=0.4")
    assert result.returncode == 0, result.stderr
    assert "| average of 10 |" in result.stdout and "latents.html" in result.stdout
    output = workdir / "latents"
    pictures = {path.stem for path in output.glob("*.png")}
    assert pictures == {"walk_7", "walk_2", "arithmetic", "interpolation", "prior_samples"}
    for path in output.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 50 and len(np.unique(picture)) > 10
    page = (output / "latents.html").read_text()
    assert page.count("data:image/png;base64,") == 5 and "http" not in page.split("</style>")[1]
    record = json.loads((output / "latents.json").read_text())
    assert record["train"] == {"split": "train", "images": 512} and record["eval"] == {"split": "test", "images": 100}
    assert [row["positives"] for row in record["attributes"]] == [10] * 10
    assert record["average"]["base_rate"] == pytest.approx(0.9)
    vectors = np.load(output / "attribute_vectors.npz")
    assert list(vectors["names"]) == [str(c) for c in range(10)] and vectors["vectors"].shape == (10, 5)


def test_an_attribute_that_never_changes(tmp_path):
    """Four train images show four of the ten classes, six test images two more."""
    folder = make_workdir(tmp_path / "run", data={"train": "train[:4]", "eval": "test[:6]"})
    record = latents.explore(folder, tmp_path / "out")
    assert [row["accuracy"] is None for row in record["attributes"]] == [False] * 4 + [True] * 6
    assert record["average"]["base_rate"] == pytest.approx(5 / 6)
    markdown = (tmp_path / "out" / "latents.md").read_text()
    assert "| 5 | 1 | 83.33 | no SVM: constant in train |  |" in markdown and "| average of 4 |" in markdown
    assert list(np.load(tmp_path / "out" / "attribute_vectors.npz")["names"]) == ["0", "1", "2", "3"]
    with pytest.raises(UserError, match="'5' is the same in all images of the train split"):
        latents.explore(folder, tmp_path / "out", requested=["5"])


def test_the_papers_average_stands_beside_celeba(tmp_path):
    row = Prediction("Smiling", 3, 0.5, 0.9, None)._asdict()
    split = {"split": "train", "images": 6}
    record = {"name": "x", "step": 1, "data": "", "train": split, "eval": split, "attributes": [row], "beside": []}
    for data, lines in (("celeb_a:2.1.0", 1), ("celeb_b", 0)):
        latents.write_latents(tmp_path, record | {"data": data}, {"Smiling": np.zeros(2)}, {})
        assert (tmp_path / "latents.md").read_text().count(
            "| Hou et al. 2017, average of 40 |  |  | 86.95 |  |"
        ) == lines


@pytest.mark.slow
def test_two_workdirs_side_by_side(tmp_path):
    """The other run adds columns; missing results, or results on other images, are errors."""
    data = {"train": "train[:40]", "eval": "test[:20]"}
    first, second = (make_workdir(tmp_path / name, data=data, name=name) for name in ("vae_mnist", "dfc_mnist"))
    with pytest.raises(UserError, match=r"There is no .*dfc_mnist/latents/latents.json. Run python -m vae_jax.latents"):
        latents.explore(first, tmp_path / "out", beside=[str(second)])
    other = latents.explore(second, second / "latents")
    record = latents.explore(first, tmp_path / "out", beside=[str(second)])
    columns = {key: [row[key] for row in other["attributes"]] for key in ("accuracy", "auc")}
    assert record["beside"] == [{"name": "dfc_mnist", **columns}]
    table = (tmp_path / "out" / "latents.md").read_text()
    assert "| SVM %, vae_mnist | AUC, vae_mnist | SVM %, dfc_mnist | AUC, dfc_mnist |" in table
    (second / "latents" / "latents.json").write_text(json.dumps(other | {"data": "cifar10"}))
    with pytest.raises(UserError, match="dfc_mnist cannot be compared: they belong to other images or attributes"):
        latents.explore(first, tmp_path / "out", beside=[str(second)])


def test_what_is_shown_by_default():
    celeba = ("Bald", "Eyeglasses", "Male", "Smiling")
    assert latents._choose([], celeba, celeba) == ["Eyeglasses", "Smiling", "Male"]
    assert latents._choose([], "abcdefgh", "bcdefgh") == list("bcdef")
    assert latents._choose(["c", "b", "c"], "abc", "abc") == ["c", "b"]


def test_mistakes(workdir, tmp_path):
    assert_mistake(run("vae_jax.latents", f"--workdir={workdir}", "--attributes=77"), "Unknown attribute '77'", "'7'")
    for temperature, words in ((0, "is 0"), (-1, "is -1"), (float("nan"), "is nan")):
        with pytest.raises(UserError, match=f"temperature {words}; it must be positive"):
            latents.explore(workdir, tmp_path / "out", temperature=temperature)
    with pytest.raises(UserError, match="A classifier does not encode"):
        latents.explore(make_workdir(tmp_path / "classifier", "classifier_mnist"), tmp_path / "out")
    one = make_workdir(tmp_path / "one", data={"train": "train[:1]"})
    message = "is the same in all images of the train split, so it has no vector. So are all other attributes."
    with pytest.raises(UserError, match=message):
        latents.explore(one, tmp_path / "out", requested=["1"])
    flat = unlabelled(tmp_path)
    with pytest.raises(UserError, match="neither attributes nor labels"):
        latents.explore(flat, tmp_path / "out", requested=["1"])
    assert not (tmp_path / "out").exists()


def test_data_without_labels_still_have_interpolations_and_samples(tmp_path, capsys):
    record = latents.explore(unlabelled(tmp_path), tmp_path / "out", temperature=0.4)
    assert record["attributes"] == []
    assert "no attribute vectors: no attribute or label of image_folder varies" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"interpolation.png", "latents.html", "latents.json", "latents.md", "prior_samples.png"}
