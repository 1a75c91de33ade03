"What must survive: kill -9, a loss that is not a number, a full disk, two processes that want the same."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
import psutil
import pytest
from conftest import BIN, ROOT

TRAIN = """
import sys
from dataclasses import replace
from thesis_ebm.ebgan.digits import PROFILES, Job, digits
c = replace(PROFILES["smoke"].config, **(dict(model="ebgan-pt", dropoutD=True, steps={steps}) | {extra}))
r = digits(Job(c, 0, "smoke", "cpu"))
print(r.folder)
"""


def train(env, steps=400, extra=None, runs=None, **more):
    "Start a training in a process of its own."
    env = {**env, "THESIS_EBM_CHECKPOINT_SECONDS": "0", **({"THESIS_EBM_RUNS": str(runs)} if runs else {})}
    code = TRAIN.format(steps=steps, extra=extra or {})
    return subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def finish(process) -> Path:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-2000:]
    return Path(out.strip())


def wait_for(condition, seconds=90):
    "Poll until the condition is true; fails when it does not become so."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("what was waited for did not happen")


def kill_after_two_checkpoints(env, runs: Path) -> None:
    "Start a training and kill -9 it as soon as two checkpoints stand."
    process = train(env, runs=runs)
    wait_for(lambda: sorted(runs.glob("train_digits/*/checkpoint-*.sha256"))[1:])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def results(folder: Path) -> tuple:
    "All that must be equal: log, tensors' hashes, numbers."
    record = json.loads((folder / "record.json").read_text())
    return (folder / "log.csv").read_text(), record["files"], (folder / "results.json").read_text(), record["status"]


def test_killed_and_resumed_equals_uninterrupted(env, tmp_path):
    whole = finish(train(env, runs=tmp_path / "whole"))
    kill_after_two_checkpoints(env, tmp_path / "killed")
    folder = next((tmp_path / "killed" / "train_digits").glob("smoke-*/"))
    assert not (folder / "record.json").exists(), "killed before the end"
    (folder / "log.csv").open("a").write("351,1.0")
    again = finish(train(env, runs=tmp_path / "killed"))
    assert json.loads((again / "record.json").read_text())["notes"]["resumed_at"][0] > 0, "it was continued, not started again"
    assert again.name == whole.name and results(again) == results(whole)


def test_a_damaged_checkpoint_is_passed_over(env, tmp_path):
    whole = finish(train(env, runs=tmp_path / "whole"))
    kill_after_two_checkpoints(env, tmp_path / "killed")
    newest = max((tmp_path / "killed").glob("train_digits/*/checkpoint-*.sha256")).with_suffix(".safetensors")
    newest.write_bytes(newest.read_bytes()[:-100] + bytes(100))
    assert results(finish(train(env, runs=tmp_path / "killed"))) == results(whole)


def test_kill_of_the_command_leaves_no_orphans_and_resumes(env, tmp_path):
    "kill -9 of `thesis-ebm run` alone: kernel and workers go with it, and the same command gives what an undisturbed one gives."
    words = [BIN / "thesis-ebm", "run", "fig-3.9", "--profile", "smoke", "--set", "steps=150", "--set", "seeds=1"]
    env = {**env, "THESIS_EBM_CHECKPOINT_SECONDS": "0", "THESIS_EBM_WORKERS": "2"}
    command = subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list((tmp_path / "runs" / "train_digits").glob("*/record.json")))
    family = psutil.Process(command.pid).children(recursive=True)
    assert len(family) >= 3, "a kernel and its workers"
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, [p.cmdline() for p in alive]
    assert not (tmp_path / "figures" / "smoke" / "fig-3.9").exists()
    subprocess.run(words, env=env, cwd=ROOT, check=True, capture_output=True)
    undisturbed = {**env, "THESIS_EBM_RUNS": str(tmp_path / "other"), "THESIS_EBM_FIGURES": str(tmp_path / "other_figures")}
    subprocess.run(words, env=undisturbed, cwd=ROOT, check=True, capture_output=True)
    tables = [(tmp_path / f / "smoke" / "fig-3.9" / "table.csv").read_text() for f in ("figures", "other_figures")]
    assert tables[0] == tables[1]


def test_divergence_is_recorded_with_the_last_good_checkpoint(env, tmp_path):
    folder = finish(train(env, steps=300, extra=dict(model="gan", lr=3e4, optimD="sgd", optimG="adam")))
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "diverged" and 0 <= record["step"] < 300
    if record["last_good"] is not None:
        assert (folder / f"checkpoint-{record['last_good']:08d}.safetensors").is_file()
    assert finish(train(env, steps=300, extra=dict(model="gan", lr=3e4, optimD="sgd", optimG="adam"))) == folder, "and not trained again"


def test_two_processes_one_training(env, tmp_path):
    first, second = train(env), train(env)
    folders = [finish(first), finish(second)]
    assert folders[0] == folders[1]
    steps = [line.split(",")[0] for line in (folders[0] / "log.csv").read_text().splitlines()[1:]]
    assert len(steps) == len(set(steps)) and json.loads((folders[0] / "record.json").read_text())["notes"].get("resumed_at") is None


def test_two_commands_for_one_artefact(env, tmp_path):
    words = [BIN / "thesis-ebm", "run", "tab-3.1", "--profile", "smoke"]
    both = [subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
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
    code = FULL_DISK + TRAIN.format(steps=40, extra={})
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "DiskError" in done.stderr and "free some space" in done.stderr, done.stderr[-1000:]
    left = [p.name for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert not [n for n in left if n.endswith((".tmp", ".safetensors")) or n == "record.json"], left
    assert finish(train(env, steps=40)).is_dir(), "with room again, the same command works"
