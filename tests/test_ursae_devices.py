"Chapter 5: plan and benchmark; training in double precision, under autocast, and on a GPU that is not there: no tensor of the CPU may be mixed in."
import json
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from thesis_ebm.lab.cli import main
from thesis_ebm.ursae import bench
from thesis_ebm.ursae.baselines import AdversarialConfig, adversarial, trained_adversarially
from thesis_ebm.ursae.model import begin, log_penc, summarise
from thesis_ebm.ursae.train import URSAEConfig, Watch, ablated, nets, random_extracts, stage2, trained

C = URSAEConfig(data="headlines", source="embedded", limit=300, size=200, words=16, maxlen=7, d=8, maps=8, embedding=8, fresh=True, lm_optim="adam", lm_lr=5e-3,
                lm_steps=4, lm_m=8, lam=0.1, per_sign=True, K=2, m=8, unknown=False, optim="adam", lr=4e-3, lr_dec=3e-3, clip=1.0, extracts=2, patience=0, steps=4, times=2)

@pytest.mark.parametrize("precision, dtype", [("64-true", torch.float64), ("bf16-mixed", torch.float32)])
def test_precisions(precision, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_RUNS", str(tmp_path))
    monkeypatch.setenv("THESIS_EBM_PRECISION", precision)
    for c in (C, ablated(C), adversarial(C, pretrain=2, units_D=8)):
        result = (trained_adversarially if isinstance(c, AdversarialConfig) else stage2)(c, 0, "smoke", "cpu")
        assert result.record["precision"] == precision and not result.diverged
        assert {w.dtype for w in result.weights("net.").values()} == {w.dtype for net in trained(c, result, 204) for w in net.parameters()} == {dtype}

@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
def test_everything_is_on_the_gpu():
    gpu = torch.device("cuda", 0)
    with FakeTensorMode(shape_env=ShapeEnv()):
        with torch.device(gpu):
            enc, dec = nets(C, 204)
            x, x_end, u = torch.full((8, 16), 5), torch.full((8, 17), 5), torch.rand(2, 8, 7)
        begin(enc.read, enc.write)
        said = summarise(enc, x, u, eta=0.1, maxlen=7, unknown=False)
        found = [said.z, said.h, said.log_p0, said.forced, random_extracts(x, 7), dec.nll(said.z[0], x_end), log_penc(enc, x, said, said.h, 0.1),
                 *Watch(C, gpu).buffers()]
    assert {t.device for t in found} == {gpu}

def test_plan_and_bench_know_the_chapter(monkeypatch, capsys):
    assert main(["plan", "tab-5.1", "tab-5.4", "--profile", "paper", "--no-timing", "--json"]) == 0
    table, examples = json.loads(capsys.readouterr().out)
    assert (table["id"], examples["id"]) == ("tab-5.1", "tab-5.4") and table["models"] > examples["models"] > 0
    rows_of = bench.rows_of
    monkeypatch.setattr(bench, "rows_of", lambda size, device, m, rounds, calls: rows_of("smoke", device, 2, 1, 1))
    monkeypatch.setattr(bench, "cores", lambda: 1)
    assert main(["bench", "ursae", "--device", "cpu", "--json"]) == 0
    assert {r["unit"] for r in json.loads(capsys.readouterr().out)["rows"]} == {"summaries", "words"}
