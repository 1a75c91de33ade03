"The grid of Table 3.1 as a whole: counted, trained in groups, refused, split, cut into shards, mended."
import csv
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
import pytest
from conftest import ROOT, begin, clean_env, complete

GRID = "[gan]\nlr = [0.001, 1e30]\n"  # at the second rate a GAN diverges at once
PARTS, MODELS, DIVERGING = 3, 40, 16  # four architectures: an EBGAN, an EBGAN-PT and eight GANs each


def start(folder: Path, *settings: str, ids=("fig-3.2",), more=(), cold=False, **env) -> subprocess.Popen:
    "The command, with its runs and figures below `folder`, on its way."
    (folder / "grid.toml").write_text(GRID)
    changes = [word for s in (f"grid={folder / 'grid.toml'}", f"parts={PARTS}", *settings) for word in ("--set", s)]
    words = ["thesis-ebm", "run", *ids, "--profile", "smoke", *more, *changes]
    return begin(words, clean_env(folder, **env), cold, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: subprocess.Popen, code: int = 0) -> str:
    "What it said, when it ends with that code."
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    return out + err


def groups(folder: Path) -> dict[str, list[dict]]:
    "Finished groups: name -> rows."
    found = [p.parent for p in sorted(folder.glob("runs/train_group/*/record.json")) if ".damaged" not in p.parent.name]
    return {p.name: json.loads((p / "results.json").read_text())["rows"] for p in found}


def models(folder: Path) -> dict[str, dict]:
    "Model id -> its row; no model is there twice."
    rows = [r for of_group in groups(folder).values() for r in of_group]
    assert len({r["model"] for r in rows}) == len(rows), "a model was trained twice"
    return {r["model"]: r for r in rows}


def state(folder: Path) -> dict:
    "All files but locks, executed notebooks and the grid file: when they were written, and what is in them."
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".lock", ".toml") and p.parent.name != "executed"]
    return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files}


def table(folder: Path, id: str = "fig-3.2") -> bytes:
    return (folder / "figures" / "smoke" / id / "table.csv").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    "The grid at smoke, finished in three groups. It is only looked at."
    folder = tmp_path_factory.mktemp("whole")
    end(start(folder, cold=True))
    assert len(groups(folder)) == PARTS and len(models(folder)) == MODELS
    assert [r["status"] for r in models(folder).values()].count("diverged") == DIVERGING
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    "The same, to be changed."
    return shutil.copytree(whole, tmp_path / "copy")


# Counted


def test_counts_of_table_3_1():
    from thesis_ebm.ebgan.grid import GRID as AXES, configurations, grid_profile, models_of, size
    from thesis_ebm.lab.groups import model_id
    with open(ROOT / "data" / "thesis" / "tab-3.1.csv", newline="") as f:
        thesis = {r["setting"]: r for r in csv.DictReader(f)}
    for kind, n in (("ebgan", 512), ("gan", 6144)):
        of_kind = list(configurations(kind))
        assert size(kind) == len(of_kind) == len({tuple(c.items()) for c in of_kind}) == n == int(thesis["experiments"][kind])
        for axis, values in AXES[kind].items():
            if axis in thesis:
                assert sorted(values) == sorted(json.loads(thesis[axis][kind])), axis
    paper = models_of(grid_profile("paper"))
    assert len({model_id(*m) for m in paper}) == len(paper) == 6144 + 512 + 512
    assert {m: sum(c.model == m for c, _ in paper) for m in ("gan", "ebgan", "ebgan-pt")} == {"gan": 6144, "ebgan": 512, "ebgan-pt": 512}


# Trained once


def test_one_grid_for_three_figures(copy):
    "fig-3.3 and fig-3.4 train nothing when fig-3.2 is there; a larger share of the grid trains what is new alone."
    before = state(copy / "runs")
    end(start(copy, ids=("fig-3.3", "fig-3.4")))
    assert state(copy / "runs") == before and table(copy, "fig-3.3") and table(copy, "fig-3.4")
    kept = models(copy)
    end(start(copy, "architectures=5"))
    after = state(copy / "runs")
    assert {name: after[name] for name in before} == before and len(models(copy)) == len(kept) + 10


