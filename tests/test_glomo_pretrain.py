"Graph predictors and tasks as a whole: trainings that are cut off, what enters a run's key, what cannot be."
from dataclasses import replace
import pytest
import torch
from thesis_ebm.data.catalog import DataDamaged, DataMissing
from thesis_ebm.glomo import pretrain, profiles
from thesis_ebm.glomo.downstream import data_of, train_task
from thesis_ebm.glomo.pretrain import ABLATIONS, PretrainConfig, pretrained, text_of, train_glomo, transfer_of
from thesis_ebm.data.text import load
from thesis_ebm.data.vectors import vectors
from thesis_ebm.lab.run import run, run_key
from test_vision import cut_off

torch.set_num_threads(1)
TINY = PretrainConfig(data="grammar", source="embedded", limit=120, size=60, words=20, d=8, heads=2, layers=2, convolutions=1, positions=2, m=4, steps=52, every=10)


@pytest.mark.parametrize("c", [TINY, replace(TINY, optim="adam", lr=5e-3, revive=1.0, decouple=False)], ids=["sgd with a plateau", "adam, coupled"])
def test_a_predictor_that_is_cut_off_ends_where_another_does(c, tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_CHECKPOINT_SECONDS", "0")
    go = lambda: pretrained(c, 0, "smoke", "cpu")
    cut_off(monkeypatch, go)
    resumed = go()
    monkeypatch.setenv("THESIS_EBM_RUNS", str(tmp_path / "whole"))
    whole = go()
    assert resumed.record["notes"]["resumed_at"] == [50] and "resumed_at" not in whole.record["notes"]
    for file in ("results.safetensors", "log.csv"):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


def test_a_task_that_is_cut_off_ends_where_another_does(tmp_path, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_CHECKPOINT_SECONDS", "0")
    c = replace(profiles.PROFILES["smoke"].text, task="grammar-reviews", steps=52)
    reviews = load(c.task, "train", "embedded", 30)
    data = data_of(reviews, [reviews], vectors("counted-vectors", "embedded"), 20)
    go = lambda: run(train_task, c, 1, data, "smoke", "cpu")
    cut_off(monkeypatch, go)
    resumed = go()
    monkeypatch.setenv("THESIS_EBM_RUNS", str(tmp_path / "whole"))
    assert (resumed.folder / "log.csv").read_bytes() == (go().folder / "log.csv").read_bytes() and torch.equal(resumed.tensors["scores.0"], go().tensors["scores.0"])


def test_each_ablation_has_a_key_of_its_own():
    keys = {run_key(train_glomo, replace(TINY, **changes), text_of(TINY), 0) for changes in ({}, *ABLATIONS.values())}
    assert len(keys) == 6


def test_a_predictor_that_diverged_is_not_handed_on():
    c = replace(TINY, lr=1e30, clip=1e30, steps=4)
    with pytest.raises(RuntimeError, match="The graph predictor diverged at step .: lower lr"):
        transfer_of(c, pretrained(c, 0, "smoke", "cpu"))


def test_text_that_cannot_be_read(tmp_path):
    with pytest.raises((DataMissing, DataDamaged), match=str(tmp_path)): pretrain.text_of(replace(TINY, data=str(tmp_path)))
    (tmp_path / "a.txt").write_bytes(b"a man walks .\n\xff\xfe\n")
    with pytest.raises(DataDamaged, match="a.txt, line 2, is not UTF-8"): pretrain.text_of(replace(TINY, data=str(tmp_path), source="auto"))


def test_a_sentence_that_is_too_long_is_cut_into_pieces(tmp_path):
    (tmp_path / "long.txt").write_text("\n".join(" ".join(f"w{i % 7}{j}" for i in range(45)) for j in range(40)) + "\n")
    tokens = text_of(replace(TINY, data=str(tmp_path), source="auto", limit=0, size=500)).tokens
    assert int(tokens.lengths.max()) <= TINY.words + 1 and not tokens.skipped and tokens.words >= 45 * 30
