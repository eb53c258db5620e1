"""--profile=STEPS, through the command."""

import shutil

from helpers.processes import finish

PARTS = (b"encode", b"decode", b"perceptual", b"backward/vae", b"update/vae")


def test_a_trace_names_the_parts_of_a_step(tmp_path):
    output = finish(tmp_path / "run", "--profile=2", "--config=dfc_mnist:smoke", "--config.image_size=28")
    assert f"trace: {tmp_path / 'run' / 'profile'}" in output and "warning" not in output
    (trace,) = (tmp_path / "run" / "profile").rglob("*.xplane.pb")
    names = trace.read_bytes()
    assert all(part in names for part in PARTS)


def test_a_trace_that_cannot_be_is_a_warning(tmp_path):
    """Too few steps, or no folder for it; the run goes on."""
    run = tmp_path / "run"
    output = finish(run, "--profile=5", "--config.steps=4")
    assert "warning: --profile: 2 steps were left to trace when the run ended" in output
    shutil.rmtree(run / "profile")
    (run / "profile").write_text("")
    output = finish(run, "--profile=2")
    assert f"warning: the trace could not be written to {run / 'profile'}" in output
    assert "step       8 of 8" in output and (run / "report.html").is_file()


def test_a_number_of_steps_that_makes_no_sense(tmp_path):
    assert "profile" in finish(tmp_path / "run", "--profile=-1", code=2)
