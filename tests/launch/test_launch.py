"""The launch scripts except those for TPUs: dry runs, and runs with stand-ins for Slurm and the training.

No test calls a real scheduler: stand-ins come first on the PATH and record their arguments.
"""

import json
import os
import shlex
import subprocess
import sys

import pytest
from helpers.checks import ROOT
from helpers.stand_ins import AWKWARD, SECONDS, World, wait_until

SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), *(ROOT / "launch").glob("*.sbatch")])
STARTS = [sys.executable, "launch/supervise.py"]
MAIN = [sys.executable, "-m", "vae_jax.main"]


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


# ---- all of them ---------------------------------------------------------------------------------------------------


def test_all_scripts_exist():
    there = {path.name for path in (ROOT / "launch").iterdir()}
    assert {"gpu.sh", "tpu_vm.sh", "tpu_pod.sh", "slurm.sbatch", "jobset.yaml", "sweep.sh", "supervise.py"} <= there
    table = (ROOT / "launch" / "README.md").read_text()
    for name in there - {"README.md", "common.sh", "tpu.sh", "attach.sh", "__pycache__"}:
        assert f"`{name}`" in table, name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_syntax_and_header(path):
    result = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result.stderr
    if path.name not in ("common.sh", "tpu.sh"):
        assert os.access(path, os.X_OK)
        assert "# Checked " in path.read_text()
        assert "Not checked:" in path.read_text() or path.name == "attach.sh"  # which needs no machine of its own


