"""JSON has no NaN and no Infinity: what is written says null, notes why, and can be read again."""

import json
import math

import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.workdirs import make_workdir

from vae_jax.config import read_config
from vae_jax.config import to_json as config_to_json
from vae_jax.data.contract import in_memory
from vae_jax.evaluate import make_judge
from vae_jax.metrics.statistics import paired_t_tests
from vae_jax.reports.report import write_report
from vae_jax.reports.study import write_study
from vae_jax.runs.places import own_place
from vae_jax.runs.workdir import append_line, forget_after
from vae_jax.strict_json import to_json


def strictly(text: str):
    """The content of a JSON text, by a reader that refuses NaN and Infinity."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_null_and_a_note():
    content = {"a": 1.0, "b": [math.nan, {"c": -math.inf}], "d": (np.float64(np.inf), 2)}
    notes = {"b.0": "nan", "b.1.c": "-inf", "d.0": "inf"}
    assert strictly(to_json(content)) == {"a": 1.0, "b": [None, {"c": None}], "d": [None, 2], "not_finite": notes}
    assert strictly(to_json([1.5, math.nan])) == [1.5, None]
    assert to_json({"a": [0.1, "x", None]}, indent=2) == json.dumps({"a": [0.1, "x", None]}, indent=2)


def test_one_place_writes_json():
    """Two messages between processes, which no one else reads, apart."""
    writers = [path for path in (ROOT / "vae_jax").rglob("*.py") if "json.dump" in path.read_text()]
    assert {path.name for path in writers} == {"strict_json.py", "processes.py"}


def test_an_infinite_option_of_a_term(smoke, tmp_path):
    """Barron's loss of shape -inf is Welsch's: the workdir's config keeps it."""
    config = smoke("losses_mnist")
    config.terms = {"kl": config.terms.kl, "robust": {"weight": 1.0, "start": 0, "warmup": 0, "alpha": -math.inf}}
    (tmp_path / "config.json").write_text(config_to_json(config))
    assert strictly((tmp_path / "config.json").read_text())["terms"]["robust"]["alpha"] == "-inf"
    assert read_config(tmp_path).terms.robust.alpha == -math.inf


def test_a_run_whose_numbers_are_not_finite(tmp_path, monkeypatch):
    """metrics.json, scalars.jsonl and the report, which reads both."""
    from vae_jax import evaluate

    run = evaluate.load_workdir(make_workdir(tmp_path / "run"))
    judged = {"mse": np.array([1.0, np.nan], np.float32), "psnr": np.array([2.0, 4.0], np.float32)}
    monkeypatch.setattr(evaluate, "make_evaluate", lambda *_: lambda state, frozen: judged)
    monkeypatch.setattr(evaluate, "make_pictures", lambda *_: lambda state, frozen: {})
    make_judge(
        run.config, run.experiment, in_memory(np.zeros((2, 28, 28, 1), np.uint8)), run.mesh, own_place(tmp_path / "run")
    )(run.state, {})
    metrics = strictly((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert metrics["mse"] is None and metrics["psnr"] == 3 and metrics["not_finite"] == {"mse": "nan"}
    log = tmp_path / "run" / "scalars.jsonl"
    for step in (1, 2, 3):
        append_line(log, {"step": step, "kl": math.inf if step > 1 else 1.0, "never": math.nan})
    forget_after(log, 2)
    lines = [strictly(line) for line in log.read_text().splitlines()]
    assert [line["kl"] for line in lines] == [1.0, None] and lines[1]["not_finite"] == {"kl": "inf", "never": "nan"}
    page = write_report(tmp_path / "run").read_text()
    assert "<td>not finite</td>" in page


def test_equal_runs_have_no_t_test(tmp_path):
    """Nor do runs that differ by a constant, or a single image."""
    values = {"a": np.array([1.0, 2.0, 4.0]), "b": np.array([1.0, 2.0, 4.0]), "c": np.array([2.0, 3.0, 5.0])}
    for test in (*paired_t_tests(values), *paired_t_tests({"a": np.ones(1), "b": np.zeros(1)})):
        assert test.t is None and test.p is None and math.isfinite(test.difference)
        write_study(tmp_path, "study", {"tests": [test._asdict()]}, [])
        assert strictly((tmp_path / "study.json").read_text())["tests"][0]["t"] is None


@pytest.mark.parametrize("text", ["NaN", "[1, Infinity]"])
def test_the_reader_of_these_tests(text):
    with pytest.raises(ValueError):
        strictly(text)