def test_two_figures_at_once_train_one_grid(whole, tmp_path):
    "Side by side from the start: each model once, and the tables of figures that were made one after the other."
    end(start(tmp_path, ids=("fig-3.2", "fig-3.4"), more=("--jobs", "2")))
    assert len(models(tmp_path)) == MODELS and groups(tmp_path).keys() == groups(whole).keys()
    logs = [p.read_text().splitlines() for p in tmp_path.glob("runs/train_group/*/log.csv")]
    assert len(logs) == PARTS and all(len(log) == 2 for log in logs), "and each step once"
    assert table(tmp_path) == table(whole) and table(tmp_path, "fig-3.4")


# Refused


WRONG = dict(
    axis=("[gan]\nnLayrG = [2]\n", ["The grid file FILE, [gan]", "'nLayrG'", "Did you mean 'nLayerG'?"]),
    value=('[gan]\noptimD = ["adam", "rmsprop"]\n', ["The grid file FILE, [gan], axis optimD", "'rmsprop'", "adam or sgd"]),
    absent=(None, ["There is no grid file FILE"]),
    filter=(None, ['only = {"nLayerG": [9]}', "nLayerG", "[2, 3, 4, 5]"]))


@pytest.mark.parametrize("name", WRONG)
def test_a_grid_that_cannot_be(copy, tmp_path, name):
    "One sentence that names what is wrong; nothing is trained, nothing is lost."
    text, parts = WRONG[name]
    file, before = tmp_path / "mine.toml", state(copy)
    if text:
        file.write_text(text)
    said = end(start(copy, 'only={"nLayerG": [9]}' if name == "filter" else f"grid={file}"), 1)
    line, = [s for s in said.splitlines() if s.startswith("  fig-3.2: ")]
    assert "ValueError: " in line and "Traceback" not in said and len(line) < 500
    for part in parts:
        assert part.replace("FILE", str(file)) in line, line
    assert state(copy) == before


def test_memory_for_not_even_one_model(copy):
    "Models that are there need none; of the others, one is named, with the remedy."
    runs, made = state(copy / "runs"), table(copy)
    end(start(copy, more=("--force",), THESIS_EBM_MEMORY_GB="0.0000001"))
    said = end(start(copy, "steps=21", THESIS_EBM_MEMORY_GB="0.0000001"), 1)
    line, = [s for s in said.splitlines() if s.startswith("  fig-3.2: ")]
    assert "MemoryError: " in line and "alone takes about" in line and "nLayerG=" in line and "memory_gb" in line and "Traceback" not in said
    assert state(copy / "runs") == runs and table(copy) == made


# Split


def test_memory_for_a_few_models_at_a_time(whole, tmp_path):
    "More groups, none above the limit; each model once, and with the status that it has in a large group."
    from thesis_ebm.ebgan.digits import DigitsConfig
    from thesis_ebm.ebgan.population import model_size
    end(start(tmp_path, THESIS_EBM_MEMORY_GB="0.01"))
    assert len(groups(tmp_path)) > PARTS
    for name in groups(tmp_path):
        config = json.loads((tmp_path / "runs" / "train_group" / name / "record.json").read_text())["config"]
        assert sum(model_size(DigitsConfig(**c), s) for c, s in zip(config["configs"], config["seeds"], strict=True)) <= 0.01 * 2**30
    together, apart = models(whole), models(tmp_path)
    assert len(apart) == MODELS and {m: (r["status"], r["step"]) for m, r in apart.items()} == {m: (r["status"], r["step"]) for m, r in together.items()}
    for m, r in apart.items():
        if r["status"] == "complete":
            assert [r["D_real"], r["D_fake"]] == pytest.approx([together[m]["D_real"], together[m]["D_fake"]], rel=1e-3, abs=1e-3)


