"""The normalised error: its mean distance by hand and against scipy, the metric, its place in a run."""

import json

import jax
import numpy as np
import pytest
from helpers.workdirs import make_workdir
from scipy.spatial.distance import pdist

from vae_jax.compare.tables import COLUMNS, results
from vae_jax.data.contract import in_memory
from vae_jax.errors import UserError
from vae_jax.evaluate import evaluate_run, judged_by, load_eval_dataset, make_judge
from vae_jax.inference import load_workdir
from vae_jax.metrics import METRICS, load_metrics, measure, normalised
from vae_jax.metrics.normalised import mean_distance
from vae_jax.runs.places import own_place

NAME = "normalised_error"
THREE = np.array([[0, 0], [3, 4], [0, 16]], np.uint8)
THREE_APART = (5 + 16 + np.sqrt(153)) / 3


def loaded(dataset):
    return load_metrics([NAME], dataset)[NAME]


def test_three_images_by_hand():
    """Images 5, 16 and sqrt(153) steps of 1 / 255 apart, reconstructions 0, 5 and 10 steps off."""
    target = THREE.reshape(3, 1, 2, 1)
    recon = target + np.array([[0, 0], [5, 0], [6, 8]], np.uint8).reshape(3, 1, 2, 1)
    target, recon = (images.astype(np.float32) / 255 for images in (target, recon))
    np.testing.assert_allclose(mean_distance(THREE), THREE_APART, rtol=1e-15)
    expected = 100 * np.array([0, 5, 10]) / THREE_APART
    np.testing.assert_allclose(METRICS[NAME](target, recon), expected, rtol=1e-6)
    np.testing.assert_allclose(METRICS[NAME](jax.numpy.asarray(target), recon), expected, rtol=1e-6)


def test_a_random_other_image_is_at_100_percent(images):
    """Each image for each other one: the mean over all pairs of different images."""
    i, j = np.nonzero(~np.eye(3, dtype=bool))
    weights = {NAME: loaded(in_memory(np.rint(255 * images[0]).astype(np.uint8)))}
    target = np.rint(255 * images[0]) / np.float32(255)
    values = measure([NAME], weights, target[i], target[j])[NAME]
    assert values.shape == (6,)
    np.testing.assert_allclose(np.mean(values), 100, rtol=1e-6)


def test_mean_distance_is_scipy_for_images_that_are_not_square(images):
    rows = images[0].reshape(3, -1)
    np.testing.assert_allclose(mean_distance(rows), pdist(rows.astype(np.float64)).mean(), rtol=1e-12)


@pytest.mark.parametrize("size", [2, 5, 6, 7, 12, 31])
def test_blocks_and_panels_of_any_length(size, monkeypatch):
    """Blocks of 3 rows in panels of 8, and in panels of one row."""
    rows = np.random.default_rng(size).integers(0, 256, (size, 4096)).astype(np.uint8)
    expected = pdist(rows.astype(np.float64)).mean()
    monkeypatch.setattr(normalised, "BLOCK", 3 * 4096)
    for panel in (8 * 4096, 1):
        monkeypatch.setattr(normalised, "PANEL", panel)
        np.testing.assert_allclose(mean_distance(rows), expected, rtol=1e-12)


def test_mean_distance_far_from_the_origin():
    """Small differences of large numbers, some rows twice."""
    rows = 1e6 + np.random.default_rng(0).normal(size=(40, 30))
    rows[20:25] = rows[:5]
    np.testing.assert_allclose(mean_distance(rows), pdist(rows).mean(), rtol=1e-8)


def test_no_distance_of_one_row():
    for rows in (np.zeros((1, 4)), np.zeros(4)):
        with pytest.raises(ValueError, match=r"takes at least two rows \[n, d\]"):
            mean_distance(rows)


def test_a_streamed_data_set_is_like_one_in_memory(monkeypatch):
    dataset = in_memory(np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3)).astype(np.uint8))
    expected = pdist(dataset.arrays["image"].reshape(20, -1) / 255).mean()
    lengths = []

    def read(indices):
        lengths.append(len(indices))
        return dataset.read(indices)

    monkeypatch.setattr(normalised, "PANEL", 7 * 90)
    for source in (dataset, dataset._replace(arrays=None, read=read)):
        np.testing.assert_allclose(loaded(source), expected, rtol=1e-6)
    assert max(lengths) == 7


def test_one_data_set_is_measured_once(monkeypatch):
    dataset = in_memory(THREE.reshape(3, 1, 2, 1))
    distance = loaded(dataset)
    np.testing.assert_allclose(distance, THREE_APART / 255, rtol=1e-6)
    monkeypatch.delattr(normalised, "_block_pairs")
    assert loaded(dataset) == distance


def test_long_computations_print_progress(monkeypatch, capsys):
    rows = np.random.default_rng(0).normal(size=(5, 4096))
    mean_distance(rows)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(normalised, "SECONDS", -1)
    monkeypatch.setattr(normalised, "BLOCK", 3 * 4096)
    mean_distance(rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"measured the distances of {pairs} of 10 pairs of images" for pairs in (3, 9)]


def test_images_without_a_distance():
    image = np.zeros((1, 4, 4, 1), np.uint8)
    for target, words in (
        (image, "at least two images, not one"),
        (image.repeat(3, 0), "all 3 are the same"),
    ):
        with pytest.raises(UserError, match=f"{NAME} .*{words}"):
            loaded(in_memory(target))
        with pytest.raises(UserError, match=f"{NAME} .*{words}"):
            METRICS[NAME](target / np.float32(255), target / np.float32(255))


def test_shapes_must_be_equal(images):
    with pytest.raises(ValueError, match="equal shapes"):
        METRICS[NAME](images[0], images[1][:, :-1])


def test_an_evaluation_judges_it_if_the_config_names_it(tmp_path):
    """N is that of the whole split, not of a batch of 64 of its 100 images."""
    run = load_workdir(make_workdir(tmp_path / "run", metrics=(NAME,)))
    dataset = load_eval_dataset(run, None)
    frozen = run.experiment.system.frozen()
    place = own_place(tmp_path / "run")
    result, _ = make_judge(run.config, run.experiment, dataset, run.mesh, place)(run.state, frozen)
    assert json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text()) == result
    per_image = np.load(tmp_path / "run" / "eval" / "per_image.npz")
    images = dataset.arrays["image"].reshape(100, -1) / 255
    expected = 100 * np.sqrt(per_image["mse"] * images.shape[1]) / pdist(images).mean()
    np.testing.assert_allclose(per_image[NAME], expected, rtol=1e-5)
    np.testing.assert_allclose(result[NAME], expected.mean(), rtol=1e-5)
    np.testing.assert_array_equal(evaluate_run(run, dataset, [NAME])[NAME], per_image[NAME])

    plain = load_workdir(make_workdir(tmp_path / "plain")).config
    assert NAME in judged_by(run.config) and NAME not in judged_by(plain)


def test_its_column():
    row = {"name": "x", "seeds": [0], "mean": {NAME: 12.344}, "std": {NAME: None}}
    header, rows = results({"originals": {}, "rows": [row]})
    assert header[2] == COLUMNS[NAME][0] == "normalised error %" and rows[1][2] == "12.34"
