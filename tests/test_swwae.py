"Chapter 6 from the command line: nets that cannot be, labels that cannot be had, images of one's own, a training that is killed, speed and cost."
import json
import subprocess
import pytest
import torch
from PIL import Image
from conftest import begin, wait_for
from thesis_ebm.lab.cli import main
from thesis_ebm.swwae import bench
from thesis_ebm.swwae.profiles import profile_of
from thesis_ebm.swwae.train import study


def train(id, **changes):
    "What an artefact's notebook trains at smoke."
    for grid in profile_of(id, "smoke", changes).values(): study(grid.configs(), range(grid.seeds), "smoke", "cpu", parts=1)


@pytest.mark.parametrize("id, changes, says", [
    ("fig-6.4", dict(net="(4)5c-4p-(4)3c-8p-10fc"), "8p of '(4)5c-4p-(4)3c-8p-10fc' meets maps of 4x4, too small to be pooled by 8"),
    ("tab-6.1", dict(share=0.01), "labels = 0.01: class 0 of the pool, with 20 images, would be left without a label"),
    ("tab-6.1", dict(labels=[15]), "labels = 15: must be a positive multiple of 10"),
    ("tab-6.3", dict(net="(4)3c-4p-10fc"), "ends in 10fc, but the labels of cifar10 have 8 classes"),
    ("tab-6.2", dict(extra="no/such/folder"), "There is no data set, file or folder 'no/such/folder'"),
])
def test_a_setting_that_cannot_be(env, tmp_path, id, changes, says):
    with pytest.raises((ValueError, OSError, RuntimeError)) as e: train(id, **changes)
    assert says in str(e.value) and not list(tmp_path.glob("runs/*/*/record.json"))


def test_a_net_that_is_none(call, tmp_path):
    done = call("thesis-ebm", "run", "fig-6.4", "--profile", "smoke", "--set", "net=(4)5c-2q-10fc")
    assert done.returncode == 1 and "'2q' in '(4)5c-2q-10fc' is not a layer: write (maps)kernel c as in (64)3c" in done.stderr, done.stderr
    assert not list(tmp_path.glob("figures/smoke/fig-6.4/*"))


def painted(folder, sizes=(12,)):
    "Two classes of pictures, reddish and bluish, in train/, valid/ and test/."
    torch.manual_seed(0)
    for split, n in (("train", 12), ("valid", 4), ("test", 4)):
        for name, tint in (("red", (180, 40, 40)), ("blue", (40, 40, 180))):
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                side = sizes[i % len(sizes)]
                noise = torch.randint(60, (side, side, 3)) + torch.tensor(tint)
                Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / split / name / f"{i}.png")


def test_a_table_of_ones_own_images(call, tmp_path):
    "A folder in place of CIFAR-10: trained on, judged on, named in the record."
    painted(tmp_path / "mine")
    words = [f"--set={s}" for s in ('sets=["cifar10"]', f"data={tmp_path / 'mine'}", "size=0", "limit=0", "net=(4)3c-2p-2fc", "labels=8", "steps=30", "contrast=false")]
    done = call("thesis-ebm", "run", "tab-6.3", "--profile", "smoke", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "figures/smoke/tab-6.3/record.json").read_text())
    assert record["data"][0]["source"] == "own" and "mine" in record["caption"] and "withdrawn" in record["caption"]
    assert {n["name"]: n["value"] for n in record["numbers"]}["accuracy, cifar10, ConvNet of same configuration, 8 labels"] > 75, "red and blue"


def test_images_of_mixed_sizes(env, tmp_path):
    painted(tmp_path / "mixed", sizes=(12, 15))
    with pytest.raises(ValueError, match=r"12x12.*15x15|15x15.*12x12") as e:
        train("tab-6.3", sets=["cifar10"], data=str(tmp_path / "mixed"), net="(4)3c-2p-2fc", limit=0)
    assert "size=" in str(e.value)


TRAINING = """
from thesis_ebm.swwae.train import SWWAEConfig, study
c = SWWAEConfig("(4)3c-2p-(4)3c-2p-10fc", source="embedded", size=14, limit=200, labels=50, batch=8, unlabelled=8, rec=0.3, mid=0.1, dropout=0.2, room=1, steps=200)
study({"a": c}, (0, 1), "smoke", "cpu", parts=1)
"""


def test_a_killed_training_ends_where_an_uninterrupted_one_does(env, tmp_path):
    def start(runs, cold=False): return begin(["-c", TRAINING], {**env, "THESIS_EBM_RUNS": str(tmp_path / runs), "THESIS_EBM_CHECKPOINT_SECONDS": "0"}, cold, stderr=subprocess.DEVNULL)
    killed = start("killed", cold=True)
    wait_for(lambda: list(tmp_path.glob("killed/*/*/checkpoint-*.sha256")))
    killed.kill()
    killed.wait()
    assert not list(tmp_path.glob("killed/*/*/record.json"))
    both = [start("killed"), start("whole")]
    assert [p.wait(timeout=120) for p in both] == [0, 0]
    (a,), (b,) = ([p.parent for p in tmp_path.glob(f"{runs}/*/*/record.json")] for runs in ("killed", "whole"))
    assert json.loads((a / "record.json").read_text())["notes"]["resumed_at"][0] > 0
    for name in ("results.safetensors", "results.json"): assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_bench_prints_a_row(monkeypatch, capsys):
    "The benchmark on a population of two, which takes seconds."
    c = bench.SWWAEConfig("(4)3c-2p-10fc", rec=0.5, labels=20, batch=4, unlabelled=4)
    monkeypatch.setattr(bench, "cores", lambda: 1)
    monkeypatch.setattr(bench, "bench_models", lambda: {"two": ([c, c], (1, 8, 8))})
    assert main(["bench", "swwae", "--device", "cpu", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["models"] == "two" and row["n"] == 2 and 0 < row["low"] <= row["ratio"] <= row["high"]
    assert row["images_per_s"] == pytest.approx(16e3 / row["ours_ms"]) and min(row["plain_peak_mb"], row["ours_peak_mb"]) > 50


def test_plan_knows_the_chapter(call):
    "At the paper's size: all trainings, none of them started."
    ids = ["fig-6.2", "fig-6.3", "fig-6.4", "tab-6.1", "tab-6.2", "tab-6.3"]
    plans = json.loads(call("thesis-ebm", "plan", *ids, "--profile", "paper", "--no-timing", "--json").stdout)
    assert [p["id"] for p in plans] == ids
    for p in plans: assert p["models"] == sum(len(g.configs()) * g.seeds for g in profile_of(p["id"], "paper").values())
    (cifar,) = {r["parameters"] for r in plans[-1]["rows"] if r["dataset"] == "cifar10"}
    assert 28e6 < cifar < 29e6 and plans[-1]["gpu"]["seconds_at_least"] > 1e4
