"Chapter 5 as a whole: a training that is killed, titles that training cannot reach, articles and files that cannot be used, real headlines."
import itertools
import signal
import subprocess
import sys
from dataclasses import replace
import pytest
import torch
from thesis_ebm.data.catalog import DataDamaged, load
from thesis_ebm.data.headlines import Articles, Pairs
from thesis_ebm.data.text import Text
from thesis_ebm.lab.run import run
from thesis_ebm.metrics.language_model import language_model
from thesis_ebm.ursae import train as training
from thesis_ebm.ursae.baselines import AdversarialConfig, adversarial, adversarial_sources, train_adversarial, trained_adversarially, with_titles
from thesis_ebm.ursae.model import titles
from thesis_ebm.ursae.train import Player, URSAEConfig, ablated, sources, sources_of, stage1, stage2, train_player, train_ursae, trained
from test_headlines import put

torch.set_num_threads(1)
TINY = URSAEConfig(source="full", size=300, words=20, maxlen=8, d=16, maps=8, embedding=8, lm_optim="adam", lm_lr=5e-3, lm_m=16, lm_steps=4, lam=0.1, per_sign=True,
                   K=2, m=8, unknown=False, optim="adam", lr=4e-3, lr_dec=3e-3, clip=1.0, extracts=2, lr_extracts=2e-2, patience=0, steps=6, times=2)
GAME = adversarial(TINY, units_D=8, pretrain=3)
NEWS = list(itertools.product("police rebels farmers".split(), "arrested met warned".split(), ("two men", "a minister", "the striking miners"), ("new york", "paris"), "monday friday".split()))


@pytest.fixture
def corpus(data):
    "A corpus of news in the layout of Gigaword, in the reader's folder."
    for part, some in (("train", slice(0, None, 2)), ("valid", slice(1, None, 2))):
        put(data / f"gigaword/{part}.article.txt", "".join(f"{who} {did} {whom} in {where} late on {day} , officials there said .\n" for who, did, whom, where, day in NEWS[some]))
        put(data / f"gigaword/{part}.title.txt", "".join(f"{who} {did} {whom} {day}\n" for who, did, whom, _, day in NEWS[some]))
    training._sources.cache_clear()
    return data


def weights(result) -> dict:
    return {k: v for k, v in result.weights().items() if k.startswith("net.")}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def encoder(c: URSAEConfig, result): return trained(c, result, len(sources(c).vocabulary))[0]


def summaries(c: URSAEConfig, enc, articles) -> list[str]: return titles(enc, articles, sources(c).vocabulary, c.words, c.maxlen, c.unknown)


LONG = dict(ursae=(replace(TINY, extracts=10, steps=60), stage2), adversarial=(replace(GAME, extracts=10, steps=60), trained_adversarially))
KILLED = """
import os, signal
from test_ursae import LONG
from thesis_ebm.lab import train
other = os.fork()
save, name = train.save_checkpoint, "ursae" if other else "adversarial"
def saved(folder, *a, **kw):
    save(folder, *a, **kw)
    if folder.parent.name != f"train_{name}": return
    if other: os.waitpid(other, 0)
    os.kill(os.getpid(), signal.SIGKILL)
train.save_checkpoint = saved
c, go = LONG[name]
go(c, 0, "smoke")
"""


def test_a_killed_training_ends_where_an_uninterrupted_one_does(env, corpus, tmp_path, root, monkeypatch):
    "Both experiments, killed when their first checkpoint lies there; they go on in this process, and once more from the start."
    own = dict(THESIS_EBM_DATA=str(corpus), THESIS_EBM_CHECKPOINT_SECONDS="0", PYTHONPATH=f"{root}:{root / 'tests'}")
    killed = subprocess.run([sys.executable, "-c", KILLED], env=env | own, stderr=subprocess.DEVNULL, timeout=120)
    assert killed.returncode == -signal.SIGKILL and not list(tmp_path.glob("runs/train_[ua]*/*/record.json"))
    for name, (c, go) in LONG.items():
        resumed = go(c, 0, "smoke")
        with monkeypatch.context() as m:
            m.setenv("THESIS_EBM_RUNS", str(tmp_path / "whole"))
            whole = go(c, 0, "smoke")
        assert resumed.record["notes"]["resumed_at"] == [50] and "resumed_at" not in whole.record["notes"]
        for file in ("results.safetensors", "results.json", "log.csv"): assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), (name, file)


