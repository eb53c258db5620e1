"""The launch scripts for TPUs, with a gcloud that runs on this host what it should run on the TPU's machines."""

import os
import shlex
import signal

import pytest
from helpers.checks import ROOT
from helpers.stand_ins import AWKWARD, SECONDS, World, wait_until

TPU = {"TPU": "my-tpu", "ZONE": "zone-b", "ACCELERATOR": "v5litepod-32", "RUNTIME": "v2", "PROJECT": "p"}

GCLOUD = """
verb = words[3]
if verb == "describe": print(os.environ["STATE"])
if verb == "scp":
    os.makedirs(os.environ["HOME"], exist_ok=True)
    os.spawnvp(os.P_WAIT, "cp", ["cp", words[4], os.environ["HOME"] + "/vae_jax.tar.gz"])
if verb == "ssh":
    os.chdir(os.environ["HOME"])
    os.execvp("bash", ["bash", "-c", words[-1].removeprefix("--command=")])
"""


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


@pytest.mark.parametrize("name, worker", [("tpu_vm.sh", "0"), ("tpu_pod.sh", "all")])
def test_dry_runs_on_tpus(name, worker, world):
    result = world.run(ROOT / "launch" / name, *AWKWARD, DRY_RUN="1", SPOT="1", **TPU)
    assert result.returncode == 0, result.stderr
    lines = [shlex.split(line) for line in result.stdout.splitlines() if not line.startswith("#")]
    gcloud = ["gcloud", "compute", "tpus", "tpu-vm"]
    where = ["--zone=zone-b", "--project=p"]
    create, tar, copy, install, train = lines
    assert create == [*gcloud, "create", "my-tpu", *where, "--accelerator-type=v5litepod-32", "--version=v2", "--spot"]
    assert tar[0] == "tar" and copy == [*gcloud, "scp", tar[-2], "my-tpu:vae_jax.tar.gz", *where, f"--worker={worker}"]
    assert install[:-1] == train[:-1] == [*gcloud, "ssh", "my-tpu", *where, f"--worker={worker}"]
    assert "jax[tpu]" in install[-1]
    on_the_machine = shlex.split(train[-1].removeprefix("--command="))
    environment = ["env", "JAX_PLATFORMS=tpu,cpu"]  # an error where jax finds no TPU
    assert on_the_machine[:8] == ["cd", "vae_jax", "&&", *environment, "bash", "launch/attach.sh", ".launch"]
    assert on_the_machine[-len(AWKWARD) :] == AWKWARD  # the words that the machine's shell sees
    assert ("--distributed=auto" in on_the_machine) == (worker == "all")
    assert not world.asked()


def test_a_plan_comes_first(world):
    """Of the config's words alone; nothing is created if it does not fit."""
    words = ["--config=dfc_mnist:smoke", "--config.steps=3", "--workdir=gs://bucket/run"]
    dry = world.run(ROOT / "launch" / "tpu_pod.sh", *words, DRY_RUN="1", PLAN="v5e:4x4", PYTHON="python3", **TPU)
    first = shlex.split(dry.stdout.splitlines()[0])
    assert first == ["python3", "-m", "vae_jax.plan", "--topology=v5e:4x4", *words[:2]]
    environment = on_a_tpu(world, "sys.exit(0)", "")
    result = world.run(ROOT / "launch" / "tpu_vm.sh", *words, PLAN="v5e:4x4", PYTHON="false", **environment)
    assert result.returncode == 1 and not world.asked("gcloud")


def on_a_tpu(world, training: str, state: str = "READY") -> dict[str, str]:
    """The environment of tpu_vm.sh, with a gcloud that runs here what it should run on the machine."""
    world.stand_in("gcloud", GCLOUD)
    python = world.training(training)
    return TPU | {"STATE": state, "INSTALL": f"mkdir -p .venv/bin && ln -sf {python} .venv/bin/python"}


