"""The README and the pages below docs/ speak of what is there, and show the numbers that the commands wrote."""

import importlib.util
import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checks import ROOT

from vae_jax import configs, inversion, keys, systems
from vae_jax.bench import peers as bench_peers
from vae_jax.classify import classification as classify
from vae_jax.cli import load_config
from vae_jax.compare import tables as compare_tables
from vae_jax.config import check_config
from vae_jax.configs import common
from vae_jax.experiment import check_shapes, make_experiment
from vae_jax.latents import report as latents_report
from vae_jax.plan import page as plan_page
from vae_jax.reports import page
from vae_jax.runs import checkpoint

DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
WRITTEN = [DOCS, RESULTS]  # folders of pages that people wrote; commands wrote those in the folders of results
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "launch" / "README.md"]
    + [path for folder in WRITTEN for path in folder.glob("*.md")]
)
LONGEST = 160  # lines of the README


def read(path: str) -> str:
    return (DOCS / path).read_text()


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks in these languages, without the indentation that a list gives them."""
    found = re.findall(rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def anchors(path: Path) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- the README ----------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= LONGEST


def test_the_first_two_commands():
    """What .ci/run executes."""
    first, second = blocks((ROOT / "README.md").read_text(), "sh", "bash")[:2]
    assert "-m venv" in first and "requirements.txt" in first and "configs/dfc_mnist.py:quick" in first
    assert "--workdir=runs/quick" in first
    assert "[test]" in second and "pytest" in second


def test_the_map_of_the_house_is_that_of_the_repository():
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^## The map of the house\n\n```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    drawn = set()
    for line in block.splitlines():
        folder = ROOT / "vae_jax" if line.startswith("  ") else ROOT
        for name in re.findall(r"(?:^|(?<=/  ))\s*([\w.]+(?:\.py|/))", line):
            assert (folder / name).exists(), name
            drawn.add(name.rstrip("/"))
    rooms = {path.name for path in (ROOT / "vae_jax").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms <= drawn


# ---- every page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links_resolve(path):
    """Files, pictures and headings, from the folder of the page."""
    text = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_modules_and_configs_exist(path):
    text = path.read_text()
    for module in re.findall(r"-m ((?:vae_jax|pretrained_converters)[\w.]*)", text):
        assert importlib.util.find_spec(module.rstrip(".")), module
    if path.name == "extending.md":  # which adds configs
        return
    for name in re.findall(r"configs/(\w+)\.py", text):
        assert (ROOT / "configs" / f"{name}.py").exists(), name
    for name in re.findall(r"--config=(\w+)(?![\w./])", text):
        assert name in configs.names() or name in ("NAME", "A", "B"), name


def test_something_is_checked():
    texts = [path.read_text() for path in PAGES]
    for pattern in (r"\]\((?!http)", r"-m vae_jax\.main --config=\w+", r"-m pretrained_converters\.convert"):
        assert any(re.search(pattern, text) for text in texts), pattern


def test_every_page_is_in_an_index():
    indexed = [read("README.md"), read("results/README.md")]
    for path in PAGES:
        if DOCS in path.parents and path.name != "README.md":
            assert any(f"({path.name}" in text for text in indexed), path


def test_every_experiment_is_in_the_table():
    for name in configs.names():
        assert f"| `{name}` |" in read("configs.md")


def test_every_kind_of_thing_has_its_table():
    """The tables that docs/extending.md names are where it says they are."""
    rows = re.findall(r"^\| \[.*", read("extending.md"), re.MULTILINE)
    assert len(rows) >= 9
    for row in rows:
        _, folder, names, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        code = "\n".join(path.read_text() for path in (ROOT / folder.strip("`")).glob("*.py"))
        for name in re.findall(r"`((?:keys\.)?[A-Z_]+)`", names):
            declared = hasattr(keys, name.removeprefix("keys.")) if name.startswith("keys.") else f"\n{name}" in code
            assert declared, name


# ---- results -------------------------------------------------------------------------------------------------------

SHOWN = {  # the page that shows the table of a folder of docs/results
    "mnist": "mnist.md",
    "photos": "photographs.md",
    "sharpness": "sharpness.md",
    "deepsim_ae": "deepsim.md",
    "sr_x2": "super_resolution.md",
    "sr_x4": "super_resolution.md",
    "losses_emoji": "losses.md",
    "discriminators": "discriminators.md",
    "losses_photos": "losses.md",
    "losses_mnist_30": "losses.md",
    "losses_mnist_10": "losses.md",
}


def test_the_results_are_the_printed_ones():
    """Tables are what vae_jax.compare makes of its numbers today, and the pages show them."""
    folders = {path.parent for path in RESULTS.rglob("compare.json")}
    assert {folder.name for folder in folders} >= set(SHOWN)
    for folder in folders:
        table = page.markdown_table(*compare_tables.results(json.loads((folder / "compare.json").read_text()))).strip()
        assert table in (folder / "compare.md").read_text(), folder
        assert folder.name not in SHOWN or table in read(f"results/{SHOWN[folder.name]}"), folder


@pytest.mark.parametrize(
    ("module", "path", "shown"),
    [
        (classify, "deepsim_ae/classify", "deepsim.md"),
        (inversion, "inversion/inversion", "deepsim.md"),
        (latents_report, "cifar10/latents", "latents.md"),
    ],
)
def test_the_other_tables_are_the_printed_ones(module, path, shown):
    path = RESULTS / path
    table = page.markdown_table(*module._table(json.loads(path.with_suffix(".json").read_text()))).strip()
    assert table in path.with_suffix(".md").read_text() and table in read(f"results/{shown}")


@pytest.mark.parametrize("folder", ["rates_digits", "rates_photos"])
def test_the_held_rates_are_the_printed_ones(folder):
    _, start, rest = read(f"results/{folder}/compare.md").partition("| run | term | target |")
    assert rest and start + rest.partition("\n\n")[0] in read("results/rates.md")


@pytest.mark.parametrize("path", sorted((RESULTS / "bfloat16").glob("*.md")), ids=lambda path: path.stem)
def test_the_distances_are_the_printed_ones(path):
    assert path.read_text() in read("results/bfloat16.md")


@pytest.mark.parametrize("path", sorted((RESULTS / "plans").glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_plans_are_the_printed_ones(path):
    assert page.markdown_table(*plan_page.table(plan_page.read_records([str(path)]))).strip() in read("plan.md")


def test_the_readme_has_the_numbers_of_the_tables():
    """Every number of its table with two decimals or more stands on a page of results."""
    text = (ROOT / "README.md").read_text()
    (rows,) = re.findall(r"^\| system \|.*?\n((?:\|.*\n)+)", text, re.MULTILINE)
    printed = "\n".join(path.read_text() for path in RESULTS.glob("*.md"))
    numbers = re.findall(r"\d+\.\d{2,}", rows)
    assert len(numbers) > 25
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", printed), number


def test_the_averages_of_the_latents_are_said():
    _, rows = latents_report._table(json.loads((RESULTS / "cifar10" / "latents.json").read_text()))
    sentences = re.sub(r"^\|.*", "", read("results/latents.md"), flags=re.MULTILINE)
    for cell in rows[-1][3:]:
        assert cell in sentences, cell


def test_the_ratios_are_the_printed_ones():
    text = read("speed.md")
    files = [name for line in blocks(text, "sh") for name in re.findall(r"--table=(\S+)", line)]
    names = sorted(relative(path) for path in (RESULTS / "speed").glob("*.json"))
    assert files == [",".join(names)]
    records = bench_peers.read_records([ROOT / name for name in names])
    assert page.markdown_table(*bench_peers.comparison_table(records)) in text


def test_pictures_are_small():
    for path in DOCS.rglob("*.png"):
        assert path.stat().st_size < 300_000, path


# ---- sentences and examples ----------------------------------------------------------------------------------------


def test_limits_are_those_of_the_code():
    text = read("faults.md")
    assert f"{checkpoint.FAILED_SAVES} failed saves in a row end the run" in text
    assert f"goes on until {keys.NOT_FINITE['skip']} in a row" in text
    assert f"a share of {common.get_config().data.unreadable} of them (`data.unreadable`)" in text


@pytest.mark.parametrize("path", [path for path in PAGES if "```python" in path.read_text()], ids=relative)
def test_python_examples(path):
    for example in blocks(path.read_text(), "python"):
        compile(example, path.name, "exec")


def defined(name: str, *texts: str) -> dict:
    """What the example that defines `name` defines: a whole file, which begins with its docstring."""
    (example,) = [code for text in texts for code in blocks(text, "python") if f"def {name}(" in code]
    assert example.startswith('"""'), name
    namespace: dict = {}
    exec(compile(example, name, "exec"), namespace)
    return namespace


