"""Every config runs: shapes of init and step for all variants; every key is read by somebody."""

import re

import jax
import pytest
from helpers.checks import ROOT
from ml_collections import ConfigDict

from vae_jax import configs
from vae_jax.cli import load_config
from vae_jax.config import check_config, differences, flat, read_config, to_json
from vae_jax.data.augment import stored_shape
from vae_jax.experiment import make_experiment
from vae_jax.train_step import make_train_step

NAMES = configs.names()
COMMON_KEYS = ("seed", "steps", "batch_size", "image_size", "steps_per_call", "data.name", "data.dir", "backbone.name",
            "system", "latents")  # fmt: skip


@pytest.mark.parametrize("variant", ["", "quick", "smoke"])
@pytest.mark.parametrize("name", NAMES)
def test_shapes_of_init_and_step(name, variant):
    config = load_config(f"{ROOT}/configs/{name}.py:{variant}")
    if config.backbone.name != "mnist_classifier":
        config.backbone.weights = "random"  # the others do not come with the repository
    if "inverted" in config:
        config.inverted.weights = "random"
    check_config(config.lock())
    assert config.name.startswith(name)
    shape = (config.image_size, config.image_size, 1 if config.data.grey else 3)
    experiment = make_experiment(config, shape, labelled=True)
    state = jax.eval_shape(experiment.init)
    frozen = jax.eval_shape(experiment.system.frozen)
    assert experiment.batch["image"].shape == (config.batch_size, *stored_shape(config))
    step = make_train_step(experiment.system, experiment.optimizers, config.ema, experiment.augment)
    after, scalars = jax.eval_shape(step, state, frozen, experiment.batch, jax.eval_shape(lambda: jax.random.key(0)))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert all(value.shape == () for value in scalars.values())
    assert set(config.terms) <= set(scalars)


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_others_rely_on(name):
    keys = flat(load_config(f"{ROOT}/configs/{name}.py").to_dict())
    assert set(COMMON_KEYS) <= set(keys)
    assert any(re.fullmatch(r"terms\.\w+\.weight", key) for key in keys)


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_how_to_run_it(name):
    text = (ROOT / "configs" / f"{name}.py").read_text()
    assert f"--config=configs/{name}.py" in text


def test_every_common_key_is_read_in_the_package():
    code = "\n".join(path.read_text() for path in (ROOT / "vae_jax").rglob("*.py"))
    for key in flat(load_config(f"{ROOT}/configs/common.py").to_dict()):
        last = key.split(".")[-1]
        assert re.search(rf'\.{last}\b|"{last}"', code), f"nobody reads {key}"


def test_saved_and_read_again(tmp_path):
    config = load_config(f"{ROOT}/configs/dfc_mnist.py")
    (tmp_path / "config.json").write_text(to_json(config))
    assert differences(read_config(tmp_path), config) == []
    other = ConfigDict(config.to_dict())
    other.terms.feature.taps, other.log_every = ("relu1",), 5
    assert differences(read_config(tmp_path), other) == [
        "  terms.feature.taps: ['relu1', 'relu2'] in the workdir, ['relu1'] now"
    ]