def test_two_seeds_are_two_models_and_write_is_kept(corpus):
    "Read and decoder differ; write is stage 1's to the last bit, and is trained where there is no stage 1."
    a, b, none = stage2(TINY, 0, "smoke"), stage2(TINY, 1, "smoke"), stage2(ablated(TINY), 0, "smoke")
    for part in ("net.enc.read.", "net.dec."): assert not same(a.weights(part), b.weights(part))
    assert same(a.weights("net.enc.write."), dict(language_model(stage1(TINY, 0, "smoke")).state_dict()))
    x, y = trained_adversarially(GAME, 0, "smoke"), trained_adversarially(GAME, 1, "smoke")
    for part in ("net.enc.write.", "net.enc.read.", "net.dec.", "net.D."): assert not same(x.weights(part), y.weights(part))
    start = Player(ablated(TINY), sources(TINY), 0, "cpu").enc.write.state_dict()
    assert max((none.weights("net.enc.write.")[k] - v).abs().max() for k, v in start.items()) > 0.1


KEPT = []


def kept_experiment(config, data, run):
    KEPT.append(Player(config, data, run.seed, run.fabric.device))
    return train_player(KEPT[0], run)


def test_a_trained_model_is_the_one_that_was_trained(corpus):
    "What `trained` reads back says what the nets said at the end of training."
    KEPT.clear()
    data = sources(TINY).after(stage1(TINY, 0, "smoke"))
    result, articles = run(kept_experiment, TINY, 0, data, "smoke"), load("gigaword", "test").articles
    said = summaries(TINY, encoder(TINY, result), articles)
    assert said == summaries(TINY, KEPT[0].enc.eval(), articles) and len(set(said)) > 1
    assert same(weights(result), weights(stage2(TINY, 0, "smoke")))


@pytest.mark.parametrize("c", [replace(TINY, lr_dec=1e30, extracts=0), replace(GAME, lr_dec=1e30, extracts=0)], ids=["ursae", "adversarial"])
def test_a_training_that_diverges_says_so(corpus, c):
    result = trained_adversarially(c, 0, "smoke") if isinstance(c, AdversarialConfig) else stage2(c, 0, "smoke")
    with pytest.raises(RuntimeError, match="The summariser diverged at step .: lower lr and lr_dec"):
        trained(c, result, len(sources(c).vocabulary))


def test_eta_rises_from_its_first_value_to_one(corpus, monkeypatch):
    summarise, seen = training.summarise, []
    monkeypatch.setattr(training, "summarise", lambda *a, **kw: seen.append(kw["eta"]) or summarise(*a, **kw) if "eta" in kw else summarise(*a, **kw))
    for c, go in ((replace(TINY, steps=10, until=0.8), stage2), (replace(GAME, steps=10, until=0.8), trained_adversarially)):
        go(c, 0, "smoke")
        assert len(seen) == 10 and seen[0] == 1e-6 and seen[4] == pytest.approx(1e-3) and seen[8:] == [1.0, 1.0] and seen == sorted(seen)
        seen.clear()


@pytest.mark.parametrize("what", [Pairs(("an article", "another one"), ("one", "two")), Text(("a headline", "another")), ("an article", "another one"), None],
                         ids=["pairs", "headlines", "strings", "nothing"])
def test_only_articles_can_be_trained_on(what):
    with pytest.raises(TypeError, match="trained on Articles, which have no titles"):
        sources_of(what, 100, 20)