def test_examples_of_extending_are_what_they_say():
    text = read("extending.md")
    target, recon = jnp.zeros((3, 4, 5, 1)), jnp.full((3, 4, 5, 1), 0.25)
    np.testing.assert_allclose(defined("charbonnier", text)["charbonnier"](target, recon, epsilon=0.0), [5.0] * 3)
    np.testing.assert_allclose(defined("worst_pixel", text)["worst_pixel"](target, recon), [0.25] * 3)
    config = common.get_config()
    assert defined("noise", text)["noise"](config, "train").image_shape == (28, 28, 3)
    config.backbone.update(name="mnist_classifier")
    term = defined("feature_l1_term", text)["feature_l1_term"](config, tap="relu1")
    weights = term.load()
    seen = [term.see(weights, images) for images in (jnp.zeros((2, 28, 28, 1)), jnp.ones((2, 28, 28, 1)))]
    assert set(seen[0]) == set(term.taps) and term.compare(weights, *seen).shape == (2,)


def test_the_example_of_a_system_trains(monkeypatch):
    """The shapes of its first state and of a train step, by the line in each of the two tables that it names."""
    system = defined("autoencoder", read("extending.md"))["autoencoder"]
    monkeypatch.setitem(systems.SYSTEMS, "autoencoder", system)
    monkeypatch.setitem(keys.SYSTEMS, "autoencoder", keys.AUTOENCODER)
    config = common.get_config("autoencoder")
    config.update(encoder={"name": "mnist"}, decoder={"name": "mnist"})
    config.terms.l2, config.optimizers.autoencoder = common.term(1.0), common.adam(1e-3)
    check_config(config.lock())
    experiment = make_experiment(config, (28, 28, 3), labelled=False)
    check_shapes(config, experiment, experiment.system.frozen())


@pytest.mark.parametrize(("path", "name"), [("configs.md", "dfc_ssim"), ("extending.md", "ssim_mnist")])
def test_examples_of_configs(path, name, tmp_path):
    (example,) = [code for code in blocks(read(path), "python") if f'config.name = "{name}"' in code]
    (tmp_path / f"{name}.py").write_text(example)
    for variant in ("", ":quick", ":smoke"):
        config = load_config(f"{tmp_path}/{name}.py{variant}")
        check_config(config.lock())
        assert config.name == name and "ssim" in config.terms