@pytest.mark.parametrize(
    "state, verbs",
    [
        ("", ["describe", "create"]),
        ("READY", ["describe"]),
        ("PREEMPTED", ["describe", "delete", "create"]),
        ("TERMINATED", ["describe", "delete", "create"]),
        ("STOPPED", ["describe", "start"]),
    ],
)
def test_a_tpu_is_created_once(world, state, verbs):
    """And the training runs on it with exactly the words of the command line; its exit code is returned."""
    environment = on_a_tpu(world, "sys.exit(2)", state)
    result = world.run(ROOT / "launch" / "tpu_vm.sh", *AWKWARD, BEFORE="touch before", **environment)
    assert result.returncode == 2, result.stderr
    assert [words[4] for words in world.asked("gcloud")] == [*verbs, "scp", "ssh", "ssh"]
    assert world.trained() == [AWKWARD]
    machine = world.folder / "home" / "vae_jax"
    assert (machine / "before").is_file() and (machine / "vae_jax" / "main.py").is_file()
    assert not (machine / ".git").exists()


def test_a_tpu_that_is_changing_is_left_alone(world):
    result = world.run(ROOT / "launch" / "tpu_pod.sh", *AWKWARD, **on_a_tpu(world, "", "CREATING"))
    assert result.returncode == 1 and "my-tpu is CREATING; try again" in result.stderr
    assert [words[4] for words in world.asked("gcloud")] == ["describe"]


def test_the_same_command_attaches_to_an_active_training(world):
    """Its code is not replaced meanwhile, it runs once, and both callers see its output to the end."""
    go = world.folder / "go"
    training = f"""
print('training', flush=True)
until = time.monotonic() + {SECONDS}
while not os.path.exists({str(go)!r}) and time.monotonic() < until: time.sleep(0.05)
print('done')"""
    environment = on_a_tpu(world, training)
    first = world.start(ROOT / "launch" / "tpu_vm.sh", *AWKWARD, **environment)
    wait_until(world.trained)
    marker = world.folder / "home" / "vae_jax" / "README.md"
    marker.write_text("as it was")
    other = world.run(ROOT / "launch" / "tpu_vm.sh", "--config=other.py", "--workdir=runs/r", **environment)
    assert other.returncode == 1 and "another command is running here" in other.stderr
    second = world.start(ROOT / "launch" / "tpu_vm.sh", *AWKWARD, **environment)
    begin = second.stdout.readline()
    assert begin.startswith("supervise: started ")
    go.touch()
    assert second.stdout.read() == "training\ndone\n" and second.wait(SECONDS) == 0
    output, errors = first.communicate(timeout=SECONDS)
    assert first.returncode == 0 and output == f"{begin}training\ndone\n", errors
    assert marker.read_text() == "as it was"
    assert world.trained() == [AWKWARD]


def test_an_attached_command_outlives_the_terminal(world):
    """SIGTERM to its pid, as in the header, still reaches it when the attached process is gone."""
    (code, heard), folder = world.obedient(), world.folder / "state"
    process = world.start(ROOT / "launch" / "attach.sh", folder, world.stand_in("obedient", code))
    wait_until(heard)
    process.kill()
    process.wait(SECONDS)
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    wait_until(lambda: (folder / "code").exists() and (folder / "code").read_text() == "0\n")
    assert heard() == ["listens", "15"]


def test_a_tpu_is_not_made_for_a_command_that_cannot_run(world):
    for name in ("tpu_vm.sh", "tpu_pod.sh"):
        for words in ([], ["--config=vae_mnist"], ["--workdir=gs://b/r"]):
            result = world.run(ROOT / "launch" / name, *words, **TPU)
            assert result.returncode == 2 and "--config=NAME --workdir=gs://BUCKET/RUN" in result.stderr
        dry = world.run(ROOT / "launch" / name, "--config=vae_mnist", "--workdir=runs/r", DRY_RUN="1", **TPU)
        assert dry.returncode == 0 and "the workdir is lost with the TPU's disk" in dry.stderr
    assert not world.asked("gcloud")
