"URSAE on a reader's own texts: a script of theirs, every kind of bad input, odd texts, files, determinism."
import gzip
import itertools
import math
import subprocess
import sys
import time
import warnings
from pathlib import Path
import pytest
import torch
from conftest import ROOT, clean_env
from thesis_ebm.data.catalog import DataDamaged
from thesis_ebm.lab.saved import FILES
from thesis_ebm.ursae import Summarizer, use

torch.set_num_threads(1)
FAST = dict(d=12, maps=8, embedding=8, m=16, lm_m=16, K=2, maxlen=5, words=10, lm_steps=4, extracts=2, steps=3, times=3, progress=False, device="cpu")
TEXTS = [f"The {a} {b} {v} the {c}, quietly. It isn't 1 of {n}!" for a, b, v, c, n in itertools.product(("old", "tall"), ("man", "dog", "girl"), ("sees", "hears", "likes"), ("tree", "house"), (7, 12))]
HEADLINES = [f"{b} {v} {c}" for b, v, c in itertools.product(("man", "dog", "girl"), ("sees", "likes"), ("tree", "house"))]

SCRIPT = '''
import sys, warnings
from thesis_ebm.ursae import Summarizer
print([m for m in "pandas scipy matplotlib sklearn papermill torchvision rouge_score transformers".split() if m in sys.modules])
warnings.simplefilter("error")
colours, things, places = "red green blue black white grey".split(), "house boat train bridge tower garden".split(), "London Paris Rome".split()
texts = [f"There is a {c} {t} in {p}, and everybody who goes to {p} wants to see the {t} because it is {c}." for c in colours for t in things for p in places]
open("mine.txt", "w").write("\\n".join(texts[::2]) + "\\n")
model = Summarizer.fit("mine.txt", maxlen=6, d=16, m=16, lm_m=16, lm_steps=20, extracts=10, steps=10, progress=False, device="cpu")
found, own = model.summarize(texts[1::2]), model.reward(texts[1::2])
print(all(1 <= len(z.split()) <= 5 for z in found))
again = Summarizer.load(model.save("model"), "cpu")
print(again.summarize(texts[1::2]) == found and all(bool((again.reward(texts[1::2])[k] == own[k]).all()) for k in own))
'''


def test_a_script_of_a_readers_own(tmp_path):
    "How good the summaries are, the example of the README is asked."
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, env=clean_env(tmp_path, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:3] == ["[]", "True", "True"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["mine.py", "mine.txt", "model", *FILES])


@pytest.fixture(scope="module")
def model() -> Summarizer:
    return Summarizer.fit(TEXTS, **FAST)


def same(a: Summarizer, b: Summarizer) -> bool:
    return a.vocabulary == b.vocabulary and all(torch.equal(v, w) for v, w in zip(use.weights_of(a.enc, a.dec).values(), use.weights_of(b.enc, b.dec).values(), strict=True))


def words(texts) -> list[int]:
    return [len(t.split()) for t in texts]


def test_the_same_texts_in_any_form_give_the_same_model(model, tmp_path):
    state = torch.get_rng_state()
    (tmp_path / "mine.txt").write_text("\n".join(TEXTS))
    (tmp_path / "mine.txt.gz").write_bytes(gzip.compress("\r\n".join(TEXTS).encode()))
    apart = [use.normalised(t) for t in TEXTS]
    for texts, more in ((tuple(TEXTS), {}), (iter(TEXTS), {}), (tmp_path / "mine.txt", {}), (str(tmp_path / "mine.txt.gz"), {}), (apart, {}), (apart, dict(tokenised=True))):
        found = Summarizer.fit(texts, **FAST, **more)
        assert same(found, model) and found.history == model.history
    assert found.summarize(apart) == model.summarize(TEXTS, typed=False) and found.summarize(apart, typed=True) == model.summarize(TEXTS), "tokenised in, tokenised out"
    assert not same(Summarizer.fit(TEXTS, **FAST, seed=1), model) and torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert same(Summarizer.fit(TEXTS, **FAST), model), "whatever torch's generator does"


