"Every notebook runs: chapters by nbdev-test, artefacts by papermill at profile smoke, each in a process of its own."
import json
import pytest
from conftest import ROOT
from test_repository import ARTEFACTS, CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter(path, call):
    done = call("nbdev-test", path.relative_to(ROOT), "--n-workers", "1", cold=path == CHAPTERS[0])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("path", ARTEFACTS, ids=lambda p: p.stem)
def test_artefact_by_papermill_from_any_folder(path, call, tmp_path):
    "Called directly, not through our command, in a folder that is not the checkout."
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = call("papermill", path, "executed.ipynb", "-p", "profile", "smoke", "-p", "device", "cpu", "--no-progress-bar", cwd=elsewhere, cold=path == ARTEFACTS[0])
    assert done.returncode == 0, done.stderr[-3000:]
    id = path.stem.replace("_", "-", 1).replace("_", ".")
    folder = tmp_path / "figures" / "smoke" / id
    record = json.loads((folder / "record.json").read_text())
    assert record["id"] == id and record["profile"] == "smoke" and record["claims"] and set(record["files"]) <= {p.name for p in folder.iterdir()}
    assert (folder / "figure.svg").is_file() or (folder / "table.csv").is_file()
    for run in (tmp_path / "runs").glob("*/*/record.json"):
        assert json.loads(run.read_text())["status"] == "complete"
    if record["data"]:
        assert all(d["description"] in record["caption"] for d in record["data"])
