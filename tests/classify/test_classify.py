"""Folds, SVMs on codes, and the command, on untrained workdirs."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import assert_mistake, run
from helpers.workdirs import make_workdir, unlabelled
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from vae_jax.classify import classification as module
from vae_jax.classify.classification import LabelledData, choose_c, classify, judge_codes, svm_accuracy
from vae_jax.classify.folds import Folds, make_folds, random_folds, read_folds
from vae_jax.data.contract import in_memory
from vae_jax.errors import UserError
from vae_jax.inference import load_workdir

LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("classify") / "plain")


def codes_of(labels, rng):
    """Codes that a linear SVM separates only after standardisation; one of them is constant."""
    z = rng.normal(size=(len(labels), 4)) * [1e-5, 0.3, 40, 0] + [7, 0, -300, 0.1]
    z[:, 0] += 1e-3 * (labels == 0)
    z[:, 2] += 4000 * (labels == 1)
    return z.astype(np.float32)


def test_random_folds_are_balanced_and_always_the_same():
    labels = np.array([3] * 30 + [5] * 12 + [9] * 18)
    folds = random_folds(labels, 4, 20)
    for fold in folds:
        assert len(set(fold)) == 20
        assert [np.count_nonzero(labels[fold] == c) for c in (3, 5, 9)] == [7, 7, 6]
    assert len({tuple(fold) for fold in folds}) == 4
    for fold, again in zip(folds, random_folds(labels, 6, 20), strict=False):
        np.testing.assert_array_equal(fold, again)
    np.testing.assert_array_equal(random_folds(LABELS, 1, 6)[0], [0, 1, 2, 38, 43, 54])
    np.testing.assert_array_equal(random_folds(LABELS, 1, 60)[0], np.arange(60))


def test_the_folds_of_a_file_are_used_as_given(tmp_path, capsys):
    file = tmp_path / "fold_indices.txt"
    file.write_text("5 4 3 2 1 0\n\n  0 1 2 3 4 5 56 59 \n")
    first, second = make_folds(Folds(file=file), LABELS, LABELS)
    np.testing.assert_array_equal(first, [5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(second, [0, 1, 2, 3, 4, 5, 56, 59])
    assert "have 2 to 4 examples: was the file made for these data, in this order?" in capsys.readouterr().out
    file.write_text("0 1 2 3 4 5\n")
    make_folds(Folds(file=file), LABELS, LABELS)
    make_folds(Folds(size=7), LABELS, LABELS)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "text, words",
    [
        ("0 1\n2 60", "line 2: '60' is not an index from 0 to 59 into the 60 examples of the train split"),
        ("0 -1", "line 1: '-1' is not an index"),
        ("0,1", "line 1: '0,1' is not an index"),
        ("\n \n", "is empty; expected one line of indices per fold"),
    ],
)
def test_mistakes_in_a_fold_file(text, words, tmp_path):
    (tmp_path / "folds").write_text(text)
    with pytest.raises(UserError, match=words):
        read_folds(tmp_path / "folds", 60)
    with pytest.raises(UserError, match=r"There is no file .*/none \(--fold_file\)"):
        read_folds(tmp_path / "none", 60)


@pytest.mark.parametrize(
    "folds, train, test, words",
    [
        (Folds(size=61), LABELS, LABELS, r"A fold of 61 examples \(--fold_size\) is larger than the train split, 60"),
        (Folds(count=0), LABELS, LABELS, "--folds is 0 and --fold_size is 1000; both must be at least 1"),
        (Folds(size=0), LABELS, LABELS, "--folds is 10 and --fold_size is 0; both must be at least 1"),
        (Folds(size=5), LABELS, LABELS, "Fold 1 has too few examples of class 2: 1; expected two or more"),
        (Folds(size=9), LABELS[:10] // 2, LABELS[:10] // 2, "needs 4 of class 1, but the train split has only 3"),
        (Folds(size=9), LABELS, LABELS % 2, "Class 2 of the train split is missing from the test split"),
        (Folds(size=9), LABELS % 2, LABELS, "Class 2 of the test split is missing from the train split"),
        (Folds(size=9), 0 * LABELS, 0 * LABELS, "All images belong to class 0; expected two or more classes"),
    ],
)
def test_impossible_folds(folds, train, test, words):
    with pytest.raises(UserError, match=words):
        make_folds(folds, train, test)


def test_separable_codes_are_all_classified():
    rng = np.random.default_rng(0)
    z_train, z_test = codes_of(LABELS, rng), codes_of(LABELS[:50], rng)
    folds = random_folds(LABELS, 3, 30)
    result = judge_codes(z_train, LABELS, z_test, LABELS[:50], folds)
    assert result["accuracies"] == [1.0] * 3 and (result["mean"], result["std"]) == (1, 0)
    assert result["tried"][f"{result['C']:g}"] == 1
    assert judge_codes(z_train, LABELS, z_test, LABELS[:50], folds) == result
    assert judge_codes(z_train, LABELS, z_test, LABELS[:50], folds[:1])["std"] is None


def test_an_accuracy_by_hand():
    """Two separable classes on a line; two of five test codes lie on the wrong side."""
    z = np.array([[-3], [-2], [-1], [1], [2], [3]], np.float32)
    labels = np.array([4, 4, 4, 8, 8, 8])
    assert svm_accuracy(0.1, z, labels, np.array([[-5], [-0.5], [0.5], [4], [9]]), np.array([4, 8, 4, 8, 8])) == 0.6


@pytest.mark.parametrize("c", module.CS)
@pytest.mark.parametrize("width", [3, 130])
def test_an_accuracy_is_that_of_scikit_learns_pipeline(width, c):
    """Codes narrower and wider than the 90 examples, for which there are two solvers."""
    rng = np.random.default_rng(width)
    z = (rng.normal(size=(150, width)) + 0.3 * (np.arange(150) % 3)[:, None]) * rng.uniform(0.1, 9, width) + 5
    labels = np.arange(150) % 3
    pipeline = make_pipeline(StandardScaler(), LinearSVC(C=c, dual=width > 90, max_iter=10_000, tol=1e-6))
    expected = pipeline.fit(z[:90], labels[:90]).score(z[90:], labels[90:])
    accuracy = svm_accuracy(c, z[:90], labels[:90], z[90:], labels[90:])
    assert 0.35 < accuracy < 1 and abs(accuracy - expected) <= 1 / 60


def test_mean_and_deviation_are_over_the_folds():
    """Half of the test codes are uninformative, so that the folds disagree about them."""
    rng = np.random.default_rng(1)
    z_train, z_test = codes_of(LABELS, rng), codes_of(LABELS, rng)
    z_train[::2], z_test[::2] = codes_of(rng.permutation(LABELS[::2]), rng), codes_of(rng.permutation(LABELS[::2]), rng)
    folds = random_folds(LABELS, 4, 30)
    result = judge_codes(z_train, LABELS, z_test, LABELS, folds)
    expected = [svm_accuracy(result["C"], z_train[f], LABELS[f], z_test, LABELS) for f in folds]
    assert result["accuracies"] == expected and len(set(expected)) > 1
    np.testing.assert_allclose((result["mean"], result["std"]), (np.mean(expected), np.std(expected, ddof=1)))


def test_c_is_chosen_on_the_first_fold_alone(monkeypatch):
    """Trained on four fifths of each class, evaluated on the rest; ties go to the most regularised."""
    calls = []

    def accuracy(c, z_train, train, z_test, test):
        calls.append((z_train[:, 0].tolist(), train.tolist(), z_test[:, 0].tolist(), test.tolist()))
        return 0.9 if c in (0.01, 0.1) else 0.8

    monkeypatch.setattr(module, "svm_accuracy", accuracy)
    z, labels = np.arange(12.0)[:, None], np.array([0, 1] * 5 + [0, 1])
    tried = choose_c(z, labels)
    assert next(iter(tried)) == 0.01 and set(tried) == set(module.CS)
    learnt, held_out = list(range(10)), [10, 11]
    assert calls == [(learnt, [0, 1] * 5, held_out, [0, 1])] * len(module.CS)


def test_the_command(workdir, tmp_path):
    other = make_workdir(tmp_path / "dfc", "dfc_mnist")
    arguments = [f"--workdirs={workdir},{other}", f"--workdir={tmp_path / 'out'}", "--folds=3", "--fold_size=100"]
    result = run("vae_jax.classify", *arguments)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out" / "classify.json").read_text())
    table = (tmp_path / "out" / "classify.md").read_text()
    assert table in result.stdout
    assert record["train"] == {"split": "train", "images": 512} and record["test"] == {"split": "test", "images": 100}
    assert (record["data"], record["classes"], record["chance"]) == ("synthetic", 10, 0.1)
    assert record["folds"] == {"file": None, "sizes": [100] * 3}
    assert [row["name"] for row in record["rows"]] == ["vae_mnist", "dfc_mnist"]
    for row in record["rows"]:
        assert row["code_size"] == 5 and row["step"] == 0 and len(row["accuracies"]) == 3
        line = f"| {row['name']} | {100 * row['mean']:.2f} ± {100 * row['std']:.2f} | 5 | {row['C']:g} |"
        assert line in table and 0.1 < row["mean"] < 0.9
    assert "| chance | 10.00 |  |  |" in table and "3 folds of 100 of the 512 images of train" in table

    again = classify([workdir, other], tmp_path / "again", LabelledData(), Folds(3, 100))
    assert [row["accuracies"] for row in again["rows"]] == [row["accuracies"] for row in record["rows"]]


def test_codes_may_be_maps(workdir, tmp_path, monkeypatch):
    """One-hot codes [N, 2, 5, 1] of the class; folds of different lengths."""

    def encode(model, dataset):
        return np.eye(10, dtype=np.float32)[dataset.arrays["label"]].reshape(-1, 2, 5, 1)

    monkeypatch.setattr(module, "encode_dataset", encode)
    file = tmp_path / "folds"
    file.write_text("\n".join(" ".join(map(str, range(length))) for length in (20, 40)))
    record = classify([workdir, workdir], tmp_path / "out", LabelledData(), Folds(file=str(file)))
    assert record["folds"] == {"file": str(file), "sizes": [20, 40]}
    assert [row["accuracies"] for row in record["rows"]] == [[1.0, 1.0]] * 2
    table = (tmp_path / "out" / "classify.md").read_text()
    assert "2 folds of 20 to 40 of" in table
    for name in ("vae_mnist", Path(workdir).name):
        assert f"| {name} | 100.00 ± 0.00 | 10 |" in table


def write_folder(folder, classes, size=(30, 20)):
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", size, (0, 60 * number + i, 0)).save(folder / split / name / f"{i}.png")
    return str(folder)


def test_other_data_get_the_size_and_colours_of_the_run(tmp_path):
    """A run trained on grey crops of few examples per class classifies colour pictures."""
    data = {"crop": "40,40,100,100", "per_class": 3, "eval": "test[:50]"}
    folder = write_folder(tmp_path / "images", ("left", "right"))
    run_ = load_workdir(make_workdir(tmp_path / "run", data=data))
    dataset = module._load(run_, LabelledData("image_folder", folder), "train")
    assert dataset.image_shape == (28, 28, 1) and dataset.size == 8
    assert dataset.notes["classes"] == ["left", "right"]
    assert (
        module._load(run_, LabelledData(), "train").size == 512
        and module._load(run_, LabelledData(), "test").size == 100
    )
    streamed = dataset._replace(arrays=None)
    np.testing.assert_array_equal(module._labels(streamed, ""), module._labels(dataset, ""))
    record = classify([tmp_path / "run"], tmp_path / "out", LabelledData("image_folder", folder), Folds(2, 6))
    assert record["data"] == "image_folder" and record["rows"][0]["accuracies"]


def test_labels_of_a_streamed_set(monkeypatch):
    dataset = in_memory(np.zeros((60, 2, 2, 1), np.uint8), LABELS)._replace(arrays=None)
    monkeypatch.setattr(module, "READ", 25)
    np.testing.assert_array_equal(module._labels(dataset, ""), LABELS)


def test_mistakes(workdir, tmp_path):
    out = tmp_path / "out"
    result = run("vae_jax.classify", f"--workdirs={unlabelled(tmp_path)}", f"--workdir={out}")
    assert_mistake(result, "image_folder, split train, has no labels", "--data_name")
    assert_mistake(run("vae_jax.classify", "--workdirs=", f"--workdir={out}"), "one or more workdirs")
    with pytest.raises(UserError, match="larger than the train split, 512"):
        classify([workdir], out, LabelledData(), Folds())
    with pytest.raises(UserError, match="A classifier does not encode"):
        classify([make_workdir(tmp_path / "classifier", "classifier_mnist")], out, LabelledData(), Folds())
    with pytest.raises(UserError, match="synthetic has no split 'unlabelled'"):
        classify([workdir], out, LabelledData(train="unlabelled"), Folds(size=100))

    two, three = (write_folder(tmp_path / str(n), "abc"[:n]) for n in (2, 3))
    data = [{"name": "image_folder", "dir": folder} for folder in (two, three)]
    runs = [make_workdir(tmp_path / f"run{i}", data=own) for i, own in enumerate(data)]
    with pytest.raises(UserError, match="The runs were trained on image_folder and synthetic. Choose one data set"):
        classify([workdir, runs[0]], out, LabelledData(), Folds())
    with pytest.raises(UserError, match="run0 and .*run1 read different images of image_folder: their labels"):
        classify(runs, out, LabelledData(), Folds(1, 8))
    assert not out.exists()
