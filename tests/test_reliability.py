"What must survive: kill -9, a loss that is not a number, a full disk, two processes that want the same."
import json
import os
import signal
import subprocess
from pathlib import Path
import psutil
import pytest
from conftest import begin, clean_env, complete, wait_for

TRAIN = """
from dataclasses import replace
from thesis_ebm.ebgan.digits import PROFILES
from thesis_ebm.ebgan.population import digits_recipe
from thesis_ebm.lab.groups import train_models
p = PROFILES["smoke"]
kinds = [dict(model="gan"), dict(model="gan", nLayerG=3, dropoutD=True, optimD="sgd", optimG="sgd"), dict(model="gan", nLayerD=3, optimD="sgd"),
         dict(model="ebgan"), dict(model="ebgan", dropoutD=True, lr=3e-4), dict(model="ebgan-pt", nLayerG=3, optimG="sgd")]
models = [(replace(p.config, steps={steps}, **kind), seed) for seed, kind in enumerate(kinds + {more})]
group, = {{t.result.folder for t in train_models(models, digits_recipe(models[0][0], p.classifier, "smoke"), 1, "smoke", "cpu")}}
print(group)
"""
DIES = dict(model="gan", lr=3e4, optimD="sgd")  # within a few steps
OVERFLOWS = dict(model="gan", nLayerD=5, sizeD=64, lr=1e5)  # its losses and weights stay finite, the squares of its gradients do not


def train(env, steps=300, more=(), runs=None, cold=False):
    "Start the training of a group of six GANs and EBGANs, and of more, in a process of its own."
    env = {**env, "THESIS_EBM_CHECKPOINT_SECONDS": "0", **({"THESIS_EBM_RUNS": str(runs)} if runs else {})}
    code = TRAIN.format(steps=steps, more=list(more))
    return begin(["-c", code], env, cold, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process) -> Path:
    "The group's folder."
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-2000:]
    return Path(out.strip())


def kill_after_two_checkpoints(env, runs: Path, **what) -> Path:
    "Start a training and kill -9 it as soon as two checkpoints stand; the group's folder."
    process = train(env, runs=runs, cold=True, **what)
    wait_for(lambda: sorted(runs.glob("train_group/*/checkpoint-*.sha256"))[1:])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    folder, = (p.parent for p in runs.glob("train_group/*/config.json"))
    assert not (folder / "record.json").exists(), "killed before the end"
    return folder


def results(folder: Path) -> tuple:
    "All that must be equal: log, tensors' hashes, numbers."
    record = json.loads((folder / "record.json").read_text())
    assert set(record["files"]) == {"results.json", "results.safetensors"}
    return (folder / "log.csv").read_text(), record["files"], (folder / "results.json").read_text(), record["status"]


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["rows"]


def test_killed_and_resumed_equals_uninterrupted(env, tmp_path):
    "Of a group that one member has already left when it is killed: bit for bit, and its checkpoints go when it is finished."
    whole = finish(train(env, more=[DIES], runs=tmp_path / "whole"))
    folder = kill_after_two_checkpoints(env, tmp_path / "killed", more=[DIES])
    (folder / "log.csv").open("a").write("251,1.0")
    again = finish(train(env, more=[DIES], runs=tmp_path / "killed"))
    assert again == folder and json.loads((again / "record.json").read_text())["notes"]["resumed_at"][0] > 0, "it was continued, not started again"
    assert again.name == whole.name and results(again) == results(whole)
    assert sorted(r["status"] for r in rows(again)) == ["complete"] * 6 + ["diverged"]
    assert {p.name for p in again.iterdir()} == {"config.json", "log.csv", "results.json", "results.safetensors", "record.json"}


def test_a_damaged_checkpoint_is_passed_over(env, tmp_path):
    whole = finish(train(env, runs=tmp_path / "whole"))
    kill_after_two_checkpoints(env, tmp_path / "killed")
    newest = max((tmp_path / "killed").glob("train_group/*/checkpoint-*.sha256")).with_suffix(".safetensors")
    newest.write_bytes(newest.read_bytes()[:-100] + bytes(100))
    again = train(env, runs=tmp_path / "killed")
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0 and f"{newest} is damaged" in said, said[-2000:]
    folder, = (p.parent for p in (tmp_path / "killed").glob("train_group/*/record.json"))
    at, = json.loads((folder / "record.json").read_text())["notes"]["resumed_at"]
    assert 0 < at < int(newest.stem.removeprefix("checkpoint-")) and results(folder) == results(whole)


