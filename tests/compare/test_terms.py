"""How far runs drift apart, through the command, from logs written by hand."""

import pytest
from helpers.commands import assert_mistake, run
from helpers.workdirs import make_workdir

from vae_jax.runs.workdir import append_line


def log(workdir, lines, **changes) -> str:
    make_workdir(workdir, **changes)
    for step, bce, kl in lines:
        line = {"step": step, "bce": bce, "kl": kl, "kl_weight": 3.0, "gradient_norm/vae": 7.0, "loss/vae": bce + kl}
        append_line(workdir / "scalars.jsonl", line | {"images_per_second": 99.0})
    append_line(workdir / "scalars.jsonl", {"step": lines[-1][0], "eval/kl": 77.0})
    return str(workdir)


def terms(*workdirs: str, flags=()):
    return run("vae_jax.compare.terms", f"--workdirs={','.join(workdirs)}", *flags)


@pytest.fixture
def runs(tmp_path):
    first = log(tmp_path / "first", [(10, 30.0, 4.0), (20, 40.0, 3.0)])
    half = log(tmp_path / "half", [(10, 33.0, 4.0), (20, 40.0, 3.0)], dtype="bfloat16")
    seed = log(tmp_path / "seed", [(10, 30.0, 0.0), (20, 40.0, 0.0), (30, 9.0, 9.0)], seed=1)
    return first, half, seed


def test_the_distance_of_terms(runs):
    """|33 - 30| beside sqrt(30^2 + 40^2) = 50, a term that is gone, and none of what is no term."""
    table = terms(*runs).stdout.splitlines()
    assert table[0].split(" | ")[2:] == ["mean of the first run", "dtype=bfloat16", "seed=1 |"]
    assert [line.split(" | ")[1:] for line in table[2:]] == [
        ["bce", "35", "6.0e-02", "0.0e+00 |"],
        ["kl", "3.5", "0.0e+00", "1.0e+00 |"],
        ["loss/vae", "38.5", "5.5e-02", "9.1e-02 |"],
    ]
    assert "| bce | 30 | 1.0e-01 | 0.0e+00 |" in terms(*runs, flags=("--steps=10",)).stdout


def test_mistakes(runs, tmp_path):
    assert_mistake(terms(runs[0]), "Expected two or more runs of")
    assert_mistake(terms(*runs, runs[1]), "differs from the first in its own way")
    assert_mistake(terms(*runs, flags=("--steps=5",)), "has logged no step up to 5")
    later = log(tmp_path / "later", [(15, 30.0, 4.0)])
    assert_mistake(terms(runs[0], later), "have logged no step in common")
