"""The commands as a user meets them: bad input is one clear message before anything is compiled, exit code 2."""

import json
import subprocess
import sys

import jax
import pytest
from helpers.checks import ROOT
from helpers.commands import assert_mistake, run
from helpers.workdirs import make_workdir

from vae_jax import cli
from vae_jax.config import check_config
from vae_jax.errors import UserError
from vae_jax.experiment import make_experiment

SMOKE = "--config=configs/dfc_mnist.py:smoke"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--config=NAME or --config=FILE.py"]),
        (["--config=configs/dfc_mnst.py"], ["no config configs/dfc_mnst.py", "'configs/dfc_mnist.py'"]),
        (["--config=configs/dfc_mnist.py:quik"], ["Unknown variant 'quik'", "'quick'"]),
        ([SMOKE, "--config.batchsize=3"], ["'batchsize'", "'batch_size'"]),
        ([SMOKE, "--config.data.nam=x"], ["'data.nam'", "'data.name'"]),
        ([SMOKE, "--config.steps=many"], ["--config.steps=many"]),
        ([SMOKE, "--wrkdir=x"], ["'wrkdir'", "workdir"]),
        ([SMOKE, "config.steps=40"], ["'config.steps=40' is not a flag"]),
        (["--config=README.md"], ["no config README.md"]),
        (["--config.seed=3"], ["--config.seed needs --config="]),
        ([SMOKE, "--coordinator=host:1"], ["--num_processes=N and --process_id=I are only valid together"]),
        ([SMOKE, "--num_processes=2", "--process_id=0"], ["only valid together"]),
        ([SMOKE, "--coordinator=host", "--num_processes=2", "--process_id=0"], ["--coordinator=host has no port"]),
        ([SMOKE, "--coordinator=host:1", "--num_processes=2", "--process_id=2"], ["process_id < num_processes"]),
        ([SMOKE, "--distributed=auto", "--process_id=1"], ["--distributed=auto finds them"]),
        ([SMOKE, "--distributed=auto"], ["jax cannot determine the processes", "Pass --coordinator=HOST:PORT"]),
        ([SMOKE, "--distributed=yes"], ["auto"]),
    ],
)
def test_mistakes_in_flags(arguments, words):
    assert_mistake(run("vae_jax.main", "--workdir=unused", *arguments), *words)
    assert not (ROOT / "unused").exists()


