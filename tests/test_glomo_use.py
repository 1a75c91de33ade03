"Graphs of a reader's own texts: a script of theirs, files, odd texts, every kind of bad input, saved models that were damaged."
import gzip
import itertools
import json
import subprocess
import sys
import warnings
import pytest
import torch
from conftest import ROOT, clean_env
from thesis_ebm.data.catalog import DataDamaged
from thesis_ebm.data.tokens import UNK
from thesis_ebm.glomo import GraphModel, GraphTransfer, PretrainConfig, Uniform
from thesis_ebm.lab.saved import FILES

torch.set_num_threads(1)
FAST = dict(d=8, heads=2, layers=2, convolutions=1, positions=2, m=8, words=12, steps=3, progress=False, device="cpu")
TEXTS = [f"The {a} {b} {v} the {c}, quietly. It isn't 1 of {n}!" for a, b, v, c, n in itertools.product(("old", "tall"), ("man", "dog"), ("sees", "likes"), ("tree", "house"), (7, 12))]

SCRIPT = '''
import sys, warnings, torch
from thesis_ebm.glomo import GraphModel
print([m for m in "pandas scipy matplotlib sklearn papermill torchvision rouge_score transformers".split() if m in sys.modules])
warnings.simplefilter("error")
colours, things, places = "red green blue black white grey".split(), "house boat train bridge tower garden".split(), "London Paris Rome".split()
texts = [f"There is a {c} {t} in {p}, and everybody who goes to {p} wants to see the {t} because it is {c}." for c in colours for t in things for p in places]
open("mine.txt", "w").write("\\n".join(texts[::2]) + "\\n")
model = GraphModel.fit("mine.txt", d=16, heads=2, m=16, steps=4, progress=False, device="cpu")
edges = model.edges(texts[1], top=5)
print(len(edges) == 5 and all(0 < e.weight <= 1 for e in edges) and {e.word for e in edges} <= set(model.graph(texts[1]).words))
again = GraphModel.load(model.save("model"), "cpu")
ids, lengths = again.encode(texts)
graphs = again.transfer.graphs(ids, lengths)
print(all(torch.equal(a, b) for a, b in zip(graphs, model.graphs(texts))))
lstm = again.transfer.attach(torch.nn.LSTM(20, 5, batch_first=True), features=10)
lstm(torch.randn(*ids.shape, 10), graphs)[0].square().sum().backward()
print(all(p.grad is not None for p in lstm.parameters()))
'''


