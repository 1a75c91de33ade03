"Data on the reader's disk: found, trusted only when it is what was published, never overwritten."
import gzip
import hashlib
import json
import shutil
from pathlib import Path
import pytest

IMAGES = "train-images-idx3-ubyte"


@pytest.fixture
def folder(tmp_path) -> Path:
    "A reader's folder with files of the right names."
    target = tmp_path / "mine" / "mnist"
    target.mkdir(parents=True)
    for name in (IMAGES, "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (target / f"{name}.gz").write_bytes(gzip.compress(name.encode() * 100))
    return target.parent


def hashes(folder: Path) -> dict:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("words", [["data", "check"], ["run", "fig-3.4", "--profile", "quick"], ["run", "fig-3.4", "--profile", "gpu"]])
def test_tampered_files_are_refused_with_path_and_both_hashes(call, folder, words):
    before = hashes(folder)
    done = call("thesis-ebm", *words, extra={"THESIS_EBM_DATA": str(folder)})
    said = done.stdout + done.stderr
    assert done.returncode == 1 and str(folder / "mnist" / f"{IMAGES}.gz") in said
    assert hashlib.sha256(IMAGES.encode() * 100).hexdigest() in said and "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db" in said
    assert hashes(folder) == before


def test_a_truncated_file_is_refused(call, folder):
    path = folder / "mnist" / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-12])
    done = call("thesis-ebm", "data", "check", "mnist", extra={"THESIS_EBM_DATA": str(folder)})
    assert done.returncode == 1 and str(path) in done.stdout and "cannot be unpacked" in done.stdout


def test_a_missing_part_is_not_passed_over(call, folder):
    (folder / "mnist" / f"{IMAGES}.gz").unlink()
    done = call("thesis-ebm", "data", "list", extra={"THESIS_EBM_DATA": str(folder)})
    assert IMAGES in done.stdout and "missing" in done.stdout


def test_full_data_is_asked_for_in_words(call, tmp_path):
    (tmp_path / "empty").mkdir()
    done = call("thesis-ebm", "run", "fig-3.4", "--profile", "gpu", extra={"THESIS_EBM_DATA": str(tmp_path / "empty"), "THESIS_EBM_ROOT": str(copy_of_checkout(tmp_path))})
    assert done.returncode == 1 and "thesis-ebm data get mnist" in done.stderr


def copy_of_checkout(tmp_path) -> Path:
    "A checkout without data/raw."
    from conftest import ROOT
    target = tmp_path / "checkout"
    shutil.copytree(ROOT / "nbs", target / "nbs")
    shutil.copytree(ROOT / "data" / "thesis", target / "data" / "thesis")
    shutil.copy(ROOT / "settings.ini", target)
    return target


LOAD = """
import json
from thesis_ebm.data.catalog import load
d = [load("mnist", s, "full") for s in ("train", "valid", "test")]
print(json.dumps(dict(n=[len(x) for x in d], shape=list(d[0].images.shape), mean=[x.images.float().mean().item() for x in d], first=d[0].labels[:5].tolist(),
                      fingerprint=[x.fingerprint for x in d])))
"""


@pytest.mark.realdata
def test_full_mnist_in_both_layouts(call, real_data, tmp_path):
    packed = json.loads(call("-c", LOAD, extra={"THESIS_EBM_DATA": real_data}).stdout)
    assert packed["n"] == [50000, 10000, 10000] and packed["shape"] == [50000, 1, 28, 28] and packed["first"] == [5, 0, 4, 1, 9]
    unpacked = tmp_path / "unpacked" / "MNIST" / "raw"
    unpacked.mkdir(parents=True)
    for path in (Path(real_data) / "mnist").glob("*.gz"):
        (unpacked / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert json.loads(call("-c", LOAD, extra={"THESIS_EBM_DATA": str(unpacked.parent.parent)}).stdout) == packed, "torchvision's layout, read by torchvision"


@pytest.mark.realdata
def test_embedded_digits_are_training_digits(call, real_data):
    code = """
from thesis_ebm.data.catalog import load
rows = lambda d: set(map(bytes, d.images.flatten(1).numpy()))
train = rows(load("mnist", "train", "full"))
print(all(rows(load("mnist", s, "embedded")) <= train for s in ("train", "valid", "test")))
"""
    assert call("-c", code, extra={"THESIS_EBM_DATA": real_data}).stdout.strip() == "True"