DRY_RUNS = {
    "gpu.sh": ({"GPUS": "0,1"}, ["env", "JAX_PLATFORMS=cpu", "CUDA_VISIBLE_DEVICES=0,1"], "10", []),
    "slurm.sbatch": ({}, ["srun", "--kill-on-bad-exit=0"], "10", ["--distributed=auto"]),
    "jobset.sh": (
        {"COORDINATOR": "host:1", "PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"},
        [], "3", ["--coordinator=host:1", "--num_processes=2", "--process_id=1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRY_RUNS)
def test_dry_runs_print_the_command_and_do_nothing(name, world):
    environment, before, restarts, flags = DRY_RUNS[name]
    result = world.run("bash", ROOT / "launch" / name, *AWKWARD, DRY_RUN="1", **environment)
    assert result.returncode == 0, result.stderr
    starts = [*STARTS, f"--restarts={restarts}", "--"]
    assert shlex.split(result.stdout) == [*before, *starts, *MAIN, *flags, *AWKWARD]
    assert not world.asked()


def test_missing_environment_variables(world):
    for name, missing in (("tpu_vm.sh", "TPU"), ("tpu_pod.sh", "TPU"), ("jobset.sh", "COORDINATOR")):
        result = world.run(ROOT / "launch" / name)
        assert result.returncode == 2 and f"error: set {missing}, for example {missing}=" in result.stderr
    assert world.run(ROOT / "launch" / "sweep.sh").returncode == 2
    (world.folder / "empty").write_text("# nothing\n")
    for name, words in (("no_list", "there is no list"), ("empty", "holds no run")):
        result = world.run(ROOT / "launch" / "sweep.sh", world.folder / "runs", world.folder / name)
        assert result.returncode == 2 and words in result.stderr
    assert "usage" in world.run(ROOT / "launch" / "attach.sh").stderr
    assert not world.asked()


@pytest.mark.skipif(any(map(os.path.exists, ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))), reason="has a GPU")
def test_gpu_sh_without_a_gpu(world):
    """It does not train on the CPU instead."""
    result = world.run(ROOT / "launch" / "gpu.sh", AWKWARD[0], f"--workdir={world.folder}/run", JAX_PLATFORMS="")
    assert result.returncode == 2 and "JAX_PLATFORMS=cuda,cpu: there is no NVIDIA GPU" in result.stderr
    assert "restarting in" not in result.stderr and not (world.folder / "run").exists()


@pytest.mark.slow
def test_gpu_sh_for_real(world):
    """On the CPU; run again, the same command resumes."""
    workdir = world.folder / "my run"
    for steps in (4, 6):
        result = world.run(ROOT / "launch" / "gpu.sh", AWKWARD[0], f"--config.steps={steps}", f"--workdir={workdir}")
        assert result.returncode == 0, result.stderr
    runs = [json.loads(line)["from_step"] for line in (workdir / "runs.jsonl").read_text().splitlines()]
    assert runs == [0, 4] and (workdir / "report.html").is_file()


# ---- Slurm ---------------------------------------------------------------------------------------------------------

SRUN = """
import subprocess
step = subprocess.Popen([word for word in words if word != "--kill-on-bad-exit=0"], start_new_session=True)
open(FILE, "w").write(str(step.pid))
sys.exit(step.wait())
"""


def test_slurm_requeues_what_the_time_limit_stops(world):
    """The batch shell's signal reaches the step by scancel; when the run has saved, the job is requeued."""
    pid, (code, heard) = world.folder / "step", world.obedient()
    world.stand_in("srun", SRUN.replace("FILE", repr(str(pid))))
    world.stand_in("scancel", f"os.kill(int(open({str(pid)!r}).read()), 15)")
    world.stand_in("scontrol", f"os.rename({str(world.folder / 'heard')!r}, {str(world.folder / 'before')!r})")
    settings = {"PYTHON": world.training(code), "SLURM_JOB_ID": "42", "SLURM_SUBMIT_DIR": str(ROOT)}
    process = world.start("bash", ROOT / "launch" / "slurm.sbatch", *AWKWARD, **settings)
    wait_until(heard)
    process.terminate()
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, errors
    assert world.asked("scancel", "scontrol") == [["scancel", "--signal=TERM", "42"], ["scontrol", "requeue", "42"]]
    assert (world.folder / "before").read_text().split() == ["listens", "15"]  # the run had ended by then
    assert world.trained() == [["--distributed=auto", *AWKWARD]]


@pytest.mark.parametrize("code", [0, 2])
def test_slurm_does_not_requeue_a_job_that_ends_by_itself(world, code):
    world.stand_in("srun", SRUN.replace("FILE", repr(str(world.folder / "step"))))
    settings = {"PYTHON": world.training(f"sys.exit({code})"), "SLURM_JOB_ID": "42", "SLURM_SUBMIT_DIR": str(ROOT)}
    result = world.run("bash", ROOT / "launch" / "slurm.sbatch", *AWKWARD, **settings)
    assert result.returncode == code and not world.asked("scancel", "scontrol")


def test_slurm_options():
    lines = (ROOT / "launch" / "slurm.sbatch").read_text().splitlines()
    options = {line.split()[1] for line in lines if line.startswith("#SBATCH")}
    assert {"--requeue", "--signal=B:TERM@180", "--open-mode=append", "--dependency=singleton"} <= options


# ---- Kubernetes ----------------------------------------------------------------------------------------------------


def test_the_jobset_is_consistent(world):
    """As many processes as pods, the first pod as coordinator, and each pod's command for its own process."""
    yaml = pytest.importorskip("yaml")
    jobset = yaml.safe_load((ROOT / "launch" / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert job["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
    assert job["completions"] == job["parallelism"] == int(environment["PROCESSES"])
    name = jobset["metadata"]["name"]
    port = container["ports"][0]["containerPort"]
    assert environment["COORDINATOR"] == f"{name}-{replicated['name']}-0-0.{name}:{port}"
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2] and rule["onExitCodes"]["containerName"] == container["name"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}

    command = [*container["command"], *container["args"]]
    result = world.run(*command, DRY_RUN="1", JOB_COMPLETION_INDEX="1", **environment)
    assert result.returncode == 0, result.stderr
    where = [f"--coordinator={environment['COORDINATOR']}", "--num_processes=2", "--process_id=1"]
    assert shlex.split(result.stdout) == [*STARTS, "--restarts=3", "--", *MAIN, *where, *container["args"]]


# ---- sweeps --------------------------------------------------------------------------------------------------------

LIST = """# three runs, one of which fails

first --config=a.py --config.seed=1
"my run" --config=b.py "--config.data.dir=/my photos/it's"
bad --config=c.py
"""


def test_a_sweep_does_the_rest(world):
    """A failing run does not stop the others; a finished one is run again only with other flags."""
    (world.folder / "list").write_text(LIST)
    python = world.training(
        "print(os.environ.get('CUDA_VISIBLE_DEVICES')); sys.exit(2 if '--config=c.py' in words else 0)"
    )
    runs = world.folder / "my runs"
    sweep = [ROOT / "launch" / "sweep.sh", runs, world.folder / "list"]
    first = [f"--workdir={runs}/first", "--config=a.py", "--config.seed=1", "--config.steps=9"]
    second = [f"--workdir={runs}/my run", "--config=b.py", "--config.data.dir=/my photos/it's", "--config.steps=9"]
    bad = [f"--workdir={runs}/bad", "--config=c.py", "--config.steps=9"]

    dry = world.run(*sweep, "--config.steps=9", PYTHON=python, DRY_RUN="1")
    assert not runs.exists() and not world.asked()
    lines = [shlex.split(line) for line in dry.stdout.splitlines()]
    begin = [python, "launch/supervise.py", "--restarts=3", "--", python, "-m", "vae_jax.main"]
    assert lines == [[*begin, *words] for words in (first, second, bad)]

    result = world.run(*sweep, "--config.steps=9", PYTHON=python)
    assert result.returncode == 1 and "failed: bad --config=c.py" in result.stderr
    assert world.trained() == [first, second, bad]
    world.forget()

    result = world.run(*sweep, "--config.steps=9", PYTHON=python)
    assert result.returncode == 1 and "first is finished" in result.stdout and "my run is finished" in result.stdout
    assert world.trained() == [bad]
    world.forget()

    (world.folder / "list").write_text("\n".join(LIST.splitlines()[:-1]))
    result = world.run(*sweep, PYTHON=python, GPUS="5 7")
    assert result.returncode == 0, result.stderr
    assert sorted(world.trained()) == sorted([first[:-1], second[:-1]])
    assert [(runs / f"{name}.log").read_text().split()[-1] for name in ("first", "my run")] == ["5", "7"]


@pytest.mark.parametrize("gpus", ["", "0 1"])
def test_a_sweep_that_is_stopped(world, gpus):
    """Active runs get one signal and have ended when the sweep has; the rest is not started."""
    (world.folder / "list").write_text("".join(f"run_{i} --config=a.py\n" for i in range(4)))
    code, heard = world.obedient()
    sweep = [ROOT / "launch" / "sweep.sh", world.folder / "runs", world.folder / "list"]
    process = world.start(*sweep, PYTHON=world.training(code), GPUS=gpus)
    together = len(gpus.split()) or 1
    wait_until(lambda: heard() == together * ["listens"])
    process.terminate()
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, errors
    assert heard() == together * ["listens"] + together * ["15"]
    assert len(world.trained()) == together and not list((world.folder / "runs").glob("*.finished"))
