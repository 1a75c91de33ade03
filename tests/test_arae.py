"ARAE on a reader's own text: fitting, every kind of bad input, files, determinism."
import gzip
import json
import shutil
import warnings
from itertools import product
import pytest
import torch
from thesis_ebm.arae import ARAE, use
from thesis_ebm.data.catalog import DataDamaged
from thesis_ebm.data.tokens import Vocabulary, encode
from thesis_ebm.lab import saved as files

torch.set_num_threads(1)
SMALL = dict(n=12, nz=4, widths=(12,), m=16, steps=20, progress=False, device="cpu")
CORPUS = [" ".join(w) + " ." for w in product(("the dog", "a man", "one cat"), ("sleeps", "runs", "eats"), ("here", "there", "in town", "at home"))]


def same(a, b) -> bool:
    return all(torch.equal(v, w) for v, w in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def model() -> ARAE:
    return ARAE.fit(CORPUS, **SMALL)


@pytest.fixture
def saved(model, tmp_path):
    return model.save(tmp_path / "model")


def test_a_model_learns_draws_and_goes_between():
    "Nine tenths of the sentences come back word for word; draws are sentences of the language, and differ."
    model = ARAE.fit(CORPUS, **SMALL | dict(n=40, nz=16, widths=(40,), steps=400, patience=20, valid=0))
    assert sum(a == b for a, b in zip(model.reconstruct(CORPUS), CORPUS)) > 0.9 * len(CORPUS)
    drawn = model.sample(60, seed=1)
    assert len(drawn) == 60 and len(set(drawn)) >= 5 and sum(s in CORPUS for s in drawn) > 30
    way = model.interpolate(CORPUS[0], CORPUS[-1], steps=5)
    assert len(way) == 5 and [way[0], way[-1]] == model.reconstruct([CORPUS[0], CORPUS[-1]]) and len(model.interpolate(steps=3, seed=2)) == 3
    assert model.nll(CORPUS).shape == (36,) and (model.nll(CORPUS) >= 0).all() and model.nll(CORPUS).mean() < model.nll([". here dog the"] * 2).mean()
    assert {"step", "L_rec", "valid", "norm_c", "norm_c_tilde"} <= model.history[0].keys() and model.history[-1]["L_rec"] < model.history[0]["L_rec"]


@pytest.mark.filterwarnings("ignore:The model knows no word")
@pytest.mark.parametrize("lines", [
    [f"In {y}, {n} people said \"it's {n}.5%\"!" for y in (1990, 2001) for n in range(8)],
    [f"Ça coûte {n} € — très cher, Zoë… 🙂" for n in range(12)],
    [a + b for a in "我你他她" for b in ("喜欢狗", "看书", "在家")],
    [f"word{n}" for n in range(20)]], ids=["digits and quotes", "unicode", "no blanks", "one word each"])
def test_text_of_any_kind(lines, tmp_path):
    model = ARAE.fit(lines, **SMALL)
    assert model.encode(lines).shape == (len(lines), 12)
    assert all(isinstance(s, str) for s in model.sample(5, "sample") + model.reconstruct(lines, "beam"))
    assert ARAE.load(model.save(tmp_path / "m")).vocabulary == model.vocabulary


def test_a_file_is_read_line_by_line(tmp_path, model):
    plain, packed = tmp_path / "text.txt", tmp_path / "text.txt.gz"
    plain.write_text("\n".join(CORPUS), encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert same(ARAE.fit(str(plain), **SMALL), model) and same(ARAE.fit(packed, **SMALL), model)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(plain.read_bytes() + b"\n\xff\xfe\n\n")
    with pytest.raises(DataDamaged, match="line 37, is not UTF-8"):
        ARAE.fit(bad, **SMALL)
    with pytest.warns(UserWarning, match="Of 38 sentences, 2 were left out: 1 not UTF-8, 1 empty") as said:
        assert ARAE.fit(bad, **SMALL, unreadable="skip").skipped == {"not UTF-8": 1, "empty": 1}
    assert len(said) == 1
    packed.write_bytes(packed.read_bytes()[:-9])
    for path, error in ((packed, DataDamaged), (tmp_path / "none.txt", FileNotFoundError), (tmp_path, FileNotFoundError), ("x" * 5000, FileNotFoundError)):
        with pytest.raises(error):
            ARAE.fit(path, **SMALL)


def test_sentences_left_out_are_counted_once():
    with pytest.warns(UserWarning, match="Of 40 sentences, 4 were left out: 3 empty, 1 longer than 9 words") as said:
        model = ARAE.fit([*CORPUS, "", " \t", "\n", "a " * 10], **SMALL, maxlen=9)
    assert len(said) == 1 and model.skipped == {"empty": 3, "longer than 9 words": 1}


@pytest.mark.parametrize("sentences, error, message", [
    ([], ValueError, "Of 0 sentences, 0 different"), (["", " "], ValueError, "left out: 2 empty"), (["a dog"] * 50, ValueError, "1 different ones can be used: at least 8"),
    ([*CORPUS, None], TypeError, "Sentence 37 is not a string but NoneType"), ([CORPUS[0], 3.5], TypeError, "Sentence 2 is not a string but float"),
    ([b"a dog"], TypeError, "Sentence 1 is not a string but bytes"), (b"a dog", TypeError, "not one bytes"), (None, TypeError, "not one NoneType"), (5, TypeError, "not one int"),
    ([*CORPUS, "a \ud800"], ValueError, "Sentence 37 is not Unicode"), ("a dog sleeps", FileNotFoundError, "There is no file 'a dog sleeps'")])
def test_what_cannot_be_fitted_is_refused(sentences, error, message):
    with pytest.raises(error, match=message):
        ARAE.fit(sentences, **SMALL)


@pytest.mark.parametrize("settings, message", [
    (dict(epochs=3), "Unknown setting 'epochs'"), (dict(lr_aa=1.0), "Did you mean 'lr_ae'"), (dict(steps=0), "steps = 0"), (dict(steps=1.5), "steps = 1.5"), (dict(minutes=-1), "minutes = -1"),
    (dict(n=0), "n = 0"), (dict(n="x"), "does not fit"), (dict(m=1), "m = 1"), (dict(valid=0.9), "valid = 0.9"), (dict(maxlen=0), "maxlen = 0"), (dict(size=0), "size = 0"), (dict(seed="a"), "seed"),
    (dict(device="tpu"), "Unknown device"), (dict(dtype=torch.float16), "precision"), (dict(adversary="vae"), "Unknown adversary"), (dict(optim_ae="lion"), "Unknown optimiser"),
    (dict(unreadable="x"), "unreadable")])
def test_settings_that_are_wrong_are_refused(settings, message, tmp_path):
    (tmp_path / "t").write_text("\n".join(CORPUS))
    with pytest.raises(ValueError, match=message):
        ARAE.fit(tmp_path / "t", **SMALL | settings)


@pytest.mark.parametrize("settings", [dict(lr_ae=1e6), dict(lr_ae=1e30), dict(optim_ae="sgd", lr_ae=1e6), dict(lr_G=1e30), dict(lr_enc=1e38, lambda1=1e10)])
def test_a_fit_that_diverges_says_so(settings):
    with pytest.raises(ValueError, match="Training diverged by step .*smaller learning rates"):
        ARAE.fit(CORPUS, **SMALL | settings)


def test_a_corpus_smaller_than_a_batch_and_than_the_vocabulary():
    model = ARAE.fit(CORPUS[:8], **SMALL | dict(m=64), size=10_000)
    assert model.regime.m == 7 and len(model.vocabulary) < 20
    few = ARAE.fit(CORPUS, **SMALL, size=3)
    assert len(few.vocabulary) == 7 and few.encode(CORPUS[:2]).isfinite().all()


def test_what_cannot_be_encoded_is_refused(model):
    cases = [([], "the list is empty"), (["a man .", ""], "Sentence 2 is empty"), (["a man .", "a man " * 20], "Sentence 2 has 40 words.*longer=\"cut\""), (["xyz", "uvw"], "knows no word")]
    for sentences, message in cases:
        with pytest.raises(ValueError, match=message):
            model.encode(sentences)
    for sentences in ("a man", [3], [None], None):
        with pytest.raises(TypeError):
            model.encode(sentences)
    assert torch.allclose(model.encode(["a man " * 20], longer="cut"), model.encode(["a man " * 15]))
    with pytest.warns(UserWarning, match="no word of 1 of 2 sentences, the first of them 'xyz'"):
        assert model.encode(["a man", "xyz"]).shape == (2, 12)
    tokens = encode(CORPUS, model.vocabulary)
    assert torch.equal(model.encode(tokens), model.encode(CORPUS))
    with pytest.raises(ValueError, match="another vocabulary"):
        model.encode(encode(CORPUS, Vocabulary.of(CORPUS[:5])))


def test_what_cannot_be_decoded_or_drawn_is_refused(model):
    for codes, message in ((torch.zeros(2, 5), r"shape \(N, 12\), those given \(2, 5\)"), (torch.zeros(12), "shape"), (torch.tensor([[0.0] * 12, [float("nan")] * 12]), "Code 2 of 2"), (torch.full((1, 12), torch.inf), "not finite")):
        with pytest.raises(ValueError, match=message):
            model.decode(codes)
    assert model.decode(torch.zeros(0, 12)) == [] and model.decode(model.encode(CORPUS[:2]).double().numpy()) == model.reconstruct(CORPUS[:2])
    for n in (0, -3, 2.5, "3", True):
        with pytest.raises(ValueError, match="n = "):
            model.sample(n)
    for call in (lambda: model.sample(2, "guess"), lambda: model.interpolate("a man"), lambda: model.interpolate(steps=1), lambda: model.sample(2, "sample", temperature=0)):
        with pytest.raises(ValueError):
            call()
    plain = ARAE.fit(CORPUS, **SMALL, adversary="none")
    assert plain.encode(CORPUS).isfinite().all()
    with pytest.raises(ValueError, match="generator was not trained"):
        plain.sample(1)


def test_the_same_seed_gives_the_same_model_and_leaves_torch_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again, other = ARAE.fit(CORPUS, **SMALL), ARAE.fit(CORPUS, **SMALL, seed=1)
    again.sample(3, "sample"), again.encode(CORPUS)
    assert torch.equal(torch.get_rng_state(), before) and same(again, model) and again.history == model.history and not same(other, model)
    assert model.sample(9, "sample", seed=3) == again.sample(9, "sample", seed=3) != model.sample(9, "sample", seed=4)


def test_an_interrupt_keeps_the_best_so_far(monkeypatch):
    iterate = use.iterate

    def interrupted(p, t, at=11):
        if t == at:
            raise KeyboardInterrupt
        return iterate(p, t)
    monkeypatch.setattr(use.Watch, "turn", staticmethod(interrupted))
    with pytest.warns(UserWarning, match="Interrupted at step 11"):
        model = ARAE.fit(CORPUS, **SMALL)
    assert [r["step"] for r in model.history] == [2, 4, 6, 8, 10] and len(model.sample(2)) == 2
    monkeypatch.setattr(use.Watch, "turn", staticmethod(lambda p, t: interrupted(p, t, 1)))
    with pytest.raises(KeyboardInterrupt):
        ARAE.fit(CORPUS, **SMALL)


def test_minutes_end_a_fit():
    model = ARAE.fit(CORPUS, **SMALL | dict(steps=None), minutes=0.0)
    assert [r["step"] for r in model.history] == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_loaded_it_is_the_same(dtype, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ARAE.fit([*CORPUS, ""], **SMALL, dtype=dtype, lower=False)
    for _ in range(2):
        read = ARAE.load(model.save(tmp_path / "new" / "model"), device="cpu")
    assert same(read, model) and read.encode(CORPUS).dtype == dtype and repr(read) == repr(model)
    assert (read.config, read.regime, read.vocabulary, read.history, read.skipped) == (model.config, model.regime, model.vocabulary, model.history, model.skipped)
    assert read.sample(5, "sample") == model.sample(5, "sample") and sorted(p.name for p in (tmp_path / "new").rglob("*")) == ["config.json", "model", "model.safetensors"]


@pytest.mark.parametrize("name", files.FILES)
def test_a_flipped_byte_or_a_missing_file_is_noticed(name, saved):
    path, errors = saved / name, (DataDamaged, ValueError)
    good = path.read_bytes()
    for place in range(0, len(good), len(good) // 40):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        with pytest.raises(errors, match="damaged|not of a saved ARAE|another format"):
            ARAE.load(saved)
    for cut in (b"", good[:-7]):
        path.write_bytes(cut)
        with pytest.raises(DataDamaged, match=name):
            ARAE.load(saved)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        ARAE.load(saved)


def test_files_of_others_are_neither_read_nor_replaced(model, saved, tmp_path, monkeypatch):
    for text in ("[]", "{}", '{"format": "thesis_ebm ARAE 9"}', '{"format": "thesis_ebm ARAE 1"}'):
        other = shutil.copytree(saved, tmp_path / "other", dirs_exist_ok=True)
        (other / "config.json").write_text(text)
        with pytest.raises((ValueError, DataDamaged)):
            ARAE.load(other)
    about = json.loads((saved / "config.json").read_text())
    assert about["version"] == files.__version__ and len(about["sha256"]) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("years of work")
    for folder in (tmp_path / "mine", tmp_path / "mine" / "thesis.doc"):
        with pytest.raises(FileExistsError, match="thesis.doc"):
            model.save(folder)
    assert (tmp_path / "mine" / "thesis.doc").read_text() == "years of work"
    monkeypatch.setattr(files, "write_json", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="free some space"):
        model.save(saved)
    assert same(ARAE.load(saved), model) and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
