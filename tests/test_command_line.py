"The command as a reader uses it."
import json
import shutil
from collections import Counter
from pathlib import Path
import pytest
from conftest import ROOT

FIG = ROOT / "nbs" / "03_ebgan" / "fig_3_4.ipynb"


@pytest.fixture
def checkout(tmp_path) -> Path:
    "A small checkout of its own, so that notebooks can be broken."
    target = tmp_path / "checkout"
    shutil.copytree(ROOT / "data" / "thesis", target / "data" / "thesis")
    (target / "nbs" / "03_ebgan").mkdir(parents=True)
    shutil.copy(ROOT / "settings.ini", target)
    for name in ("fig_3_1", "tab_3_1"):
        shutil.copy(ROOT / "nbs" / "03_ebgan" / f"{name}.ipynb", target / "nbs" / "03_ebgan")
    return target


def test_list_names_all_forty(call):
    done = call("thesis-ebm", "list")
    assert done.returncode == 0
    rows = [line for line in done.stdout.splitlines() if line[:4] in ("fig-", "tab-")]
    assert len(rows) == 40 and sum(r.startswith("tab-") for r in rows) == 17
    assert all(len(r) > 60 for r in rows), "each with a caption"


def test_run_then_fresh_then_report(call, tmp_path):
    first = call("thesis-ebm", "run", "tab-3.1", "--profile", "smoke", cold=True)
    assert first.returncode == 0 and "made" in first.stdout, first.stderr
    record = tmp_path / "figures" / "smoke" / "tab-3.1" / "record.json"
    before = record.stat().st_mtime_ns
    again = call("thesis-ebm", "run", "tab-3.1", "--profile", "smoke")
    assert "fresh" in again.stdout and record.stat().st_mtime_ns == before
    rows = {r["id"]: r["status"] for r in json.loads(call("thesis-ebm", "list", "--json").stdout)}
    assert rows["tab-3.1"]["smoke"] == "fresh" and rows["tab-3.1"]["paper"] == "not built"
    report = call("thesis-ebm", "report", "--profile", "smoke")
    page = Path(report.stdout.strip())
    assert page.is_file() and "tab-3.1" in page.read_text()
    forced = call("thesis-ebm", "run", "tab-3.1", "--profile", "smoke", "--force", "--seed", "1")
    assert forced.returncode == 0 and record.stat().st_mtime_ns != before
    assert json.loads(record.read_text())["parameters"]["seed"] == 1
    rows = {r["id"]: r["status"] for r in json.loads(call("thesis-ebm", "list", "--json").stdout)}
    assert rows["tab-3.1"]["smoke"] == "stale", "made with another seed than the default"


def test_a_failing_notebook_does_not_stop_the_others(call, checkout, tmp_path):
    nb = json.loads((checkout / "nbs" / "03_ebgan" / "fig_3_1.ipynb").read_text())
    nb["cells"][-1]["source"] = ["raise RuntimeError('the cell that fails')"]
    (checkout / "nbs" / "03_ebgan" / "fig_3_1.ipynb").write_text(json.dumps(nb))
    done = call("thesis-ebm", "reproduce", "--profile", "smoke", "--jobs", "2", cwd=checkout, extra={"THESIS_EBM_ROOT": str(checkout)})
    executed = tmp_path / "figures" / "smoke" / "executed" / "fig-3.1.ipynb"
    assert done.returncode == 1 and (tmp_path / "figures" / "smoke" / "tab-3.1" / "record.json").is_file()
    assert "RuntimeError: the cell that fails" in done.stderr and str(executed) in done.stderr and executed.is_file()
    assert not (tmp_path / "figures" / "smoke" / "fig-3.1").exists()
    page = (tmp_path / "figures" / "smoke" / "report.html").read_text()
    assert "the cell that fails" in page and "Report:" in done.stdout


