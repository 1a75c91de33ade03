"The repository itself: notebooks and package agree, notebooks are clean, nothing heavy is imported, nothing leaks."
import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
import pytest
from conftest import BIN, ROOT

NOTEBOOKS = sorted((ROOT / "nbs").glob("*/*.ipynb"))
ARTEFACTS = [p for p in NOTEBOOKS if p.name.startswith(("fig_", "tab_"))]
CHAPTERS = [p for p in NOTEBOOKS if p not in ARTEFACTS]
MODULES = sorted(p.relative_to(ROOT) for p in (ROOT / "thesis_ebm").rglob("*.py"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    "A copy of what nbdev works on, without the generated modules."
    target = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "nbs", target / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (target / "thesis_ebm").mkdir()
    for name in ("pyproject.toml", "README.md", "settings.ini", "thesis_ebm/__init__.py"):
        shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def exported(copy) -> Path:
    "The package as the notebooks export it."
    subprocess.run([BIN / "nbdev-export"], cwd=copy, check=True, capture_output=True)
    return copy / "thesis_ebm"


def differences(package: Path, exported: Path) -> set[str]:
    "Modules that only one of two packages has, or that differ."
    texts = [{str(p.relative_to(base)): p.read_text() for p in base.rglob("*.py")} for base in (package, exported)]
    for t in texts:
        t.pop("_modidx.py", None)
    return {name for name in texts[0].keys() | texts[1].keys() if texts[0].get(name) != texts[1].get(name)}


def test_package_is_what_the_notebooks_export(exported):
    "Fails when a notebook was not exported, when the package was edited by hand, or when a renamed notebook left its module behind."
    found = differences(ROOT / "thesis_ebm", exported)
    assert not found, f"{found} differ from their notebooks: edit the notebook (or nbdev-update), nbdev-export, remove what is left over"
    assert (exported / "_modidx.py").is_file() and (ROOT / "thesis_ebm" / "_modidx.py").is_file()


def test_a_hand_edit_and_a_leftover_are_noticed(exported, tmp_path):
    package = tmp_path / "thesis_ebm"
    shutil.copytree(ROOT / "thesis_ebm", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "energy.py").write_text((package / "energy.py").read_text() + "\nx = 1\n")
    (package / "lab" / "renamed.py").write_text("x = 1\n")
    (package / "lab" / "claims.py").unlink()
    assert differences(package, exported) == {"energy.py", "lab/renamed.py", "lab/claims.py"}


@pytest.fixture(scope="module")
def cleaned(copy) -> Path:
    "The copy as nbdev-clean leaves it."
    subprocess.run([BIN / "nbdev-clean"], cwd=copy, check=True, capture_output=True)
    return copy


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_clean(path, cleaned):
    "nbdev-clean would change nothing; there are no outputs; every cell has an id; code cells are short."
    relative = path.relative_to(ROOT)
    assert (cleaned / relative).read_text() == path.read_text(), f"run nbdev-clean --fname {relative}"
    nb = json.loads(path.read_text())
    code = [c for c in nb["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    ids = [c["id"] for c in nb["cells"]]
    assert len(set(ids)) == len(ids) and nb["nbformat_minor"] >= 5 and nb["metadata"]["kernelspec"]["language"] == "python"
    assert max("".join(c["source"]).count("\n") + 1 for c in code) <= 35


@pytest.mark.parametrize("path", ARTEFACTS, ids=lambda p: p.stem)
def test_artefact_notebook_is_thin(path):
    "One parameters cell with the house's five, save_artifact at the end, no long functions, nothing exported."
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is code[0]
    assert [t.target.id for t in ast.parse("".join(tagged[0]["source"])).body] == ["profile", "seed", "device", "out", "overrides"]
    assert "save_artifact(" in "".join(code[-1]["source"])
    source = "\n".join("".join(c["source"]) for c in code)
    assert "#| export" not in source
    assert all(f.end_lineno - f.lineno < 15 for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_notebook_asserts(path):
    "At least one cell that asserts for every three that export."
    sources = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    exports = sum(s.lstrip().startswith(("#| export", "#|export")) for s in sources)
    asserting = sum(bool(re.search(r"\bassert\b|raises", s)) for s in sources)
    assert asserting >= exports / 3, f"{exports} cells export, {asserting} assert"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(path.with_suffix("").parts)[:-node.level] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {f for f in found if f.startswith("thesis_ebm")}


def test_imports_run_one_way():
    "energy imports nothing of ours; data, metrics and lab know no chapter; the command line imports no chapter."
    house = ("thesis_ebm.lab", "thesis_ebm.data", "thesis_ebm.metrics")
    for path in MODULES:
        name = ".".join(path.with_suffix("").parts)
        ours = {i for i in imports(path) if i not in ("thesis_ebm", "thesis_ebm._modidx")}
        if name in ("thesis_ebm.energy", "thesis_ebm.autoencoders"):
            assert not ours, f"{name} imports {ours}"
        elif name.startswith(house):
            assert all(i.startswith(house) for i in ours), f"{name} imports {ours}"


@pytest.mark.parametrize("statement", ["import thesis_ebm", "import thesis_ebm.lab.cli, thesis_ebm.lab.artifact, thesis_ebm.lab.execute, thesis_ebm.data.catalog, thesis_ebm.lab.run",
                                       "from thesis_ebm.lab.cli import main; main(['list'])"])
def test_nothing_heavy_is_imported_before_it_is_needed(statement):
    heavy = "torch matplotlib pandas scipy papermill jinja2 lightning_fabric numpy".split()
    if "lab" in statement:
        heavy.remove("numpy")
    done = subprocess.run([sys.executable, "-c", f"{statement}; import sys; print('HEAVY', [m for m in {heavy} if m in sys.modules])"], capture_output=True, text=True, cwd=ROOT)
    assert "HEAVY []" in done.stdout, done.stdout[-300:] + done.stderr[-300:]


def test_training_needs_few_packages():
    "What trains imports with torch, numpy, tqdm, safetensors, lightning_fabric and filelock alone, as on a GPU machine without the rest."
    block = "import sys\nfor m in 'matplotlib pandas seaborn papermill mlxtend scipy jinja2 tabulate pooch IPython psutil ray lmdb skimage sklearn torch_fidelity rouge_score kenlm transformers tokenizers'.split(): sys.modules[m] = None\n"
    subprocess.run([sys.executable, "-c", block + "import thesis_ebm.ebgan.population, thesis_ebm.ebgan.grid, thesis_ebm.ebgan.image_training, thesis_ebm.lab.groups, thesis_ebm.metrics.digits, thesis_ebm.metrics.rouge, thesis_ebm.metrics.ngram, thesis_ebm.metrics.gpt2, thesis_ebm.data.pictures, thesis_ebm.data.labelled, thesis_ebm.data.docstrings, thesis_ebm.data.grammar, thesis_ebm.arae, thesis_ebm.ursae, thesis_ebm.ursae.theory, thesis_ebm.ursae.model, thesis_ebm.ursae.train, thesis_ebm.ursae.use, thesis_ebm.swwae, thesis_ebm.glomo, thesis_ebm.glomo.model, thesis_ebm.glomo.transfer, thesis_ebm.glomo.pretrain, thesis_ebm.glomo.layers, thesis_ebm.glomo.tasks, thesis_ebm.glomo.use, thesis_ebm.glomo.drawing"], check=True, cwd=ROOT)


def test_constraints_pin_what_pyproject_ranges():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#"))
    assert not [p for p in pins.values() if "://" in p or " @ " in p]
    assert pins["torch"] == "2.11.0" and pins["torchvision"] == "0.26.0"
    import tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for e in project["optional-dependencies"].values() for d in e if not d.startswith("thesis-ebm")]
    names = {re.match(r"[\w.-]+", d).group().lower() for d in wanted}
    assert names <= {p.lower() for p in pins}, names - set(pins)


def test_nothing_of_this_machine_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    hosts = "|".join(("py" + "pi[.]org", "python" + "hosted", "npm" + "js", "deb[.]" + "debian"))
    leaks, large = [], []
    for name in tracked.stdout.split():
        path = ROOT / name
        if not path.is_file():
            continue
        if path.stat().st_size > 2_000_000:
            large.append(name)
        if path.suffix in {".py", ".ipynb", ".md", ".toml", ".ini", ".txt", ".json", ".csv", ".cff", ""}:
            text = path.read_text(errors="ignore")
            if re.search(r"(?<![\w.])/(work|root|tmp|home|Users)/[\w.]", text) or re.search(hosts, text):
                leaks.append(name)
    assert not leaks and not large, (leaks, large)


def test_ruff():
    done = subprocess.run([BIN / "ruff", "check", "thesis_ebm", "tests"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_errata_name_notebooks_that_exist():
    import csv
    with open(ROOT / "data" / "thesis" / "errata.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len({r["id"] for r in rows}) == len(rows) > 0
    for r in rows:
        assert (ROOT / "nbs" / f"{r['notebook']}.ipynb").is_file() and all(r.values()), r["id"]