SCARCE = """
import json, sys, warnings
import torch
from thesis_ebm.ebgan import population
from thesis_ebm.ebgan.grid import train_grid
step = population.Population.step
def scarce(self, t):
    if t == 5 and len(self) > 8: raise torch.OutOfMemoryError("Tried to allocate more than there is")
    return step(self, t)
population.Population.step = scarce
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    grid = train_grid("smoke", dict(grid=sys.argv[1], parts=3), 0, "cpu")
population.Population.step = step
again = train_grid("smoke", dict(grid=sys.argv[1], parts=3), 0, "cpu")
print(json.dumps(dict(said=[str(w.message) for w in said], rows=[t.row for t in grid.trained], same=again.trained == grid.trained)))
"""


def test_memory_that_runs_out_midway(whole, tmp_path):
    "The group is trained in halves, as often as it must; a warning says so; all models are there, each once."
    done = complete(["-c", SCARCE, whole / "grid.toml"], clean_env(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    halved = [s for s in found["said"] if "trained in two halves" in s]
    assert len(halved) >= PARTS and all("Tried to allocate more than there is" in s for s in halved)
    assert max(map(len, groups(tmp_path).values())) <= 8 and found["same"], "and nothing is tried again"
    statuses = lambda rows: {r["model"]: (r["status"], r["step"]) for r in rows}
    assert statuses(found["rows"]) == statuses(models(tmp_path).values()) == statuses(models(whole).values())


# Cut into shards


def test_shards_on_machines_that_share_nothing(whole, tmp_path):
    "Each trains its own groups and says that others are missing; brought together, they are all, and the table is that of one machine."
    halves = [tmp_path / "one", tmp_path / "two"]
    for h in halves:
        h.mkdir()
    running = [start(h, THESIS_EBM_SHARD=f"{k}/2") for k, h in enumerate(halves, 1)]
    for k, (process, h) in enumerate(zip(running, halves), 1):
        said = end(process, 1)
        assert f"Shard {k}/2 is trained; {MODELS - len(models(h))} of {MODELS} models belong to other shards" in said and "Traceback" not in said
        assert not (h / "figures" / "smoke" / "fig-3.2").exists()
    assert [len(groups(h)) for h in halves] == [2, 1] and not models(halves[0]).keys() & models(halves[1]).keys()
    merged = tmp_path / "merged"
    for h in halves:
        shutil.copytree(h / "runs", merged / "runs", dirs_exist_ok=True)
    before = state(merged / "runs")
    end(start(merged))
    assert state(merged / "runs") == before and groups(merged).keys() == groups(whole).keys()
    assert table(merged) == table(whole)


# Mended


@pytest.mark.parametrize("name", ["results.safetensors", "results.json", "record.json"])
def test_a_group_whose_file_was_cut_off(copy, name):
    "A warning names the file; that group is trained again, the others are not touched, and the table is what it was."
    hurt, *others = sorted((copy / "runs" / "train_group").glob("smoke-*/"))
    before, file, made = state(copy / "runs"), hurt / name, table(copy)
    file.write_bytes(file.read_bytes()[:-40])
    said = end(start(copy, more=("--force",)))
    assert f"warning: {file} was cut off" in said and f"{hurt.name}.damaged-0" in said
    after = state(copy / "runs")
    rest = [n for n in before if not n.startswith(f"train_group/{hurt.name}/")]
    assert {n: after[n] for n in rest} == {n: before[n] for n in rest}
    assert len(models(copy)) == MODELS and groups(copy).keys() == {hurt.name, *(o.name for o in others)}
    again = f"train_group/{hurt.name}/results.safetensors"
    assert after[again][1] == before[again][1] and after[again][0] > before[again][0], "made again, as it was"
    assert table(copy) == made
