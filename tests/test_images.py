"Chapter 3's images: strings that do not fit, one process or two, a run that is killed, nets of full size."
import json
import os
import resource
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
import pytest
from conftest import ROOT, begin, clean_env, complete, wait_for

TRAIN = """
from thesis_ebm.ebgan.image_training import train_figure
from thesis_ebm.lab.parallel import leave
from thesis_ebm.lab.run import process
found = train_figure("{id}", "smoke", overrides=dict(steps={steps}, batch=8))
if process()[0] == 0: print(*[f"{{label}} {{r.folder}}" for label, r in found.items()], sep="\\n")
leave()
"""


def torchrun(*words, env, n=2, timeout=120):
    "A command in several processes of this machine."
    return complete(["torchrun", "--nproc-per-node", n, *words], env, timeout=timeout)


def folders(out: str) -> dict[str, Path]:
    return {label: Path(folder) for label, folder in (line.split() for line in out.splitlines() if line.startswith(("DCGAN", "EBGAN")))}


def train(env, id, steps, n=1, script=None) -> dict[str, Path]:
    "A figure's models in one process or several: label -> folder."
    code = TRAIN.format(id=id, steps=steps)
    if n == 1:
        done = complete(["-c", code], env)
    else:
        script.write_text(code)
        done = torchrun(script, env=env | dict(PYTHONPATH=str(ROOT)), n=n)
    assert done.returncode == 0, done.stderr[-3000:]
    return folders(done.stdout)


@pytest.mark.parametrize("change, parts", [
    (dict(G="(64)4c-(3)4x2s"), ["'(3)4x2s'", "(64)4c2s"]), (dict(G="(64)4c-(32)4c2s-(16)4c2s-(3)4c2s"), ["(3)4c2s", "32x32", "64x64"]),
    (dict(Enc="(64)4c2s-(64)4c2s-(64)4c2s-(64)4c2s-(64)4c2s-(64)4c2s-(64)4c2s"), ["(64)4c2s", "1x1"]), (dict(size=20, G="(8)5c-(8)4c2s-(3)4c2s", Enc="(8)4c2s-(8)4c2s-(8)4c2s"), ["5x5"]),
    (dict(Dec="(3)4c2s"), ["(3)4c2s", "16x16", "64x64"]), (dict(G="(64)4c-(32)4c2s-(16)4c2s-(8)4c2s-(1)4c2s"), ["1 maps", "3 of 64x64"]),
    (dict(model="dcgan", classifier="(64)4c2s-(1)4c2s"), ["16x16", "1x1"])])
def test_a_string_that_does_not_fit_is_one_sentence_before_anything_is_built(change, parts, monkeypatch):
    import torch
    from thesis_ebm.ebgan.images import ImagesConfig
    monkeypatch.setattr(torch.nn.modules.conv._ConvNd, "__init__", lambda *a, **k: pytest.fail("something was built"))
    with pytest.raises(ValueError) as e:
        ImagesConfig(**change)
    assert all(p in str(e.value) for p in parts) and "\n" not in str(e.value), str(e.value)


def test_two_processes_train_what_one_trains(tmp_path):
    "In double precision, over gloo, batch norm and pulling-away term included: losses, weights and running statistics, 60 steps on."
    from safetensors.torch import load_file
    found = []
    for n in (1, 2):
        env = clean_env(tmp_path / str(n), THESIS_EBM_PRECISION="64-true", THESIS_EBM_CHECKPOINT_SECONDS="600")
        (tmp_path / str(n)).mkdir()
        found.append(train(env, "fig-3.5", 60, n, tmp_path / "train.py"))
    one, two = found
    assert [f.name for f in one.values()] == [f.name for f in two.values()] and len(one) == 2, "the number of processes is not part of the key"
    for label in one:
        record = json.loads((two[label] / "record.json").read_text())
        assert record["notes"]["processes"] == 2 and {p.name for p in two[label].glob("checkpoint-*")} == {"checkpoint-00000060.safetensors", "checkpoint-00000060.sha256"}
        logs = [[[float(v) for v in line.split(",")] for line in (f[label] / "log.csv").read_text().splitlines()[1:]] for f in (one, two)]
        assert len(logs[0]) == 2 and all(a == pytest.approx(b, rel=1e-5) for a, b in zip(*logs)), logs
        a, b = (load_file(f[label] / "results.safetensors") for f in (one, two))
        weights = [k for k in a if a[k].is_floating_point()]
        assert any("running_var" in k for k in weights) and all(k in a for k in ("samples", "progress"))
        assert max(float((a[k] - b[k]).abs().max()) for k in weights) < 1e-7 and (a["samples"].int() - b["samples"].int()).abs().max() <= 1


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    env = {name: clean_env(tmp_path / name, THESIS_EBM_CHECKPOINT_SECONDS="0") for name in ("whole", "killed")}
    whole = train(env["whole"], "fig-3.7", 300)
    process = begin(["-c", TRAIN.format(id="fig-3.7", steps=300)], env["killed"], cold=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: sorted((tmp_path / "killed").glob("runs/train_images/*/checkpoint-*.sha256"))[1:])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again, resumed = train(env["killed"], "fig-3.7", 300), []
    for label in whole:
        records = [json.loads((f[label] / "record.json").read_text()) for f in (whole, again)]
        assert records[0]["files"] == records[1]["files"] and (whole[label] / "log.csv").read_text() == (again[label] / "log.csv").read_text()
        resumed += records[1]["notes"].get("resumed_at", [])
    assert resumed and 0 < resumed[0] < 300


