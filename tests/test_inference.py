"Inference with few labels: pairs that cannot be used, premises that were read before, nli settings on the command line, real SNLI."
from dataclasses import replace
from pathlib import Path
import pytest
import torch
from thesis_ebm.arae.inference import PROFILES, Job, PairText, infer_one, inference_profile, pair_corpus
from thesis_ebm.arae.text import CAPTIONS, corpus, corpus_of
from thesis_ebm.data.catalog import DataDamaged, DataMissing
from thesis_ebm.data.text import NLI, load, split_of, tokenise
from thesis_ebm.data.tokens import sentences_of

SNLI = PairText(source="full")
SENTENCES = replace(CAPTIONS["smoke"], data="snli", source="full")


def put(folder: Path, **parts: str) -> None:
    "SNLI as a reader may have it."
    (folder / "snli").mkdir(parents=True, exist_ok=True)
    for part, lines in parts.items(): (folder / "snli" / f"{part}.txt").write_text(lines)


def pairs(first: int, n: int, labels=NLI) -> str:
    return "".join(f"A man with hat {i} walks .\tA man {'sleeps' * (i % 2) or 'walks'} {i} .\t{labels[i % len(labels)]}\n" for i in range(first, first + n))


@pytest.fixture
def data(tmp_path, env, monkeypatch) -> Path:
    "An empty folder of data sets; nothing read before is remembered."
    corpus_of.cache_clear()
    pair_corpus.cache_clear()
    monkeypatch.setenv("THESIS_EBM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_pairs_of_a_readers_own(data):
    put(data, train=pairs(0, 40), dev=pairs(40, 9), test=pairs(50, 9))
    found = pair_corpus(SNLI, SENTENCES)
    assert (len(found.train), len(found.valid), len(found.test)) == (40, 9, 9) and found.names == NLI
    first = sentences_of(found.train.tokens.ids, found.train.tokens.vocabulary)
    text = load("snli-pairs", "train", "full")
    assert [s.split()[:4] for s in first[:40]] == [s.split()[:4] for s in text.sentences] and torch.equal(found.train.labels, text.labels)
    assert pair_corpus(replace(SNLI, words=3), SENTENCES).train.tokens.lengths.max() == 4, "cut, not left out"


@pytest.mark.parametrize("train, error, says", [
    (pairs(0, 40, ["neutral"]), ValueError, "no training pair has the label entailment.*all 3 labels"),
    (pairs(0, 40, ["-"]), DataMissing, "no sentence in its split train.*40 without agreement on the label"),
    (pairs(0, 40).replace("\tcontradiction", ""), DataDamaged, "train.txt, line 3 .*no pair of sentences with a label"),
    (pairs(0, 40).replace("contradiction", ""), DataDamaged, "a pair with the label ''"),
], ids=["one class", "no agreement", "missing", "empty"])
def test_labels_that_cannot_be_used(data, train, error, says):
    "One sentence says what is wrong with the labels."
    put(data, train=train, dev=pairs(40, 9), test=pairs(50, 9))
    with pytest.raises(error, match=says) as e:
        pair_corpus(SNLI, SENTENCES)
    assert "\n" not in str(e.value)


def test_what_has_no_pairs_and_shares_without_pairs(data):
    put(data, train=pairs(0, 9), dev=pairs(40, 9), test=pairs(50, 9))
    with pytest.raises(ValueError, match="snli has no labelled pairs"):
        pair_corpus(PairText("snli"), SENTENCES)
    with pytest.raises(ValueError, match="Did you mean 'snli-pairs'"):
        pair_corpus(PairText("snli-pair"), SENTENCES)
    smoke = PROFILES["smoke"]
    few = replace(smoke, config=replace(smoke.config, **vars(SNLI)), arae=SENTENCES)
    with pytest.raises(ValueError, match="A share of 0.0525 of 9 training pairs is 0 labelled pairs"):
        infer_one(Job("random", few, 0, "smoke", "cpu"))
    with pytest.raises(ValueError, match="Unknown system 'vae'"):
        infer_one(Job("vae", smoke, 0, "smoke", "cpu"))


def test_premises_that_were_read_before_are_not_tested(data):
    "A tested pair whose premise is an unlabelled training sentence is left out and counted; a corpus of nothing else is refused."
    put(data, train=pairs(0, 40), dev=pairs(40, 9), test=pairs(50, 9))
    known, tested = data.parent / "mine.tok", load("snli-pairs", "test", "full").sentences
    known.write_text("".join(f"{s}\n" for s in [*tested[:5], *(f"word {i}" for i in range(40))]))
    mine = replace(CAPTIONS["smoke"], data=str(known))
    read = set(load(str(known)).sentences) & set(tested)
    found = pair_corpus(SNLI, mine)
    assert 0 < len(read) <= 5 and found.read["test"]["premise"] == len(read) == len(tested) - len(found.test)
    put(data, test="".join(line for line in pairs(50, 99).splitlines(True) if split_of(tokenise(line.split("\t")[0])) == "train"))
    known.write_text("".join(f"{s}\n" for s in [*load("snli-pairs", "test", "full").sentences, *(f"word {i}" for i in range(40))]))
    with pytest.raises(ValueError, match="each premise of its split test is an unlabelled sentence"):
        pair_corpus(SNLI, replace(mine, limit=1000))


def test_the_upper_half_has_settings_of_its_own(call):
    p = inference_profile("smoke", {"steps": 3, "seeds": 1, "text": {"steps": 4}})
    assert (p.config.steps, p.seeds, p.ae.steps, p.arae.steps, p.config.m) == (3, 1, 4, 4, PROFILES["smoke"].config.m)
    done = call("thesis-ebm", "run", "--profile", "smoke", "tab-4.5", "--set", 'nli={"drop": 1}')
    assert done.returncode and "Did you mean 'dropout'" in done.stdout + done.stderr
    with pytest.raises(ValueError, match="nli = 3: must be a dictionary"):
        inference_profile("smoke", 3)


@pytest.mark.realdata
def test_real_pairs(real_data, env, monkeypatch):
    "Real SNLI, tiny: sentences and pairs of the same files share no tested premise, and all three systems are trained."
    if not (Path(real_data) / "snli").is_dir(): pytest.skip("no snli in THESIS_EBM_DATA")
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    small = dict(n=8, nz=4, m=16, widths_G=(8,), widths_f=(8,), steps=3, queries=5, each=3, times=1, limit=500, k=1)
    gpu = inference_profile("gpu", {"limit": 300, "steps": 4, "times": 1, "m": 8, "hidden": 8, "valid": 50})
    p = replace(gpu, arae=replace(gpu.arae, **small), ae=replace(gpu.ae, **small))
    done = [infer_one(Job(start, p, 0, "gpu", "cpu")) for start in ("random", "ae", "arae")]
    found = pair_corpus(PairText("snli-pairs", "full", 300, 50), p.arae)
    unlabelled = set(load("snli", "train", "full", 500).sentences)
    whole = load("snli-pairs", "test", "full")
    assert not found.provenance["stand_in"] and len(found.test) == sum(s not in unlabelled for s in whole.sentences) > 1000
    assert all(len(r.tensors["right"]) == len(found.test) for d in done for r in d.found.values())
    assert len(corpus(p.arae).vocabulary) > 1000
