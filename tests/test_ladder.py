"Table 3.2 from the command line: label counts that cannot be, other settings, the whole data set."
import json
import pytest


@pytest.mark.parametrize("setting, says", [
    ("labels=[100, 55]", "labels = 55: must be a positive multiple of 10"),
    ("labels=0", "labels = 0: must be a positive multiple of 10"),
    ("labels=1000", "labels = 1000: 100 of each class are needed, but class 0 of the pool has 20"),
    ("labels=hundred", "Setting 'labels' has the type tuple"),
    ("model=ladder", "Unknown model 'ladder'"),
    ("lamda=500", "Unknown setting 'lamda'. Did you mean 'lam'?"),
])
def test_a_setting_that_cannot_be(call, setting, says):
    done = call("thesis-ebm", "run", "tab-3.2", "--profile", "smoke", "--set", setting)
    assert done.returncode == 1
    assert says in done.stderr, done.stderr


def test_one_label_count_and_a_second_one_later(call, tmp_path):
    "What is trained for one column serves the whole table; the table has the published rows and this machine's."
    run = lambda *words: call("thesis-ebm", "run", "tab-3.2", "--profile", "smoke", *words)
    assert run("--set", "labels=20").returncode == 0
    record = json.loads((tmp_path / "figures/smoke/tab-3.2/record.json").read_text())
    assert [c["id"] for c in record["claims"]] == ["ebgan-improves-ladder-20"] and record["data"][0]["stand_in"]
    first = {r["key"] for r in record["runs"]}
    assert run("--set", "labels=[20, 40]").returncode == 0
    record = json.loads((tmp_path / "figures/smoke/tab-3.2/record.json").read_text())
    assert first < {r["key"] for r in record["runs"]}, "the first column was trained again"
    table = (tmp_path / "figures/smoke/tab-3.2/table.md").read_text()
    for row in ("LN reported in Rasmus et al. (2015)", "LN, here", "EBGAN-LN, here", "Relative percentage improvement, here", "paired sign-flip test"):
        assert row in table
    for n in record["numbers"]:
        assert n["value"] is not None and (n["name"].startswith("relative") or 0 <= n["value"] <= 100)


def test_plan_of_the_table(call):
    done = call("thesis-ebm", "plan", "tab-3.2", "--profile", "paper", "--no-timing", "--json")
    plan, = json.loads(done.stdout)
    assert plan["models"] == 90 and plan["steps"] == 90 * 120_000 and plan["data_bytes"] > 0


@pytest.mark.realdata
def test_the_whole_of_mnist(call, real_data, tmp_path):
    words = "--set", "labels=100", "--set", "seeds=2", "--set", "steps=4", "--set", "hidden=[50, 20]", "--set", "nLayerG=2", "--set", "sizeG=20"
    done = call("thesis-ebm", "run", "tab-3.2", "--profile", "gpu", "--device", "cpu", *words, extra=dict(THESIS_EBM_DATA=real_data))
    assert done.returncode == 0, done.stderr
    data, = json.loads((tmp_path / "figures/gpu/tab-3.2/record.json").read_text())["data"]
    assert (data["n"], data["n_test"], data["stand_in"]) == (60_000, 10_000, False)
