"""The files of a study."""

import json

import pytest
from helpers.checks import ROOT

from vae_jax.reports.study import png_name, print_study, write_study


def test_the_files_of_a_study(tmp_path, capsys):
    """JSON, Markdown of blocks with a blank line between, PNGs by title, and a page only where there is one."""
    folder = tmp_path / "new" / "folder"
    pictures = {"Reconstructions": b"png", "Training of b/run": b"another"}
    write_study(folder, "study", {"rows": [1]}, ["A sentence.", "| a |\n| - |\n"], pictures)
    assert json.loads((folder / "study.json").read_text()) == {"rows": [1]}
    assert (folder / "study.md").read_text() == "A sentence.\n\n| a |\n| - |\n"
    assert (folder / "training_of_b-run.png").read_bytes() == b"another"
    assert {path.name for path in folder.iterdir()} == {
        "study.json", "study.md", "reconstructions.png", "training_of_b-run.png",
    }  # fmt: skip
    print_study(folder, "study")
    assert capsys.readouterr().out == "A sentence.\n\n| a |\n| - |\n\n"
    write_study(folder, "study", {}, ["x"], html="<p>x</p>")
    print_study(folder, "study")
    assert (folder / "study.html").read_text() == "<p>x</p>"
    assert capsys.readouterr().out == f"x\n\npage: {folder / 'study.html'}\n"


@pytest.mark.parametrize("folder, title", [
    ("mnist", "Laplacian variance per class"),
    ("mnist", "Interpolation 1-3"),
    ("sharpness", "Training of vaegan_sharp_mnist"),
    ("cifar10", "Walk ship"),
    ("inversion", "Encoded again, deepsim_invert_alexnet_conv5_96"),
    ("inversion", "Position and colour, deepsim_invert_alexnet_conv5_96"),
])  # fmt: skip
def test_published_pictures_keep_their_names(folder, title):
    assert (ROOT / "docs" / "results" / folder / png_name(title)).is_file()
