"""Every config runs: shapes of init and step for all variants; every key is used."""

import json
import re

import jax
import pytest
from helpers.checks import ROOT
from ml_collections import ConfigDict

from vae_jax import configs, keys
from vae_jax.cli import load_config
from vae_jax.config import check_config, differences, flat, read_config, to_json
from vae_jax.configs import common
from vae_jax.data import DATASETS
from vae_jax.data.augment import stored_shape
from vae_jax.data.crops import crop_of, with_crop
from vae_jax.errors import UserError
from vae_jax.experiment import make_experiment
from vae_jax.runs.workdir import open_workdir
from vae_jax.systems import SYSTEMS
from vae_jax.train_step import make_train_step

NAMES = configs.names()
COMMON_KEYS = ("seed", "steps", "batch_size", "image_size", "steps_per_call", "data.name", "data.dir", "backbone.name",
            "system", "latents")  # fmt: skip


LENGTHS = {
    "steps",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "data.name",
    "data.per_class",
    "terms.adversarial.start",
}


def variants():
    """(name, variant) of all programs: `quick` is one of its own where it changes more than lengths and data."""
    for name in NAMES:
        published, quick = (flat(load_config(f"{name}:{variant}").to_dict()) for variant in ("", "quick"))
        same = {key for key in published if published[key] != quick[key]} <= LENGTHS
        yield from ((name, variant) for variant in ("", "smoke") + ("quick",) * (not same))


@pytest.mark.parametrize("name", NAMES)
def test_quick_variants_are_valid(name):
    check_config(load_config(f"{name}:quick"))


@pytest.mark.parametrize(("name", "variant"), list(variants()))
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
        assert re.search(rf'\.{last}\b|"{last}"', code), f"{key} is never read"


def test_saved_and_read_again(tmp_path):
    config = load_config(f"{ROOT}/configs/dfc_mnist.py")
    (tmp_path / "config.json").write_text(to_json(config))
    assert differences(read_config(tmp_path), config) == []
    other = ConfigDict(config.to_dict())
    other.terms.feature.taps, other.log_every = ("relu1",), 5
    assert differences(read_config(tmp_path), other) == [
        "  terms.feature.taps: ['relu1', 'relu2'] in the workdir, ['relu1'] now"
    ]
    config.optimizers.vae.schedule = "constant"
    other = ConfigDict(config.to_dict())
    other.steps *= 2
    assert differences(config, other) == []  # a run can be made longer
    config.optimizers.vae.schedule = other.optimizers.vae.schedule = "cosine"
    (line,) = differences(config, other)
    assert line.endswith(f"{other.steps} now; the learning rate's cosine schedule depends on it")


def test_a_vae_gan_of_an_earlier_version(tmp_path):
    """It averaged the fakes' costs without saying so: it goes on like that, and no other way."""
    config = load_config(f"{ROOT}/configs/vaegan_celeba.py")
    mean, earlier = ConfigDict(config.to_dict()), ConfigDict(config.to_dict())
    mean.terms.gan.fake_cost = "mean"
    del earlier.terms.gan.fake_cost
    (tmp_path / "config.json").write_text(to_json(earlier))
    assert differences(read_config(tmp_path), mean) == []
    assert differences(read_config(tmp_path), config) == ["  terms.gan.fake_cost: 'mean' in the workdir, 'sum' now"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c.update(encodr={"name": "mnist"}), "Unknown config key 'encodr' of the system vae. .*'encoder'"),
        (lambda c: c.data.update(drop=1), "Unknown config key 'data.drop' .*'data.crop'"),
        (lambda c: c.update(discriminator={"name": "larsen"}), "Unknown config key 'discriminator' of the system vae"),
        (lambda c: c.update(checkpointing=True), "'checkpointing' .* It is now called 'remat'"),
        (lambda c: c.__delattr__("decoder"), "lacks the key 'decoder': a name in vae_jax.models.DECODERS"),
        (lambda c: c.data.__delattr__("eval"), "lacks the key 'data.eval': split to evaluate on"),
        (lambda c: c.terms.update(l1={"weight": 1.0}), "terms.l1 lacks 'start'"),
        (lambda c: c.optimizers.vae.__delattr__("name"), "optimizers.vae lacks 'name'"),
        (lambda c: _set(c, "steps", "many"), "steps is 'many'; expected a whole number"),
        (lambda c: _set(c, "batch_size", 2.5), "batch_size is 2.5; expected a whole number"),
        (lambda c: _set(c, "seed", True), "seed is True; expected a whole number"),
        (lambda c: _set(c, "metrics", "psnr"), "metrics is 'psnr'; expected a tuple"),
        (lambda c: _set(c, "encoder", "mnist"), "encoder is 'mnist'; expected a table"),
        (lambda c: _set(c, "encoder", {"width": 3}), "encoder lacks 'name'"),
        (lambda c: _set(c, "data", "mnist"), "data is 'mnist'; expected a table"),
        (lambda c: _set(c.terms, "kl", 1.0), "terms.kl is 1.0; expected a table"),
        (lambda c: _set(c, "remat", 1), "remat is 1; expected True or False"),
        (lambda c: _set(c, "eval_batch_size", -4), "eval_batch_size is -4; it must be at least 1"),
        (lambda c: c.data.update(unreadable=1.5), "data.unreadable is 1.5; it must be at most 1"),
        (lambda c: c.backbone.update(dtype="float16"), "backbone.dtype is 'float16'; expected 'float32' or 'bfloat16'"),
        (lambda c: _set(c, "system", "vea"), "Unknown system 'vea'. Did you mean 'vae'"),
        (lambda c: c.terms.kl.update(warmup=-1), "terms.kl.warmup is -1; it must be at least 0"),
        (lambda c: c.terms.kl.update(weight=-1.0), "terms.kl.weight is -1.0; it must be at least 0"),
        (lambda c: c.terms.bce.update(ConfigDict({"decoder_weight": -1.0})), "bce.decoder_weight is -1.0; it must be"),
        (lambda c: c.optimizers.vae.update(warmup_steps=-3), "vae.warmup_steps is -3; it must be at least 0"),
        (lambda c: c.backbone.update(name="vgg16"), "backbone.name is 'vgg16', but no loss term looks through it"),
    ],
)  # fmt: skip
def test_keys_that_are_wrong(change, words, smoke):
    """Also in custom configs, which no command-line flag has checked."""
    config = smoke("vae_mnist")
    change(config)
    with pytest.raises(UserError, match=words):
        check_config(config)


