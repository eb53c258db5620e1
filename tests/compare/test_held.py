"""What a comparison says of terms that are held at a target, and of discriminators, by logs written by hand."""

import json

import pytest
from helpers.workdirs import make_workdir

from vae_jax.compare.comparison import compare
from vae_jax.runs.workdir import append_line

RATES = {  # workdir -> [mean KL of each hundred steps], from step 100 on
    "held": [50, 12, 10.4, 9.7, 10.1, 10, 10, 9.9, 10.1, 10, 10, 10.2],
    "lost": [50, 12, 9, 8.6, 8.2, 8, 8, 8, 8, 8, 8, 8],
}


@pytest.fixture
def workdirs(tmp_path):
    for name, rates in RATES.items():
        make_workdir(tmp_path / name, terms={"kl": {"target": 10.0}})
        for i, rate in enumerate(rates):
            line = {"step": 100 * (i + 1), "kl": rate, "kl_weight": 0.5 + i}
            append_line(tmp_path / name / "scalars.jsonl", line)
        append_line(tmp_path / name / "scalars.jsonl", {"step": 1200, "eval/kl": 77.0})
    return [str(tmp_path / name) for name in RATES]


def test_held_terms(workdirs, tmp_path):
    record = compare(workdirs, tmp_path / "out")
    held, lost = record["held"]
    assert (held["term"], held["target"], held["since"], held["weight"]) == ("kl", 10, 300, 11.5)
    assert held["mean"] == pytest.approx(sum(RATES["held"][2:]) / 10) and held["furthest"] == pytest.approx(0.04)
    assert lost["since"] is None and lost["furthest"] == pytest.approx(0.2)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["held"] == record["held"]
    text = (tmp_path / "out" / "compare.md").read_text()
    assert f"| {workdirs[0]} | kl | 10 | 10.04 (+0.4%) | 4.0% | 300 | 11.5 |" in text
    assert f"| {workdirs[1]} | kl | 10 | 8.18 (-18.2%) | 20.0% | not held | 11.5 |" in text
    assert "Terms that are held at a target" in (tmp_path / "out" / "compare.html").read_text()


def test_discriminators(tmp_path):
    """The last tenth of the steps; runs that differ in their seed share a row."""
    for seed, end in ((0, 0.2), (1, 0.4)):
        make_workdir(tmp_path / f"gan{seed}", "vaegan_mnist", seed=seed)
        for step, cost in ((10, 1.4), (90, 9.0), (95, end), (100, end + 0.1)):
            append_line(tmp_path / f"gan{seed}" / "scalars.jsonl", {"step": step, "gan": cost})
    make_workdir(tmp_path / "plain", "sharp_vae_mnist")
    record = compare([str(tmp_path / name) for name in ("gan0", "gan1", "plain")], tmp_path / "out")
    (only,) = record["discriminators"]
    assert only["term"] == "gan" and only["costs"] == pytest.approx([0.25, 0.45])
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "What discriminators cost at the end" in text and f"| {only['name']} | 2 | gan | 0.350 ± 0.141 |" in text