def test_a_script_of_a_readers_own(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, env=clean_env(tmp_path, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:4] == ["[]", "True", "True", "True"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["mine.py", "mine.txt", "model", *FILES])


@pytest.fixture(scope="module")
def model() -> GraphModel:
    return GraphModel.fit(TEXTS, **FAST)


def same(a: GraphModel, b: GraphModel) -> bool:
    weights = (m.transfer.predictor.state_dict().values() for m in (a, b))
    return a.vocabulary == b.vocabulary and all(torch.equal(v, w) for v, w in zip(*weights, strict=True))


def test_the_same_texts_in_any_form_give_the_same_model(model, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8", newline="\r\n") as f:
        f.write("\n".join(TEXTS) + "\n")
    torch.manual_seed(5)
    for given in (tuple(TEXTS), iter(TEXTS), tmp_path / "a.txt", str(tmp_path / "b.txt.gz")):
        assert same(GraphModel.fit(given, **FAST), model), given
    assert not same(GraphModel.fit(TEXTS, **FAST, seed=1), model)


def test_lines_that_are_not_utf8(tmp_path):
    (tmp_path / "odd.txt").write_bytes("\n".join(TEXTS).encode() + b"\ncaf\xe9 au lait\n\n")
    with pytest.raises(DataDamaged, match="line 33, is not UTF-8"):
        GraphModel.fit(tmp_path / "odd.txt", **FAST)
    with pytest.warns(UserWarning, match="left out"):
        found = GraphModel.fit(tmp_path / "odd.txt", **FAST, unreadable="skip")
    assert found.skipped == {"not UTF-8": 1, "empty": 1} and found.vocabulary == GraphModel.fit(TEXTS, **FAST).vocabulary


def test_words_as_they_come(model):
    cased = GraphModel.fit([" ".join(t.replace(",", " ,").split()) for t in TEXTS], **FAST, tokenised=True)
    assert "The" in cased.vocabulary.words and "the" in model.vocabulary.words and "The" not in model.vocabulary.words
    assert cased.graph("The   man").words == ("The", "man")


@pytest.mark.parametrize("sentence, words", [("Dog", ("dog",)), ("<pad> <eos> dog", ("<pad>", "<eos>", "dog")), ("l\u2019homme \u732b \U0001f600", None), ("zzz qqq", ("zzz", "qqq"))])
def test_odd_sentences(model, sentence, words):
    "Signs are no words, unknown words are <unk> to the model and themselves to the reader; a lone word takes nothing."
    graph = model.graph(sentence)
    assert words is None or graph.words == words
    assert graph.G.shape == (len(graph.words),) * 2 and graph.G.isfinite().all() and (graph.G.diagonal() == 0).all()
    assert model.encode([sentence])[0].min() >= UNK and (len(graph.words) > 1 or not graph.edges())


def test_a_sentence_does_not_depend_on_those_beside_it(model):
    sentences = [TEXTS[0].split(",")[0], "the dog", "the old man likes it"]
    ids, lengths = model.encode(sentences)
    assert lengths.device.type == "cpu" and ids.shape == (3, int(lengths.max()))
    for i, (s, n) in enumerate(zip(sentences, lengths.tolist())):
        for beside, alone in zip(model.graphs(sentences), model.graphs([s])):
            assert torch.allclose(beside[i, :n, :, :n], alone[0], atol=1e-6) and (beside[i, n:] == 0).all() and (beside[i, ..., n:] == 0).all()


def test_long_texts_are_cut_in_training_and_refused_in_reading():
    long = GraphModel.fit([" ".join(TEXTS)] + TEXTS, **FAST)
    sentence = " ".join(["dog"] * 13)
    with pytest.raises(ValueError, match="Sentence 2 has 13 words, more than the 12"):
        long.encode(["dog", sentence])
    assert long.encode(["dog", sentence], longer="cut")[1].tolist() == [1, 12]
    assert len(long.edges(sentence, None, longer="cut")) == len(long.edges(" ".join(["dog"] * 12), None))


@pytest.mark.parametrize("texts, error, match", [
    (None, TypeError, "list of texts"), (3, TypeError, "list of texts"), ("nowhere.txt", FileNotFoundError, "nowhere.txt"), ([], ValueError, "0 different"),
    (["", " "] * 9, ValueError, "empty"), (TEXTS[:7], ValueError, "at least 8"), ([*TEXTS, 3.5], TypeError, "Text 33 "), ([*TEXTS, None], TypeError, "Text 33 "),
    ([*TEXTS, b"bytes"], TypeError, "Text 33 "), ([*TEXTS, "\ud800"], ValueError, "Text 33 ")])
def test_texts_that_cannot_be_used(texts, error, match):
    with pytest.raises(error, match=match):
        GraphModel.fit(texts, **FAST)


@pytest.mark.parametrize("setting", [dict(steps=0), dict(steps=2.5), dict(d=9), dict(words=0), dict(size=0), dict(heads=True), dict(revive=-1.0), dict(lr=float("nan")), dict(D="x"),
                                     dict(seed=-1), dict(source="full"), dict(limit=3), dict(optim="rms"), dict(compose="sum"), dict(unreadable="x"), dict(device="tpu")])
def test_settings_that_cannot_be(setting, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    with pytest.raises(ValueError):
        GraphModel.fit(tmp_path / "a.txt", **FAST | setting)


def test_texts_of_unknown_words_are_left_out_and_told():
    texts = [f"common words {w}" for w in "abcdefghij"] + ["rare", "seldom heard"]
    with pytest.warns(UserWarning, match="Of 12 texts, 2 were left out: 2 of unknown words"):
        found = GraphModel.fit(texts, **FAST, size=2)
    assert found.skipped == {"of unknown words": 2} and len(found.vocabulary) == 6


def test_saved_and_damaged(model, tmp_path):
    folder = model.save(tmp_path / "model")
    assert model.save(folder) == folder and same(GraphModel.load(folder, "cpu"), model)
    again = GraphModel.load(str(folder), "cpu")
    assert again.history == model.history and again.c == model.c and isinstance(again.c, PretrainConfig) and repr(again) == repr(model)
    whole = {name: (folder / name).read_bytes() for name in FILES}
    for name, spoilt in ((FILES[0], whole[FILES[0]][:-1] + b"\x7f"), (FILES[0], whole[FILES[0]][:100]), (FILES[1], whole[FILES[1]].replace(b'"words": 12', b'"words": 13')), (FILES[1], b"{")):
        (folder / name).write_bytes(spoilt)
        with pytest.raises(DataDamaged, match=name):
            GraphModel.load(folder)
        (folder / name).write_bytes(whole[name])
    about = json.loads(whole[FILES[1]])
    (folder / FILES[1]).write_text(json.dumps(about | dict(format="thesis_ebm Summarizer 1")))
    with pytest.raises(ValueError, match="not of a saved GraphModel"):
        GraphModel.load(folder)
    (folder / FILES[0]).unlink()
    with pytest.raises(FileNotFoundError, match=FILES[0]):
        GraphModel.load(folder)


def test_the_frozen_predictor_can_be_exchanged_for_uniform_graphs(model):
    "What a reader does to see whether the graphs help."
    uniform = GraphTransfer(Uniform(2, 2, words=12), model.vocabulary)
    ids, lengths = model.encode(["the old dog", "the man sees the house"])
    assert [g.shape for g in uniform.graphs(ids, lengths)] == [g.shape for g in model.transfer.graphs(ids, lengths)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attached = model.transfer.attach(torch.nn.GRU(8, 3, batch_first=True), features=4)
        H = torch.randn(2, 5, 4)
        own, others = (attached(H, t.graphs(ids, lengths))[0] for t in (model.transfer, uniform))
    assert own.shape == (2, 5, 3) and not torch.equal(own, others)