@pytest.mark.parametrize("texts, says", [((), "None of 0 sentences is left"), (("", " "), "None of 2 sentences is left: 2 are empty"), (("a b c",), "1 of 1 articles is left: at least 2"),
                                         (("<unk> <unk>", "<unk>"), "more than 99% unknown words"), (("a b", "", "<unk> <unk> <unk>"), "1 of 3 articles is left")])
def test_articles_that_are_too_few(texts, says):
    with pytest.raises(ValueError, match=says):
        sources_of(Articles(texts), 100, 20)


def test_articles_of_every_length_are_trained_on(env):
    "Of one word, of two, shorter than a summary, longer than what is read, nearly all of it unknown; the empty ones are left out."
    texts = ("word", "two words", "a b c", "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3, "a <unk> <unk> <unk>", "", *(f"a b {w} d" for w in "cdefghijkl"))
    data = sources_of(Articles(texts), 12, TINY.words)
    assert len(data.train) + len(data.valid) < len(texts) and not {"", "<unk>"} & set(data.vocabulary.words[4:])
    for result in (run(train_ursae, replace(ablated(TINY), m=4), 0, data, "smoke"),
                   run(train_adversarial, replace(GAME, m=4), 0, with_titles(data, ["a b", "b c d", "<unk>"], TINY.maxlen), "smoke")):
        assert not result.diverged and all(v.isfinite().all() for v in result.weights().values())


def test_summaries_of_articles_of_every_kind(corpus):
    enc = encoder(TINY, stage2(TINY, 0, "smoke"))
    articles = ["", " ", "word", "zzz", "two words", "zzz yyy", "qqq " * 30, "<unk> <unk> <unk>", "return the value of the array . " * 40, ". . .", "a\tb\u00a0c  d"]
    said = summaries(TINY, enc, articles)
    assert said[:4] == ["", " ", "word", "zzz"] and all(isinstance(s, str) for s in said)
    assert all(len(s.split()) < min(TINY.maxlen, max(2, len(a.split()))) for s, a in zip(said[4:], articles[4:])), said
    assert not [s for s in said if any(sign in s for sign in ("<unk>", "<sos>", "<eos>", "<pad>"))] and summaries(TINY, enc, []) == []
    assert summaries(TINY, enc, iter(articles)) == said == summaries(TINY, enc, articles[::-1])[::-1]


def test_training_reads_no_title_file(corpus):
    "Titles of bytes that are no text: everything is trained as with good ones; only what is to learn from headlines finds them damaged."
    good = stage2(TINY, 0, "smoke")
    for part in ("train", "valid"): put(corpus / f"gigaword/{part}.title.txt", b"\xff\xfe no text\n" * 54)
    training._sources.cache_clear()
    bad = stage2(replace(TINY, steps=7), 0, "smoke")
    assert stage2(TINY, 0, "smoke").record["key"] == good.record["key"] and not bad.diverged
    assert all(len(s.split()) < TINY.maxlen for s in summaries(TINY, encoder(TINY, bad), load("gigaword").texts))
    for learn in (lambda: stage2(replace(TINY, pretrained="titles"), 0, "smoke"), lambda: adversarial_sources(GAME)):
        with pytest.raises(DataDamaged, match="train.title.txt, line 1, is not UTF-8"): learn()


def test_a_title_file_of_another_length(corpus, tmp_path):
    put(corpus / "gigaword/train.title.txt", "a title\n" * 53)
    with pytest.raises(DataDamaged, match="train.title.txt has 53 lines, but .*train.article.txt has 54"): stage2(TINY, 0, "smoke")
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.realdata
def test_gigaword_sample_is_trained_on(real_data, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    training._sources.cache_clear()
    c = replace(TINY, limit=400, size=2000, words=60, steps=5)
    pairs = load("gigaword", "valid", "full", 20)
    for config, result in ((c, stage2(c, 0, "smoke")), (adversarial(c), trained_adversarially(adversarial(c), 0, "smoke"))):
        assert not result.diverged and not result.record["data"]["stand_in"]
        said = summaries(config, encoder(config, result), pairs.articles)
        assert len(said) == 20 and any(said) and all(len(s.split()) < config.maxlen for s in said)