@pytest.mark.parametrize("texts, more, error, message", [
    ([], {}, ValueError, "Of 0 texts, 0 different ones"), (TEXTS[:7] * 9, {}, ValueError, "7 different ones can be used: at least 8"), (["", "dog", " \n"] * 9, {}, ValueError, "left out: 18 empty, 9 of one word"),
    ("The man sees the tree.", {}, FileNotFoundError, "no file 'The man sees the tree.': give the path of a text file with a text a line, or a list of texts"), (None, {}, TypeError, "list of texts is needed, not one NoneType"),
    ([*TEXTS, None], {}, TypeError, "Text 73 is not a string but NoneType"), (TEXTS + [b"a dog"], {}, TypeError, "not a string but bytes"), (["\ud800 dog"], {}, ValueError, "Text 1 is not Unicode"), (3, {}, TypeError, "not one int"),
    (TEXTS, dict(headlines=[]), ValueError, "Of 0 headlines"), (TEXTS, dict(headlines=[("a", "b")]), TypeError, "Headline 1 is not a string but tuple"), (TEXTS, dict(headlines=5), TypeError, "list of headlines is needed, not one int"),
    (TEXTS, dict(headlines="man sees dog"), FileNotFoundError, "a headline a line, or a list of headlines"), (TEXTS, dict(headlines=["qwx zzy"] * 9), ValueError, "Of 9 headlines, 0 different ones can be used .left out: 9 of unknown words"),
    (TEXTS, dict(stepz=3), ValueError, "Did you mean 'steps'"), (TEXTS, dict(headline=[]), ValueError, "Unknown setting 'headline'"), (TEXTS, dict(epochs=3), ValueError, "Unknown setting 'epochs'"), (TEXTS, dict(steps=0), ValueError, "steps = 0"),
    (TEXTS, dict(lm_steps=0), ValueError, "lm_steps = 0"), (TEXTS, dict(extracts=-1), ValueError, "extracts = -1"), (TEXTS, dict(maxlen=1), ValueError, "maxlen = 1"), (TEXTS, dict(words=1), ValueError, "words = 1"), (TEXTS, dict(size=0), ValueError, "size = 0"),
    (TEXTS, dict(size=2.5), ValueError, "'size' has the type int"), (TEXTS, dict(valid=0), ValueError, "valid = 0"), (TEXTS, dict(valid=0.9), ValueError, "valid = 0.9"), (TEXTS, dict(minutes=-1), ValueError, "minutes = -1"), (TEXTS, dict(seed=-1), ValueError, "seed = -1"),
    (TEXTS, dict(lam=-0.1), ValueError, "lam = -0.1"), (TEXTS, dict(lr=math.nan), ValueError, "lr = nan"), (TEXTS, dict(eta0=0.0), ValueError, "eta0 = 0"), (TEXTS, dict(optim="rmsprop"), ValueError, "Unknown optimiser"), (TEXTS, dict(lm_optim="ada"), ValueError, "Unknown optimiser"),
    (TEXTS, dict(baseline="mean"), ValueError, "Unknown baseline"), (TEXTS, dict(baseline="leave-one-out", K=1), ValueError, "K = 1"), (TEXTS, dict(device="tpu"), ValueError, "Unknown device"), 
    (TEXTS, dict(lm_lr=1e6, lm_steps=20), ValueError, "diverged by step .* smaller learning rates than lm_lr=1e.06"), (TEXTS, dict(lr_extracts=1e8, extracts=20), ValueError, "lr_extracts=1e.08"), (TEXTS, dict(lr=1e30, optim="sgd", lr_dec=1e30, steps=9), ValueError, "lr=1e.30")])
def test_what_cannot_be_fitted_is_refused(texts, more, error, message, tmp_path, monkeypatch):
    "In one sentence; nothing is left behind, and torch's generator is where it was."
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    with pytest.raises(error, match=message) as caught:
        Summarizer.fit(texts, **FAST | more)
    assert len(str(caught.value).splitlines()) == 1 and not list(tmp_path.iterdir()) and torch.equal(torch.get_rng_state(), state)


def test_what_is_left_out_is_counted_and_said_once(tmp_path):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = Summarizer.fit([*TEXTS, "", "  ", "Dog", "Dog.", "qwx zzy"], **FAST | dict(size=20), headlines=[*HEADLINES, "", "qwx"])
    assert found.skipped == {"empty": 2, "of one word": 2, "of unknown words": 1} and found.c.pretrained == "titles"
    assert [str(w.message) for w in said] == ["Of 77 texts, 5 were left out: 2 empty, 2 of one word, 1 of unknown words.", "Of 14 headlines, 2 were left out: 1 empty, 1 of unknown words."]
    assert all(w.filename == __file__ for w in said), "the warning points at the reader's line"
    (tmp_path / "mine.txt").write_bytes("\n".join(TEXTS).encode() + b"\n\xff\xfe bad\n")
    with pytest.raises(DataDamaged, match="mine.txt, line 73"):
        Summarizer.fit(tmp_path / "mine.txt", **FAST)
    with pytest.warns(UserWarning, match="1 not UTF-8"):
        assert Summarizer.fit(tmp_path / "mine.txt", **FAST, unreadable="skip").skipped == {"not UTF-8": 1}