@pytest.mark.parametrize("words, message", [
    (["-p", "profil", "smoke"], "Did you mean 'profile'?"), (["-p", "profile", "smok"], "Unknown profile 'smok'"), (["-p", "device", "gpu"], "Unknown device"),
    (["-p", "profile", "smoke", "-y", "overrides: {step: 3}"], "Did you mean 'steps'?")])
def test_papermill_itself_refuses_what_is_misspelt(call, tmp_path, words, message):
    done = call("papermill", FIG, tmp_path / "out.ipynb", *words, "--no-progress-bar")
    assert done.returncode != 0 and message in done.stderr, done.stderr[-500:]
    assert not list(tmp_path.glob("figures/*/*/record.json"))


@pytest.mark.parametrize("words, message", [
    (["run", "fig-3.44"], "Did you mean 'fig-3.4'?"), (["run", "fig-3.4", "--profile", "qick"], "Did you mean 'quick'?"),
    (["run", "fig-3.4", "--set", "steps"], "KEY=VALUE"), (["bench", "nothing"], "Unknown benchmark"), (["data", "check", "mnits"], "Did you mean 'mnist'?"),
    (["promote", "fig-3.1", "--profile", "paper"], "not built"), (["plan", "fig-3.44"], "Did you mean 'fig-3.4'?"), (["plan", "--gpu", "H20"], "Did you mean 'H200'?"),])