def test_mistakes_in_names_and_data(tmp_path):
    config = "--config=configs/dfc_mnist.py:smoke"
    workdir = f"--workdir={tmp_path / 'run'}"
    (tmp_path / "empty" / "train").mkdir(parents=True)
    folder = ["--config.data.name=image_folder", f"--config.data.dir={tmp_path / 'empty'}"]
    assert_mistake(run("vae_jax.main", config, workdir, *folder), "No images in", "empty/train")
    assert_mistake(run("vae_jax.main", config, workdir, "--config.batch_size=600"), "512 images, fewer than a batch")
    assert_mistake(
        run("vae_jax.main", config, workdir, f"--config.backbone.weights={tmp_path}/no.safetensors"),
        "No weights at", "no.safetensors is missing",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"terms": {"feature": {"taps": ("relu1",)}}}, "2 tap weights for the taps"),
        ({"terms": {"feature": {"reduction": "summ"}}}, "Unknown reduction 'summ'. Did you mean 'sum'"),
        ({"data": {"grey": False}}, "do not fit together: mnist_classifier takes grey images"),
        ({"encoder": {"name": "residual"}, "decoder": {"name": "residual"}, "image_size": 30}, "multiples of four"),
    ],
)
def test_parts_that_do_not_fit_leave_no_workdir(changes, words, tmp_path):
    from vae_jax.train import train

    with pytest.raises(UserError, match=words):
        train(load(**changes).lock(), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_evaluate_and_convert(tmp_path):
    assert_mistake(run("vae_jax.evaluate", f"--workdir={tmp_path}"), "has no config.json")
    assert_mistake(run("vae_jax.compare", f"--workdirs={tmp_path}", "--workdir=x"), "two or more runs")
    assert_mistake(run("pretrained_converters.convert", "vgg", "--source=x"), "Unknown converter 'vgg'")
    assert_mistake(run("pretrained_converters.convert", "vae_mnist", "--source=x"), "x (--source) does not exist")


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    code = f"import pathlib; from vae_jax import cli; cli.run(pathlib.Path('{tmp_path}/file/output').mkdir)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert_mistake(result, f"{tmp_path}/file/output", "Not a directory", "Choose another")


def test_evaluate_chosen_metrics(tmp_path):
    make_workdir(tmp_path / "run")
    result = run("vae_jax.evaluate", f"--workdir={tmp_path / 'run'}", "--metrics=psnr,ssim")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert {"psnr", "ssim", "kl", "step", "state_digest"} <= set(metrics) and "mse" not in metrics
    assert_mistake(run("vae_jax.evaluate", f"--workdir={tmp_path / 'run'}", "--metrics=pnsr"), "'pnsr'", "'psnr'")


def load(name="dfc_mnist", **changes):
    config = cli.load_config(f"{ROOT}/configs/{name}.py:smoke")
    config.update(changes)
    return config


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 5}, r"steps \(5\) must be a multiple of steps_per_call \(2\)"),
        ({"latents": 0}, "latents is 0; it must be at least 1"),
        ({"ema": 1.0}, "ema is 1.0; it must be below 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"data": {"crop": "sqare"}}, "data.crop is 'sqare'"),
        ({"optimizers": {"vae": {"learning_rate": float("nan")}}}, "learning_rate is nan; it must be above 0"),
        ({"terms": {"kl": {"weight": float("inf")}}}, "terms.kl.weight is inf"),
        ({"terms": {}}, "no loss terms"),
    ],
)
def test_numbers_that_make_no_sense(changes, words):
    config = load()
    if changes == {"terms": {}}:
        del config["terms"]
        config.terms = {}
    else:
        config.update(changes)
    with pytest.raises(UserError, match=words):
        check_config(config)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"system": "vea"}, "Unknown system 'vea'. Did you mean 'vae'"),
        ({"encoder": {"name": "mnits"}}, "Unknown encoder.name 'mnits'. Did you mean 'mnist'"),
        ({"terms": {"bec": {"weight": 1.0, "start": 0, "warmup": 0}}}, "Unknown term 'bec'. Did you mean 'bce'"),
        ({"terms": {"cross_entropy": {"weight": 1.0, "start": 0, "warmup": 0}}}, "vae does not take the term"),
        ({"terms": {"feature": {"taps": ()}}}, "terms.feature.taps is empty"),
        ({"terms": {"kl": {"start": -1}}}, "cannot be negative"),
        ({"optimizers": {"decoder": {"name": "adam"}}}, "name the players of vae: vae"),
        ({"optimizers": {"vae": {"name": "adm"}}}, "Unknown optimizer 'adm'. Did you mean 'adam'"),
        ({"optimizers": {"vae": {"schedule": "cosin"}}}, "Unknown schedule 'cosin'. Did you mean 'cosine'"),
        ({"optimizers": {"vae": {"warmup_steps": 4}}}, "must be less than the run's steps"),
        ({"image_size": 7}, "at least 8 pixels for relu2"),
        ({"optimizers": {"vae": {"name": "adam"}}}, "The optimizer adam has no option 'decay'. Did you mean"),
        ({"encoder": {"blocks": 2}}, "The network mnist .* has no option 'blocks'. It takes no options"),
    ],
)  # fmt: skip
def test_names_are_checked_before_compiling(changes, words):
    with pytest.raises(UserError, match=words):
        make_experiment(load(**changes), (28, 28, 1), labelled=True)


def test_a_classifier_needs_labels():
    config = load("classifier_mnist")
    with pytest.raises(UserError, match="has no labels"):
        jax.eval_shape(make_experiment(config, (28, 28, 1), labelled=False).init)
