"A parser, and vector arithmetic: another parser is refused, what cannot be analysed is counted, batches and interruptions change nothing, a toy whose offsets are known."
import json
import math
from dataclasses import replace
from importlib import metadata, util
from types import SimpleNamespace
import numpy as np
import pytest
import torch
from conftest import clean_env
from thesis_ebm.arae import arithmetic
from thesis_ebm.arae.arithmetic import ARMS, BLOCK, PROFILES, ShiftConfig, Tally, TallyConfig, draw_samples, latents, looked_at, offsets, profile_of
from thesis_ebm.arae.samples import Of
from thesis_ebm.arae.text import corpus, train_text
from thesis_ebm.data import syntax
from thesis_ebm.data.catalog import DataDamaged
from thesis_ebm.data.syntax import SLOTS, Parses, model_folder, parse_all
from thesis_ebm.data.tokens import EOS, PAD, Vocabulary, encode, sentences_of
from thesis_ebm.lab.run import run

P = PROFILES["smoke"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "Folders of this module."
    with pytest.MonkeyPatch.context() as m:
        for k, v in clean_env(tmp_path_factory.mktemp("arithmetic"), THESIS_EBM_CHECKPOINT_SECONDS="0").items():
            m.setenv(k, v)
        yield


@pytest.fixture(scope="module")
def model(place) -> Of:
    "A small ARAE of captions."
    return Of(run(train_text, P.config, 0, corpus(P.config), "smoke", "cpu"), P.config)


def one_sentence(e) -> bool:
    return "\n" not in str(e.value) and str(e.value).endswith("pip install 'thesis-ebm[text]'.")


@pytest.fixture
def unread(monkeypatch):
    "Fails when a model is read."
    def refuse(*words, **more):
        raise AssertionError("an unknown model was read")
    import spacy
    monkeypatch.setattr(spacy, "load", refuse)
    syntax.parser.cache_clear()
    yield
    syntax.parser.cache_clear()


@pytest.mark.parametrize("missing", ["spacy", syntax.MODEL])
def test_without_a_parser(monkeypatch, unread, missing):
    known = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == missing else known(name))
    with pytest.raises(ImportError, match=f"spacy and {syntax.MODEL}, which parse sentences, are not both installed") as e:
        parse_all(["a man walks ."])
    assert one_sentence(e)


def test_another_version_of_the_parser(monkeypatch, unread):
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "999.9.9" if name == syntax.MODEL else known(name))
    with pytest.raises(ImportError, match="is of version 999.9.9, and 3.8.0 is needed") as e:
        parse_all(["a man walks ."])
    assert one_sentence(e)


def test_a_parser_of_another_content(monkeypatch, unread, tmp_path):
    "One changed byte in one of its files."
    copy, known = tmp_path / model_folder().name, util.find_spec
    for p in model_folder().rglob("*"):
        if p.is_file():
            (copy / p.relative_to(model_folder())).parent.mkdir(parents=True, exist_ok=True)
            (copy / p.relative_to(model_folder())).write_bytes(p.read_bytes())
    there = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(util, "find_spec", lambda name: there if name == syntax.MODEL else known(name))
    assert model_folder() == copy
    weights = bytearray((copy / "parser" / "model").read_bytes())
    weights[1000] ^= 1
    (copy / "parser" / "model").write_bytes(weights)
    with pytest.raises(DataDamaged, match="are not the known ones") as e:
        parse_all(["a man walks ."])
    assert one_sentence(e)


def test_what_cannot_be_analysed_is_counted(monkeypatch, place):
    "Empty sentences, fragments and strange words; two processes find the same as one."
    strange = ["", ".", "the the the", "in the park", "a man", "walking along the water", "<unk> <unk> <unk>", "é … 😀", "man " * 200]
    plain = ["a man is walking .", "two dogs are sleeping .", "there are several young women dancing in a room ."]
    found = parse_all(plain + strange + plain)
    assert not found.analysed[len(plain):len(plain) + 6].any() and found.analysed[:3].all() and found.analysed[-3:].all()
    assert found.unanalysed == int((~found.analysed).sum()) >= 6 and found.verb.tolist()[:3] == ["walking", "sleeping", "dancing"]
    assert found.modifier.tolist()[:3] == found.modifier.tolist()[-3:] == ["a", "two", "several"]
    monkeypatch.setattr(syntax, "WORTH", 3)
    apart = parse_all(plain + strange + plain, workers=2)
    assert all((getattr(apart, s) == getattr(found, s)).all() for s in SLOTS)


