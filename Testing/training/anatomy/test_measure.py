"""The measuring command at toy size, and what lies behind its options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.models.anatomy_bundle import AnatomyManifest, write_anatomy_bundle
from CMBDetectorLib.models.networks import build_network
from CMBDetectorLib.volume import Volume
from training.__main__ import main
from training.anatomy.configuration import read_anatomy_config
from training.anatomy.measures_detector import real_scans
from training.anatomy.measures_picture import write_overlay
from training.anatomy.measures_real import RADIANS_PER_PPM, susceptibility_weighted

CONFIG = Path(__file__).parents[3] / "training" / "configs" / "anatomy.yaml"
pytestmark = pytest.mark.usefixtures("one_thread")


def write_bundle(root: Path, seed: int) -> Path:
    config = read_anatomy_config(CONFIG)
    torch.manual_seed(seed)
    network = build_network({**config.network_def, "filters": [4, 4, 4, 4]})
    manifest = AnatomyManifest(
        id=root.name,
        name="Toy",
        version="0",
        description="Random weights",
        authors="-",
        copyright="-",
        license="Apache-2.0",
        network_def={**config.network_def, "filters": [4, 4, 4, 4]},
        spacing_mm=config.spacing_mm,
    )
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    atlas = np.full((len(CLASSES), *ATLAS_SHAPE), 255 // len(CLASSES), dtype=np.uint8)
    write_anatomy_bundle(root, manifest, weights, atlas, model_card="toy", license_text="Apache")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("models") / "toy", 0)


def test_measures_are_written_and_gone_on_with(
    head_file: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "measures.json"
    command = ["anatomy-measure", str(head_file.parent), "-o", str(output), "--heads", "7"]
    command += ["--bundle", str(bundle), "--fine-mm", "3", "--contrasts", "T2*", "--slices", "6"]
    command += ["--device", "cpu", "--precision", "fp32"]
    assert main(command) == 0
    assert "[1/1]" in capsys.readouterr().out
    report = json.loads(output.read_text(encoding="utf-8"))
    [row] = report["scans"]
    assert row["slice_mm"] == 6.0
    assert row["lesions"]["n"] > 0
    assert report["summary"]["scans"] == 1
    tables = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "### Aims" in tables

    assert main(command) == UsageError.exit_code
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "[1/1]" not in capsys.readouterr().out
    other = write_bundle(tmp_path / "toy", 1)
    command[command.index(str(bundle))] = str(other)
    assert main([*command, "--resume"]) == UsageError.exit_code
    assert "another model" in capsys.readouterr().err
    assert json.loads(output.read_text(encoding="utf-8")) == report


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "figures.txt"], "named *.json"),
        (["-o", "x.json", "--pictures", "p"], "--real"),
        (["-o", "x.json", "--contrasts", "T7"], "T2*, SWI, random"),
    ],
)
def test_wrong_options_are_refused(
    head_file: Path,
    bundle: Path,
    options: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["anatomy-measure", str(head_file.parent), "--bundle", str(bundle), "--heads", "7"]
    assert main([*command, *options, "--device", "cpu"]) == UsageError.exit_code
    assert words in capsys.readouterr().err


def test_the_weighting_darkens_what_is_paramagnetic() -> None:
    grid = Geometry((3, 1, 1), np.eye(4))
    magnitude = Volume(np.full((3, 1, 1), 2.0), grid)
    quarter_turn_ppm = np.pi / 2 / RADIANS_PER_PPM
    phase = Volume(np.array([-1.0, 0.0, quarter_turn_ppm]).reshape(3, 1, 1), grid)
    found = susceptibility_weighted(magnitude, phase).array.ravel()
    assert found == pytest.approx([2.0, 2.0, 2.0 * 0.5**4])


def test_marked_real_scans_have_their_points(tmp_path: Path) -> None:
    import nibabel as nib

    folder = tmp_path / "valdo"
    folder.mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)), folder / "sub-1_T2S.nii.gz")
    with pytest.raises(InputError, match="not a table of lesions"):
        list(real_scans(tmp_path))
    table = "scan,x_ras_mm,y_ras_mm,z_ras_mm\nsub-1,1,2,3\nsub-2,9,9,9\n"
    (folder / "lesions.csv").write_text(table, encoding="utf-8")
    [scan] = real_scans(tmp_path)
    assert scan.lesions_ras_mm.tolist() == [[1.0, 2.0, 3.0]]
    assert scan.image.array.shape == (4, 4, 4)


def test_the_picture_shows_left_on_the_left_and_up_on_top(tmp_path: Path) -> None:
    values = np.zeros((40, 50, 30), dtype=np.int16)
    values[4:18, 10:40, 5:25], values[22:36, 10:40, 5:25] = 2, 41
    values[:, :, 25:] = 0
    grid = Geometry(values.shape, np.diag([-1.0, 1.0, 1.0, 1.0]))  # stored from the right
    image = Volume(np.where(values, 100.0, 10.0)[::-1], grid)
    path = tmp_path / "x.png"
    write_overlay(image, Volume(values[::-1], grid), path)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    height = picture.shape[0] // 2
    plain, overlay = picture[:height], picture[height:]
    assert np.array_equal(plain[..., 0], plain[..., 1])
    colored = (overlay.max(axis=-1) - overlay.min(axis=-1)) > 10
    axial = colored[:, 50 + 2 + 40 + 2 :]
    left, right = overlay[25, 94 + 10], overlay[25, 94 + 30]
    assert axial[25, 10]
    assert axial[25, 30]
    assert left.max() > right.max()  # the right side is darker
    coronal = colored[:, 52:92]
    rows = np.flatnonzero(coronal.any(axis=1))
    assert rows.max() == height - 1 - 5 - (height - 30) or rows.min() >= 5