def test_nonsense_is_one_sentence(call, words, message):
    done = call("thesis-ebm", *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_an_override_that_no_field_has_fails_the_notebook(call):
    done = call("thesis-ebm", "run", "fig-3.4", "--profile", "smoke", "--set", "setps=3")
    assert done.returncode == 1 and "Did you mean 'steps'?" in done.stderr


def test_settings_from_file_and_environment(call, checkout):
    ini = checkout / "settings.ini"
    ini.write_text(ini.read_text().replace("workers = auto", "wrokers = 2"))
    done = call("thesis-ebm", "list", cwd=checkout, extra={"THESIS_EBM_ROOT": str(checkout)})
    assert done.returncode == 2 and "Did you mean 'workers'?" in done.stderr
    done = call("thesis-ebm", "list", extra={"THESIS_EBM_DEVISE": "cpu"})
    assert done.returncode == 2 and "THESIS_EBM_DEVICE" in done.stderr
    for name, value, rule in (("SHARD", "3/2", "1 <= K <= N"), ("SHARD", "2", "K/N"), ("MEMORY_GB", "-1", "a number above 0"), ("MEMORY_GB", "much", "or auto")):
        done = call("thesis-ebm", "list", extra={f"THESIS_EBM_{name}": value})
        assert done.returncode == 2 and f"{name.lower()} = {value!r} in $THESIS_EBM_{name}" in done.stderr and rule in done.stderr and done.stderr.count("\n") == 1


def test_doctor_and_bench_list(call):
    done = call("thesis-ebm", "doctor")
    assert done.returncode == 0 and "torch" in done.stdout and "mnist" in done.stdout and "GB free" in done.stdout, done.stdout + done.stderr
    assert call("thesis-ebm", "bench").stdout.split()


def test_compare_and_promoted_references(call):
    "What is committed under figures/reference can be read, is small, and belongs to an artefact that has a notebook."
    rows = {r["id"]: r for r in json.loads(call("thesis-ebm", "list", "--json").stdout)}
    for record in (ROOT / "figures" / "reference").glob("*/*/record.json"):
        kept = json.loads(record.read_text())
        assert rows[kept["id"]]["notebook"] and kept["profile"] == record.parent.parent.name
        assert sum(p.stat().st_size for p in record.parent.iterdir()) < 3_000_000
        assert kept["parameters"]["seed"] == 0 and not kept["parameters"]["overrides"]
    done = call("thesis-ebm", "compare", "tab-3.1", "--profile", "smoke")
    assert done.returncode == 0 and "nothing to compare" in done.stdout


def test_plan_of_the_paper_needs_no_gpu(call, tmp_path):
    "Every artefact with a notebook, in numbers; steps are timed where that is asked for, and nothing is trained or written."
    made = [r["id"] for r in json.loads(call("thesis-ebm", "list", "--json").stdout) if r["notebook"]]
    every, timed, quick = (call("thesis-ebm", "plan", *words, "--json") for words in (["--profile", "paper", "--no-timing"], ["fig-3.9", "--profile", "paper"], ["fig-3.2"]))
    plans = {p["id"]: p for done in (every, timed) for p in json.loads(done.stdout)}
    assert list(plans) == made and plans["tab-3.1"]["models"] == plans["fig-3.1"]["models"] == 0
    grid, counted = plans["fig-3.2"], Counter()
    for r in grid["rows"]: counted[r["name"].split(",")[0]] += r["models"]
    assert counted == dict(gan=6144, ebgan=512, classifier=1) | {"ebgan-pt": 512} and grid["models"] == 7169 and grid["gpu"]["groups"] > 1
    assert grid["total_flops"] == sum(r["models"] * r["steps"] * r["flops"] for r in grid["rows"]) and json.loads(quick.stdout)[0]["here"]["steps_timed"] > 0
    assert all(plans[id]["models"] == grid["models"] and plans[id]["total_flops"] == grid["total_flops"] for id in ("fig-3.3", "fig-3.4")), "one grid"
    fig = plans["fig-3.9"]
    rows = {r["name"].split(",")[0]: r for r in fig["rows"]}
    assert rows["ebgan"]["parameters"] > 10e6 and rows["ebgan"]["models"] == 40 and fig["models"] == 41
    assert fig["total_flops"] == sum(r["models"] * r["steps"] * r["flops"] for r in fig["rows"]) > 1e15
    assert 0 < fig["gpu"]["seconds_at_least"] < fig["here"]["seconds"] and fig["here"]["steps_timed"] > 0 and fig["gpu"]["groups"] == 1
    assert fig["memory"] > 40 * 16 * 11e6 and fig["data_bytes"] > 39e6 and fig["download"] in ({}, {"mnist": 54_950_048})
    assert not (tmp_path / "runs").exists() and not (tmp_path / "figures").exists()


def test_plan_in_words(call):
    done = call("thesis-ebm", "plan", "fig-3.9", "tab-3.1", "--profile", "paper", "--gpu", "T4", "--no-timing")
    assert done.returncode == 0 and "tab-3.1 at profile paper: nothing to train." in done.stdout, done.stderr
    assert "40 x ebgan" in done.stdout and "on one T4 (memory-bound)" in done.stdout and "an estimate" not in done.stdout and "fig-3.4" not in done.stdout


@pytest.mark.parametrize("i", range((ROOT / "README.md").read_text().count("```python\n")))
def test_the_readme_examples_run(call, tmp_path, i):
    code = (ROOT / "README.md").read_text().split("```python\n")[i + 1].split("```")[0]
    holds = ("len(set(model.sample('positive', 50))) > 10" if "ARAETransfer" in code else "len(set(model.sample(50))) > 10" if "ARAE" in code
             else "(model.reward(new)['log_pdec'] > model.reward(new, titles[1:] + titles[:1])['log_pdec']).double().mean() > 0.75" if "Summarizer" in code
             else "states.shape == (32, H.shape[1], 32) and len(model.edges('a dog is running in the park .', top=5)) == 5" if "GraphModel" in code
             else "(model.predict(new) == images('mnist', 'test').labels.numpy()).mean() > 0.7" if "SWWAEClassifier" in code
             else "all(v.isfinite().all() for v in losses.values()) and t == 99")
    done = call("-c", f"{code}\nassert {holds}", cwd=tmp_path, cold=True, extra=dict(THESIS_EBM_ROOT=str(ROOT)))
    assert done.returncode == 0, done.stderr