def test_batches_and_an_interruption_change_nothing(model, monkeypatch):
    "The tally of one batch, of many, and of a run that was stopped in its third batch."
    whole = run(arithmetic.tally, TallyConfig(700, 700), 0, model, "smoke", "cpu")
    known, calls = arithmetic.enter, []

    def stop(*words):
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return known(*words)
    monkeypatch.setattr(arithmetic, "enter", stop)
    with pytest.raises(KeyboardInterrupt):
        run(arithmetic.tally, TallyConfig(700, 130), 0, model, "smoke", "cpu")
    monkeypatch.setattr(arithmetic, "enter", known)
    parts = run(arithmetic.tally, TallyConfig(700, 130), 0, model, "smoke", "cpu")
    assert parts.record["notes"]["resumed_at"][0] in (1, 2) and parts.folder != whole.folder
    assert all(torch.equal(parts.tensors[k], v) for k, v in whole.tensors.items())
    words, counts = whole.tensors["words"], whole.tensors["counts"]
    assert words.shape == (700, 3) and counts[0].sum() == counts[1].sum() == (words[:, 0] != PAD).sum()
    z = latents(0, torch.arange(700), P.config.nz).double()
    most = int(counts[1].argmax())
    assert torch.allclose(whole.tensors["sums"][1, most], z[words[:, 1] == most].sum(0), atol=1e-9), "any z can be drawn again"


def test_words_that_are_not_there(model):
    for word in ("flying", "unheardof"):
        with pytest.raises(ValueError, match=f"No generated sentence has '{word}' as its verb: choose one that is there, the most frequent being [a-z]+"):
            arithmetic.arithmetic(replace(P, transforms=(("verb", word),)), 0, "smoke", "cpu")
    for wrong, says in (([["verbs", "running"]], "Unknown slot 'verbs'. Did you mean 'verb'"), ([["running"]], "a slot and a word"), (3, "has the type tuple")):
        with pytest.raises(ValueError, match=says):
            profile_of("quick", {"transforms": wrong})


def test_own_words_and_the_same_numbers_again(model):
    "Frequent words where none are named; a second call loads; another seed differs."
    found, again = (arithmetic.arithmetic(P, 0, "smoke", "cpu") for _ in range(2))
    assert [t.slot for t in found.transforms] == list(SLOTS) and found.shifted.folder == again.shifted.folder and 0 <= found.unanalysed < 1
    assert all(np.array_equal(a.match(arm), b.match(arm)) for a, b in zip(found.transforms, again.transforms) for arm in ARMS)
    asked = replace(P, transforms=tuple((t.slot, t.word) for t in found.transforms[1:]))
    own = arithmetic.arithmetic(asked, 0, "smoke", "cpu")
    assert own.tally.folder == found.tally.folder and [t.word for t in own.transforms] == [t.word for t in found.transforms[1:]]
    assert json.dumps(own.shifted.record["config"]["transforms"]) == json.dumps([list(t) for t in asked.transforms])
    assert np.array_equal(own.transforms[0].match(), found.transforms[1].match()), "a transform does not depend on the others"


class Toy:
    "z itself decides: verb by the sign of its first number, subject by that of its second."
    nz = 3
    vocabulary = Vocabulary.of(["a man is walking .", "a dog is sleeping ."])
    ids = encode([f"a {s} is {v} ." for v in ("sleeping", "walking") for s in ("dog", "man")], vocabulary).ids[:, 1:]

    def say(self, model, z, maxlen, how="greedy", seed=0):
        return self.ids[2 * (z[:, 0] > 0) + (z[:, 1] > 0).long()]

    def parse(self, sentences):
        words = [s.split() for s in sentences]
        return Parses(*np.array([(w[3], w[1], w[0]) for w in words], object).T)


def test_a_toy_whose_offset_is_known(monkeypatch):
    "t is 2 sqrt(2 / pi) along the first axis, so it turns a share 2 Phi(t) - 1 of the negative half."
    toy, n = Toy(), 40 * BLOCK
    monkeypatch.setattr(arithmetic, "say", toy.say)
    book, text = Tally(n, len(toy.vocabulary), toy.nz), SimpleNamespace(vocabulary=toy.vocabulary)
    for rows in torch.arange(n).split(999):
        arithmetic.enter(book, rows, toy, text, 5, 0, toy.parse)
    walking = toy.vocabulary.index["walking"]
    drawn = draw_samples(toy, book, 0, walking, ShiftConfig((), 2000, 2), 0, 5)
    z, length = latents(0, drawn["rows"], 3), 2 * math.sqrt(2 / math.pi)
    assert (z[:, 0] <= 0).all() and len(drawn["rows"].unique()) == 2000
    t = offsets(book, 0, walking, drawn["rows"], z)
    assert (t - torch.tensor([length, 0, 0])).abs().max() < 6 * 2 / math.sqrt(n), "six standard errors of a difference of two halves"
    near = (drawn["said"] == walking).any(3)
    verbs = toy.parse(sentences_of(drawn["said"][near], toy.vocabulary)).verb
    kept = looked_at(drawn, near, dict(match=verbs == "walking"))
    rate = kept["match"].any(2).double().mean(1)
    assert abs(rate[0] - math.erf(length / math.sqrt(2))) < 5 * math.sqrt(0.09 / 2000) and rate[1] == 0
    assert 0 < rate[2] < rate[0] / 2, "a random direction seldom does"
    changed = kept["precision"][0][kept["match"][0]]
    assert ((changed - 0.8).abs() < 1e-6).double().mean() > 0.97, "all but the verb is kept; near the axis the subject may turn, too"
    there = kept["match"][0].any(1)
    assert (kept["first"][there] == walking).any(1).all() and (kept["first"][~there] == PAD).all()
    assert (kept["first"][there] == EOS).any(1).all() and torch.equal(kept["first"], kept["closest"])