def test_headlines_teach_write(model):
    "What write never saw ends no earlier than in the third word: all headlines have three."
    more = FAST | dict(lm_steps=150, lm_lr=2e-2, extracts=0)
    taught = Summarizer.fit(TEXTS, headlines=HEADLINES, **more)
    nats = {z: taught.reward(TEXTS[:1], [z])["log_penc0"].item() for z in ("dog likes house", "house likes dog", "dog likes", "the old man", "quietly. it")}
    assert max(nats, key=nats.get) == "dog likes house" and nats["dog likes house"] > -math.log(12) - 1
    assert taught.reward(TEXTS[:1], ["dog likes house"])["log_penc0"] > model.reward(TEXTS[:1], ["dog likes house"])["log_penc0"] + 2


def test_texts_of_any_kind_have_a_summary(model):
    "Shorter than themselves by a word at least; nothing else is said about those that the model can read."
    odd = ["", "Dog!!", "dog", "qwx zzy xxq vvw uuw ttq", "qwx zzy", "the dog", "It isn't.", "dog " * 500, "\n tab\t here dog \n", "\u00e9t\u00e9 \u72ac \U0001f415 dog", TEXTS[0]]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = model.summarize(odd, typed=False)
    assert found[:5:2] == ["", "dog", "qwx"] and found[3] == "qwx zzy xxq vvw" and len(found) == len(odd) and len(said) == 2
    read = [use.normalised(t) for t in odd]
    assert all(a <= max(0, b - 1) or a == b == 1 for a, b in zip(words(found), words(read))) and max(words(found)) <= 4
    assert "Of 11 texts, 2 with no word, or a single one" in str(said[0].message) and "number 1, ''" in str(said[0].message) and "Of 11 texts, 2 with no word that the model knows" in str(said[1].message)
    rewards = model.reward(odd, found)
    assert all(v.shape == (11,) and v.isfinite().all() for v in rewards.values()) and list(rewards) == ["log_pdec", "log_penc0", "R"]
    with pytest.warns(UserWarning, match="no word that the model knows"):
        assert model.summarize(["qwx zzy xxq"]) == ["qwx zzy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(n <= 2 for n in words(model.summarize(TEXTS, maxlen=3, typed=False))) and all(z == z.lower() for z in model.summarize(TEXTS))


def test_what_cannot_be_summarised_is_refused(model):
    for call, error, message in (
            (lambda: model.summarize([]), ValueError, "the list is empty"), (lambda: model.summarize("the dog"), TypeError, "list of texts is needed, not one str"), (lambda: model.summarize(None), TypeError, "not one NoneType"),
            (lambda: model.summarize(["a dog", 3]), TypeError, "Text 2 is not a string but int"), (lambda: model.summarize(["\udc80"]), ValueError, "Text 1 is not Unicode"), (lambda: model.summarize(TEXTS, maxlen=6), ValueError, "maxlen = 6: .* at most 5"),
            (lambda: model.summarize(TEXTS, maxlen=1), ValueError, "maxlen = 1"), (lambda: model.summarize(TEXTS, maxlen=True), ValueError, "maxlen = True"), (lambda: model.summarize(TEXTS, how="gredy"), ValueError, "Did you mean 'greedy'"),
            (lambda: model.summarize(TEXTS, seed=-1), ValueError, "seed = -1"), (lambda: model.reward(TEXTS, ["the dog"]), ValueError, "72 texts and 1 summaries"), (lambda: model.reward(TEXTS[:2], "ab"), TypeError, "list of summaries is needed"),
            (lambda: model.reward(TEXTS[:1], [None]), TypeError, "Summary 1 is not a string"), (lambda: model.reward(TEXTS[:2], ["", "the old man sees the"]), ValueError, "Summary 2 has 5 words, .* 4 at most")):
        with pytest.raises(error, match=message) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_greedy_and_sampled_summaries(model):
    state = torch.get_rng_state()
    drawn = [model.summarize(TEXTS, how="sample", seed=s) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and model.summarize(TEXTS) == model.summarize(TEXTS) and torch.equal(torch.get_rng_state(), state)
    assert model.summarize(TEXTS[::-1]) == model.summarize(TEXTS)[::-1], "in their order, whatever stands beside"
    own = model.reward(TEXTS)
    given = model.reward(TEXTS, model.summarize(TEXTS))
    assert all(torch.allclose(own[k], given[k], atol=1e-4) for k in own) and own["R"].dtype == torch.float64 and (own["log_penc0"] < 0).all()


def test_rewards_are_those_of_training(model):
    "Eq. (5.3), summed by hand, and the best look of the history."
    x, z = TEXTS[0], "the dog"
    ids = use.signs([use.normalised(z)], model.vocabulary, 4)
    h = model.enc.states(ids[None])[0, 0]
    by_hand = sum(model.enc.write.output(h[t]).log_softmax(0)[ids[0, t]] for t in range(3)).item()
    found = model.reward([x], [z])
    assert math.isclose(found["log_penc0"].item(), by_hand, rel_tol=1e-5)
    n = min(10, len(use.normalised(x).split())) + 1
    assert math.isclose(found["R"].item(), found["log_pdec"].item() / n + 0.1 * found["log_penc0"].item() / 3, rel_tol=1e-5)
    summed = Summarizer.fit(TEXTS, **FAST | dict(per_sign=False, lam=0.5, free_stop=False))
    held = use.hold_out([use.normalised(t) for t in TEXTS], 0.05, 0)[1]
    r = summed.reward(held)
    assert torch.allclose(r["R"], r["log_pdec"] + 0.5 * r["log_penc0"], atol=1e-4)
    for found in (summed, model):
        best = max(row["R"] for row in found.history if row["part"] == "summaries")
        assert math.isclose(found.reward(held)["R"].mean().item(), best, rel_tol=1e-4)


def test_the_texts_own_words_in_place_of_unknown_ones():
    found = Summarizer.fit(TEXTS, **FAST | dict(size=6, unknown=True))
    with torch.no_grad():
        found.enc.write.output.bias[use.UNK] += 50
    texts = ["the zebra hums. it is 1.", "the the the the the"]
    assert found.summarize(texts, own_words=False, typed=False)[0].split() == ["<unk>"] * 4
    said = found.summarize(texts, typed=False)
    assert set(said[0].split()) <= {"zebra", "hums", "is", "it"} and set(said[1].split()) == {"<unk>"}, "where the text has none, the sign stays"


def test_an_interrupt_keeps_the_best(monkeypatch):
    steps = []
    def turn(p, t, share):
        steps.append(t)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return use_turn(p, t, share)
    use_turn = use.both_turn
    monkeypatch.setattr(use, "both_turn", turn)
    stop = 8
    with pytest.warns(UserWarning, match="Interrupted: the model is that of step [36] of the part 'summaries'"):
        found = Summarizer.fit(TEXTS, **FAST | dict(steps=9))
    assert found.history[-1]["step"] == 6 and len(found.summarize(TEXTS)) == 72
    steps, stop = [], 1
    with pytest.raises(KeyboardInterrupt):
        Summarizer.fit(TEXTS, **FAST)


def test_minutes_are_divided():
    more = {k: v for k, v in FAST.items() if k not in ("steps", "lm_steps", "extracts", "progress")}
    begun = time.monotonic()
    found = Summarizer.fit(TEXTS, minutes=0.02, **more)
    assert 1.1 < time.monotonic() - begun < 5
    assert list(dict.fromkeys(r["part"] for r in found.history)) == ["language model", "decoder", "summaries"]
    assert Summarizer.fit(TEXTS, minutes=0.02, progress=False, steps=2, lm_steps=3, extracts=0, **more).history[-1]["step"] == 2


def test_the_bars_say_which_part(capsys):
    Summarizer.fit(TEXTS, **FAST | dict(progress=True))
    err = capsys.readouterr().err
    assert all(f"{name}: 100%" in err for name in ("language model", "decoder", "summaries")) and "R -" in err
    Summarizer.fit(TEXTS, **FAST)
    assert capsys.readouterr().err == ""


def test_what_is_saved_comes_back(model, tmp_path):
    folder = model.save(tmp_path / "model")
    again = Summarizer.load(folder, "cpu")
    assert same(again, model) and again.summarize(TEXTS) == model.summarize(TEXTS) and all(torch.equal(v, w) for v, w in zip(again.reward(TEXTS).values(), model.reward(TEXTS).values()))
    assert (again.c, again.tokenised, again.history, again.skipped, repr(again)) == (model.c, model.tokenised, model.history, model.skipped, repr(model)) and "summaries of 4 at most" in repr(model)
    assert model.save(folder) == folder == Path(tmp_path / "model") and sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    for name in FILES:
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good[:90] + bytes([good[90] ^ 1]) + good[91:])
        with pytest.raises((DataDamaged, ValueError)):
            Summarizer.load(folder)
        (folder / name).write_bytes(good)
    (folder / FILES[0]).unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing"):
        Summarizer.load(folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        model.save(tmp_path)
