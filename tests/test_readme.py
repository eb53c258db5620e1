"""The README speaks of what is there."""

import importlib.util
import json
import re

import pytest
from helpers.checks import ROOT

from vae_jax import config, configs, inversion
from vae_jax.bench import peers as bench_peers
from vae_jax.classify import classification as classify
from vae_jax.compare import tables as compare_tables
from vae_jax.configs import common
from vae_jax.latents import report as latents_report
from vae_jax.reports import page
from vae_jax.runs import checkpoint

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_files_and_modules_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    configs = [f"configs/{name}.py" for name in re.findall(r"configs/(\w+)\.py", README) if name != "NAME"]
    modules = re.findall(r"-m ((?:vae_jax|pretrained_converters)[\w.]*)", README)
    assert links and configs and modules
    for path in links + configs:
        assert (ROOT / path).exists(), path
    for module in modules:
        assert importlib.util.find_spec(module), module


def test_every_experiment_is_in_the_table():
    for name in configs.names():
        assert f"| `{name}` |" in README


def test_the_first_two_commands():
    first, second = blocks("sh")[:2]
    assert "-m venv" in first and "requirements.txt" in first and "configs/dfc_mnist.py:quick" in first
    assert "[test]" in second and "pytest" in second


# Folders of docs/results whose tables the README shows
SHOWN = ("mnist", "photos", "sharpness", "deepsim_ae", "sr_x2", "sr_x4", "losses_photos", "losses_mnist")


def test_the_results_are_the_printed_ones():
    """Tables are what vae_jax.compare makes of its numbers today, and the README shows them."""
    folders = {path.parent for path in (ROOT / "docs" / "results").rglob("compare.json")}
    assert {folder.name for folder in folders} >= set(SHOWN)
    for folder in folders:
        table = page.markdown_table(*compare_tables.results(json.loads((folder / "compare.json").read_text()))).strip()
        assert table in (folder / "compare.md").read_text(), folder
        assert folder.name not in SHOWN or table in README, folder


@pytest.mark.parametrize(("module", "path"), [(classify, "deepsim_ae/classify"), (inversion, "inversion/inversion")])
def test_deepsims_tables_are_the_printed_ones(module, path):
    path = ROOT / "docs" / "results" / path
    table = page.markdown_table(*module._table(json.loads(path.with_suffix(".json").read_text()))).strip()
    assert table in path.with_suffix(".md").read_text() and table in README


def test_the_ratios_are_the_printed_ones():
    files = [name for line in blocks("sh") for name in re.findall(r"--table=(\S+)", line)]
    names = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "results" / "speed").glob("*.json"))
    assert files == [",".join(names)]
    assert page.markdown_table(*bench_peers.table(bench_peers.read_records([ROOT / name for name in names]))) in README


def test_the_predictions_are_the_printed_ones():
    """The same for vae_jax.latents, of whose table the README has the averages."""
    folder = ROOT / "docs" / "results" / "cifar10"
    record = json.loads((folder / "latents.json").read_text())
    header, rows = latents_report._table(record)
    assert page.markdown_table(header, rows).strip() in (folder / "latents.md").read_text()
    for cell in rows[-1][3:]:
        assert cell in README, cell


def test_pictures_are_small():
    for path in (ROOT / "docs").rglob("*.png"):
        assert path.stat().st_size < 300_000, path


def test_python_example():
    (example,) = blocks("python")
    compile(example, "README.md", "exec")


def test_limits_are_those_of_the_code():
    assert f"{checkpoint.FAILED_SAVES} failed saves in a row end the run" in README
    assert f"goes on until {config.NOT_FINITE['skip']} in a row" in README
    assert f"a share of {common.get_config().data.unreadable} of them (`data.unreadable`)" in README
