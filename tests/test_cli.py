"""The commands as a user meets them: bad input is one clear message before anything is compiled, exit code 2."""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.commands import assert_mistake, run
from helpers.workdirs import make_workdir
from PIL import Image

from vae_jax import cli, load_model
from vae_jax.config import check_config, flat
from vae_jax.errors import UserError
from vae_jax.experiment import check_shapes, make_experiment
from vae_jax.metrics import check_metrics

SMOKE = "--config=configs/dfc_mnist.py:smoke"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--config=NAME or --config=FILE.py"]),
        ([SMOKE, "--workdir=nowhere://bucket/x"], ["nowhere://bucket/x is no address that can be used", "nowhere"]),
        ([SMOKE, "--workdir=memory://bucket"], ["memory://bucket is a whole bucket", "memory://bucket/run"]),
        ([SMOKE, "--config.data.dir=gs://bucket/x"], ["gs://bucket/x is not a folder", "gs: is not read here"]),
        (["--flagfile=nowhere"], ["nowhere", "No such file"]),
        (["--config=configs/dfc_mnst.py"], ["no config configs/dfc_mnst.py", "'configs/dfc_mnist.py'"]),
        (["--config=configs/dfc_mnist.py:quik"], ["Unknown variant 'quik'", "'quick'"]),
        ([SMOKE, "--config.batchsize=3"], ["'batchsize'", "'batch_size'"]),
        ([SMOKE, "--config.data.nam=x"], ["'data.nam'", "'data.name'"]),
        ([SMOKE, "--config.steps=many"], ["--config.steps is 'many'; expected a whole number."]),
        ([SMOKE, "--config.shard_state=yes"], ["--config.shard_state is 'yes'; expected True or False."]),
        ([SMOKE, "--config.ema=much"], ["--config.ema is 'much'; expected a number."]),
        ([SMOKE, "--profile=abc"], ["--profile is 'abc'; expected a whole number."]),
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


SETTABLE = {  # --config.KEY=VALUE ... -> what is wrong, or nothing
    "terms.ssim.weight=1": "",
    "terms.sharpness.reduction=mean": "",
    "terms.ssm.weight=1": "Unknown term 'ssm'. Did you mean 'ssim'",
    "terms.bce.wight=1": "The term bce has no option 'wight'. ",
    "terms.kl.wight=1": "The term kl has no options besides weight, start, warmup",
    "terms.feature.taps=relu1,relu2 backbone.name=mnist_classifier": "",
    "terms.feature.taps=relu1 backbone.name=mnist_classifier": "",
    "optimizers.vae.name=adam": "",
    "optimizers.vae.beta2=0.99 optimizers.vae.name=adam": "",
    "optimizers.vae.decy=3": "The optimizer rmsprop has no option 'decy'. Did you mean 'decay'",
    "optimizers.vae.name=adamw optimizers.vae.weight_decay=0.1 optimizers.vae.clip_norm=1": "",
    "optimizers.decoder.name=adam": "must name the players of vae: vae; 'decoder' is missing or unexpected",
    "encoder.width=8 encoder.name=residual": "",
    "encoder.nam=residual": "The network mnist (encoder.name) has no option 'nam'",
    "data.name=exemplars data.source=cifar10": "",
    "metrics=psnr,ssim": "",
    "metrics=psnr,lpips": "Unknown metric 'lpips'. Did you mean 'lpips_",
}


@pytest.mark.parametrize("values", SETTABLE)
def test_any_key_can_be_set(values, monkeypatch):
    """Also those of terms, optimisers and options that the config leaves at their defaults."""
    given = dict(value.split("=") for value in values.split())
    monkeypatch.setattr(cli, "_VALUES", given)
    (config,) = cli.load_configs(["vae_mnist:smoke"])
    check_config(config)
    try:
        check_metrics(config.metrics)
        experiment = make_experiment(config, (28, 28, 1), labelled=True)
        check_shapes(config, experiment, {}) if SETTABLE[values] else None
    except UserError as error:
        assert SETTABLE[values] and re.search(SETTABLE[values].replace("(", r"\(").replace(")", r"\)"), str(error))
    else:
        assert not SETTABLE[values]
    for key, text in given.items():
        found = flat(config.to_dict())[key]
        assert text in (
            str(found),
            f"{found:g}" if isinstance(found, float) else ",".join(map(str, np.atleast_1d(found))),
        )