def test_kill_of_the_command_leaves_no_orphans_and_resumes(tmp_path):
    "kill -9 of `thesis-ebm run` alone: kernel and workers go with it, and the same command gives what an undisturbed one gives."
    words = ["thesis-ebm", "run", "fig-3.2", "--profile", "smoke", "--set", "steps=100", "--set", "architectures=2", "--set", "parts=4"]
    env, undisturbed = (clean_env(tmp_path / name, THESIS_EBM_CHECKPOINT_SECONDS="0", THESIS_EBM_WORKERS=n) for name, n in (("killed", "2"), ("whole", "1")))
    command = begin(words, env, cold=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = tmp_path / "killed" / "runs"
    wait_for(lambda: list(runs.glob("train_group/*/record.json")))
    family = psutil.Process(command.pid).children(recursive=True)
    assert len(family) >= 3, "a kernel and its workers"
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, [p.cmdline() for p in alive]
    kept = {p: p.stat().st_mtime_ns for p in runs.glob("train_group/*/record.json")}
    assert 0 < len(kept) < 4 and not (tmp_path / "killed" / "figures" / "smoke" / "fig-3.2").exists()
    for e in (env, undisturbed):
        complete(words, e).check_returncode()
    assert len(list(runs.glob("train_group/*/record.json"))) == 4 and all(p.stat().st_mtime_ns == t for p, t in kept.items())
    tables = [(tmp_path / f / "figures" / "smoke" / "fig-3.2" / "table.csv").read_bytes() for f in ("killed", "whole")]
    assert tables[0] == tables[1]


def test_a_model_that_diverges_leaves_and_the_others_go_on(env, tmp_path):
    "It is recorded with the step where it diverged and black digits; the others end as they do without it; none is trained again."
    from safetensors.torch import load_file
    without = {r["model"]: r for r in rows(finish(train(env, steps=100, runs=tmp_path / "without")))}
    folder = finish(train(env, steps=100, more=[DIES]))
    found, digits = rows(folder), load_file(folder / "results.safetensors")["digits"]
    (place, dead), = [(i, r) for i, r in enumerate(found) if r["status"] == "diverged"]
    assert 0 <= dead["step"] < 50 and "I" not in dead and not digits[place].any()
    others = {r["model"]: r for r in found if r["status"] == "complete" and r["step"] == 100}
    assert others.keys() == without.keys() and all(digits[i].any() for i in range(len(found)) if i != place)
    for model, r in others.items():
        assert [r[k] for k in ("D_real", "D_fake", "I", "classes")] == pytest.approx([without[model][k] for k in ("D_real", "D_fake", "I", "classes")], rel=1e-3), r
    assert json.loads((folder / "record.json").read_text())["status"] == "complete"
    before = (folder / "record.json").stat().st_mtime_ns
    assert finish(train(env, steps=100, more=[DIES])) == folder and (folder / "record.json").stat().st_mtime_ns == before


def test_a_model_whose_moments_overflow_does_not_take_the_others_along(env):
    found = rows(finish(train(env, steps=100, more=[OVERFLOWS])))
    assert len(found) == 7 and sum(r["status"] == "complete" for r in found) >= 6


def test_a_group_in_double_precision(env):
    assert {r["status"] for r in rows(finish(train({**env, "THESIS_EBM_PRECISION": "64-true"}, steps=100)))} == {"complete"}


JUDGE = """
from dataclasses import replace
from thesis_ebm.data.catalog import load
from thesis_ebm.ebgan.digits import PROFILES
from thesis_ebm.lab.run import run
from thesis_ebm.metrics.digits import train_digit_classifier
c = replace(PROFILES["smoke"].classifier, steps=300, lr=1e30)
print(run(train_digit_classifier, c, 0, load("mnist", "train", c.data, c.limit), "smoke", "cpu").folder)
"""


def test_divergence_is_recorded_with_the_last_good_checkpoint(env):
    "Of a run that is one model."
    judge = lambda: complete(["-c", JUDGE], {**env, "THESIS_EBM_CHECKPOINT_SECONDS": "0"})
    folder = Path(judge().stdout.strip())
    record, before = json.loads((folder / "record.json").read_text()), (folder / "record.json").stat().st_mtime_ns
    assert record["status"] == "diverged" and 0 <= record["step"] < 300
    if record["last_good"] is not None:
        assert (folder / f"checkpoint-{record['last_good']:08d}.safetensors").is_file()
    assert Path(judge().stdout.strip()) == folder and (folder / "record.json").stat().st_mtime_ns == before, "and not trained again"


def test_two_processes_one_training(env):
    first, second = train(env), train(env)
    folders = [finish(first), finish(second)]
    assert folders[0] == folders[1] and len(list(folders[0].parent.glob("*/config.json"))) == 1
    steps = [line.split(",")[0] for line in (folders[0] / "log.csv").read_text().splitlines()[1:]]
    assert len(steps) == len(set(steps)) and json.loads((folders[0] / "record.json").read_text())["notes"].get("resumed_at") is None


def test_two_commands_for_one_artefact(env, tmp_path):
    words = ["thesis-ebm", "run", "tab-3.1", "--profile", "smoke"]
    both = [begin(words, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [p.communicate(timeout=120) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert sorted(("made" in out) for out, _ in said) == [False, True], said


@pytest.mark.parametrize("what", ["RUNS", "FIGURES"])
def test_a_folder_that_cannot_be_written(call, tmp_path, what):
    "A file stands where the folder should be (root may write anywhere, so permissions would not stop it)."
    (tmp_path / "file").write_text("")
    done = call("thesis-ebm", "run", "fig-3.4", "--profile", "smoke", extra={f"THESIS_EBM_{what}": str(tmp_path / "file" / "x")})
    assert done.returncode == 1 and "Cannot write" in done.stderr and "settings.ini" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "file").read_text() == "" and not list(tmp_path.glob("figures/smoke/fig-3.4/*"))


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""


def test_a_disk_that_is_full(env, tmp_path):
    "Files can grow to 20 kB and no further: a checkpoint or result does not fit, and nothing half-written stays."
    code = FULL_DISK + TRAIN.format(steps=40, more=[])
    done = complete(["-c", code], env)
    assert done.returncode != 0 and "DiskError" in done.stderr and "free some space" in done.stderr, done.stderr[-1000:]
    left = [p.name for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert not [n for n in left if n.endswith((".tmp", ".safetensors")) or n == "record.json"], left
    assert finish(train(env, steps=40)).is_dir(), "with room again, the same command works"