def _set(config, key, value):
    with config.ignore_type():
        config[key] = value


@pytest.mark.parametrize("name", [name for name in NAMES if load_config(name).data.name == "celeb_a"])
@pytest.mark.parametrize("variant", ["", "quick"])
def test_the_box_around_the_face_is_celebas(name, variant):
    """Other data are cropped to squares; a crop that is set counts for both."""
    config = load_config(f"{name}:{variant}")
    assert crop_of(config) == with_crop(config).data.crop == "40,30,138,138"
    config.data.name = "celeb_a:2.*.*"
    assert crop_of(config) == "40,30,138,138"
    config.data.name = "image_folder"
    assert crop_of(config) == "square"
    config.data.crop = "none"
    assert crop_of(config) == with_crop(config).data.crop == "none"


def test_a_workdir_that_recorded_the_box(tmp_path):
    """Of an earlier version: the same config opens it; it records the crop, which other data would not have."""
    config = load_config("dfc_celeba")
    tree = config.to_dict()
    tree["data"]["crop"] = "40,30,138,138"
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with open_workdir(tmp_path, config):
        assert read_config(tmp_path).data.crop == "40,30,138,138"
    config.data.name = "image_folder"
    with pytest.raises(UserError, match="data.crop: '40,30,138,138' in the workdir, 'square' now"):
        open_workdir(tmp_path, config).__enter__()


def test_every_system_declares_its_keys():
    assert keys.SYSTEMS.keys() == SYSTEMS.keys() and keys.DATA.keys() <= DATASETS.keys()
    for system, own in keys.SYSTEMS.items():
        config = common.get_config(system)
        assert config.system == system
        assert {name for name, key in own.items() if not key.term} <= set(keys.declared(system, "", {}))


def test_workdirs_of_earlier_versions(tmp_path, smoke):
    """A renamed key gets its new name, a new key the value that the version used; an unknown key is an error."""
    tree = smoke("classifier_mnist").to_dict()
    tree["checkpointing"] = tree.pop("remat")
    del tree["network"], tree["data"]["augment"], tree["data"]["unreadable"]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    config = read_config(tmp_path)
    assert config.network.name == "mnist" and config.data.augment == "" and config.remat is False
    assert config.data.unreadable == 1.0
    check_config(config)
    (tmp_path / "config.json").write_text(json.dumps(tree | {"sharpen": 1}))
    with pytest.raises(UserError, match="has the key 'sharpen', which this version of vae_jax does not know"):
        read_config(tmp_path)
    for nonsense in (tree | {"data": 3}, tree | {"terms": 3}, [1], 7):
        (tmp_path / "config.json").write_text(json.dumps(nonsense))
        with pytest.raises(UserError, match="config.json is not a config|config.json: terms is 3; expected a table"):
            read_config(tmp_path)


def test_a_custom_config_builds_on_a_published_one(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from vae_jax.configs import common, dfc_mnist\n\n\ndef get_config(arg=''):\n"
        "    config = dfc_mnist.get_config(arg)\n    config.name = 'mine'\n"
        "    config.terms.l1 = common.term(0.5)\n    return config\n"
    )
    config = load_config(f"{tmp_path}/mine.py:smoke")
    check_config(config)
    assert config.name == "mine" and set(config.terms) == {"kl", "feature", "l1"}


@pytest.mark.parametrize(
    "body, variant, words",
    [
        ("def get_config(): return {}", "", "returns dict; expected a ConfigDict"),
        ("def get_config(): pass", ":quick", "has no variants"),
        ("config = 1", "", "has no function get_config"),
        ("\ndef get_config(:", "", "mine.py, line 2: invalid syntax"),
        ("import math\nmath.tua", "", "mine.py, line 2: AttributeError: .*tua"),
        ("def get_config():\n    return 1 / 0", "", "mine.py, line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_files_that_are_no_configs(body, variant, words, tmp_path):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(UserError, match=words):
        load_config(f"{tmp_path}/mine.py{variant}")


def test_a_config_whose_variant_has_no_default(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from vae_jax.configs import vae_mnist\n\n\ndef get_config(arg):\n    return vae_mnist.get_config(arg)\n"
    )
    assert load_config(f"{tmp_path}/mine.py").steps > load_config(f"{tmp_path}/mine.py:smoke").steps