def test_help():
    """Exit code 0; the flags of a command, and the keys of a config."""
    for module, arguments, words in (
        ("vae_jax.main", [], ["Trains, resumes", "--workdir", "Folder of the run", "NAME or FILE.py"]),
        ("vae_jax.main", [SMOKE], ["--workdir", "terms.feature.weight=", "batch_size=8", "images per step"]),
        ("vae_jax.compare", [], ["--workdirs", "--config.KEY"]),
        ("vae_jax.configs", [], ["List the published configs"]),
    ):
        result = run(module, "--help", *arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert all(word in result.stdout for word in words)


def test_odd_paths_and_flag_files(tmp_path, monkeypatch):
    """~ in a flag and in a key, brackets, bytes that are not UTF-8 in a strict locale, flags from a file."""
    home = tmp_path / "home $x"
    (home / "data" / "train" / "gel\udcf6scht[1]").mkdir(parents=True)
    for i in range(8):
        Image.new("L", (28, 28), 30 * i).save(home / "data" / "train" / "gel\udcf6scht[1]" / f"{i}\n\udcff.png")
    (home / "data" / "train" / "gel\udcf6scht[1]" / "broken\udcff.png").touch()
    (home / "data" / "test").symlink_to("train")
    flag_file = tmp_path / "flags"
    flag_file.write_text(
        "# a run\n--config=vae_mnist:smoke\n--config.data.name=image_folder\n--config.data.dir=~/data\n"
        "--config.compilation_cache=~/cache\n--config.metrics=psnr, digit_accuracy\n--config.terms.l1.weight=2\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    workdir = "runs/b[0]/gel\udcf6scht"
    result = run("vae_jax.main", f"--workdir=~/{workdir}", f"--flagfile={flag_file}")
    assert result.returncode == 0, result.stderr
    assert r"broken\udcff.png" in result.stdout and "digit_accuracy" in result.stdout
    assert {path.name for path in home.iterdir() if path.name[0] != "."} == {"cache", "data", "runs"}
    assert (home / workdir / "report.html").is_file() and list((home / "cache").iterdir())
    again = run("vae_jax.evaluate", f"--workdir=~/{workdir}")
    assert again.returncode == 0, again.stderr
    assert load_model(f"~/{workdir}").sample(jax.random.key(0), 1).shape == (1, 28, 28, 1)


def test_evaluate_and_convert(tmp_path):
    assert_mistake(run("vae_jax.evaluate"), "--workdir=... is missing. Folder or address of a trained run")
    assert_mistake(run("vae_jax.evaluate", "--workdir=x", SMOKE), "evaluate takes no config: it reads that of the run")
    assert_mistake(run("vae_jax.evaluate", f"--workdir={tmp_path}"), "has no config.json")
    assert_mistake(run("vae_jax.compare", f"--workdirs={tmp_path}", "--workdir=x"), "two or more runs")
    assert_mistake(run("pretrained_converters.convert", "vgg", "--source=x"), "Unknown converter 'vgg'")
    assert_mistake(run("pretrained_converters.convert", "vae_mnist", "--source=x"), "x (--source) does not exist")


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    code = f"import pathlib; from vae_jax import cli; cli.run(pathlib.Path('{tmp_path}/file/output').mkdir)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert_mistake(result, f"{tmp_path}/file/output", "Not a directory", "Choose another")


def test_evaluate_adds_metrics(tmp_path):
    make_workdir(tmp_path / "run")
    result = run("vae_jax.evaluate", f"--workdir={tmp_path / 'run'}", "--metrics=psnr,normalised_error,psnr_y_x2")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert {"psnr", "normalised_error", "psnr_y_x2", "mse", "kl", "step", "state_digest"} <= set(metrics)
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
        ({"accumulate": 0}, "accumulate is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": 2**64}, "it must be at most 18446744073709551615"),
        ({"data": {"crop": "sqare"}}, "data.crop is 'sqare'"),
        ({"optimizers": {"vae": {"learning_rate": float("nan")}}}, "learning_rate is nan; it must be above 0"),
        ({"optimizers": {"vae": {"clip_norm": -1}}}, "optimizers.vae.clip_norm is -1; it must be at least 0"),
        ({"optimizers": {"vae": {"eps": -1.0}}}, "optimizers.vae.eps is -1.0; it must be above 0"),
        ({"optimizers": {"vae": {"momentum": 5.0}}}, "optimizers.vae.momentum is 5.0; it must be below 1"),
        ({"optimizers": {"vae": {"weight_decay": -1.0}}}, "optimizers.vae.weight_decay is -1.0; it must be at least 0"),
        ({"optimizers": {"vae": {"clip_norm": "much"}}}, "optimizers.vae.clip_norm is 'much'; expected a number"),
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