def test_the_launch_command(tmp_path, monkeypatch, capsys):
    "In two processes at smoke: trained, then found; errors are a sentence."
    from thesis_ebm.ebgan.image_training import main
    env = clean_env(tmp_path)
    launch = ("-m", "thesis_ebm.ebgan.image_training", "fig-3.7", "--profile", "smoke")
    said = [torchrun(*launch, env=env) for _ in range(2)]
    assert [s.returncode for s in said] == [0, 0] and said[0].stdout == said[1].stdout, said[0].stderr[-2000:] + said[1].stderr[-2000:]
    folder = Path(said[0].stdout.split(", ")[1].strip())
    before = (folder / "record.json").stat().st_mtime_ns
    with monkeypatch.context() as m:
        for name, value in env.items():
            m.setenv(name, value)
        assert main(list(launch[2:])) == 0 and capsys.readouterr().out == said[0].stdout, "one process finds it as well"
        assert main([*launch[2:], "--set", "size=17"]) == 2 and "17x17" in capsys.readouterr().err
    assert (folder / "record.json").stat().st_mtime_ns == before


def test_a_process_that_fails_does_not_leave_the_others_waiting(tmp_path):
    "The second of two cannot see the pictures."
    script = tmp_path / "train.py"
    script.write_text("import os, thesis_ebm.ebgan.image_training as t\nif os.environ['RANK'] == '1': t.Feed.__call__ = None\n" + TRAIN.format(id="fig-3.7", steps=60))
    done = torchrun(script, env=clean_env(tmp_path) | dict(PYTHONPATH=str(ROOT)), timeout=60)
    assert done.returncode != 0 and not list(tmp_path.glob("runs/train_images/*/record.json"))


@pytest.mark.parametrize("id", ["fig-3.7", "fig-3.8"])
def test_two_steps_at_full_size(id):
    "Of the thesis's own nets at 128 and 256 pixels, batch 2, on this CPU."
    import torch
    from thesis_ebm.ebgan.images import adam, build, profile_of
    from thesis_ebm.ebgan.model import adversarial_step
    torch.set_num_threads(1)
    c = replace(profile_of(id, "paper").configs["EBGAN-PT"], batch=2)
    torch.manual_seed(0)
    model = build(c).train()
    optimisers = [adam(c, net.parameters()) for net in (model.D, model.G)]
    for _ in range(2):
        losses = adversarial_step(model, *optimisers, torch.rand(2, 3, c.size, c.size) * 2 - 1, torch.randn(2, c.nz))
    assert all(v.isfinite() for v in losses.values()) and 0 < losses["D_fake"] < 2 * (3 * c.size**2) ** 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 * 2**20, "8 GB"


@pytest.mark.parametrize("id, models", [("fig-3.5", 2), ("fig-3.8", 1)])
def test_plan(id, models):
    from thesis_ebm.ebgan.images import plan as workloads
    from thesis_ebm.lab.plan import plan
    found = plan(id, "paper", workloads=workloads(id, "paper"))
    assert found["models"] == models and found["total_flops"] > 1e17 and found["gpu"]["groups"] == 1
