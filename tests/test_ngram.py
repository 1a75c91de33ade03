"The n-gram model against the recursion written with dictionaries, against kenlm's reader, and against damage."
import math
from collections import Counter, defaultdict
import numpy as np
import pytest
import torch
from conftest import ROOT
from thesis_ebm.data.catalog import DataDamaged, DataMissing
from thesis_ebm.data.tokens import EOS, SIGNS, SOS, UNK, Vocabulary, encode, tokens_of
from thesis_ebm.lab.files import DiskError
from thesis_ebm.metrics.language_model import perplexity
from thesis_ebm.metrics.ngram import NGram, discounts, next_sign


def sentences(seed: int, n: int, words: int = 9, longest: int = 8) -> list[str]:
    "Random text in which some words follow others more often than not."
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        s = [int(rng.zipf(1.5)) % words]
        for _ in range(int(rng.integers(longest))):
            s.append((2 * s[-1] + 1) % words if rng.random() < 0.6 else int(rng.zipf(1.5)) % words)
        found.append(" ".join(f"w{i}" for i in s))
    return found


class ByDefinition:
    "Interpolated modified Kneser-Ney of tuples of words, one probability at a time."
    def __init__(self, text: list[list[str]], order: int, vocabulary: set[str]):
        once = [Counter(tuple(s[i:i + k]) for s in text for i in range(len(s) - k + 1)) for k in range(1, order + 1)]
        self.a = [Counter({g: sum(1 for b in once[k + 1] if b[1:] == g) or c for g, c in once[k].items()}) if k + 1 < order else once[k] for k in range(order)]
        del self.a[0][("<sos>",)]
        self.order, self.V = order, vocabulary
        self.D = [self.discount(a) for a in self.a]
        self.after = [defaultdict(list) for _ in range(order)]
        for k, a in enumerate(self.a):
            for g, c in a.items():
                self.after[k][g[:-1]].append(c)

    @staticmethod
    def discount(a):
        t = [sum(1 for c in a.values() if c == j) for j in range(5)]
        if not all(t[1:4]):
            return (0, 0.5, 1, 1.5)
        Y = t[1] / (t[1] + 2 * t[2])
        D = (0, *(j - (j + 1) * Y * t[j + 1] / t[j] for j in (1, 2, 3)))
        return D if all(0 < d <= j for j, d in list(enumerate(D))[1:]) else (0, 0.5, 1, 1.5)

    def p(self, word, context) -> float:
        k = len(context)
        lower = self.p(word, context[1:]) if k else 1 / len(self.V)
        counts = self.after[k].get(context)
        if not counts:
            return lower
        D, c = self.D[k], self.a[k].get((*context, word), 0)
        return (c - D[min(c, 3)] + sum(D[min(x, 3)] for x in counts) * lower) / sum(counts)


@pytest.mark.parametrize("order,size", [(1, 60), (2, 60), (3, 200), (4, 400), (5, 400), (3, 4)])
def test_every_probability_is_that_of_the_definition(order, size):
    "Seen and unseen sentences, with unknown words; large enough that the discounts are estimated, and so small that they are not."
    text = [*sentences(order, size), "w0 <unk> w1", "<unk> w2 never-in-the-vocabulary"]
    vocabulary = Vocabulary(SIGNS + tuple(f"w{i}" for i in range(11))) # w9 and w10 do not occur
    tokens = encode(text, vocabulary)
    model = NGram.fit(tokens, order)
    name = vocabulary.words.__getitem__
    rows = [[name(i) for i in r[:n + 1]] for r, n in zip(tokens.ids.tolist(), tokens.lengths.tolist())]
    truth = ByDefinition(rows, order, set(vocabulary.words) - {"<pad>", "<sos>"})
    fresh = encode([*text[:20], *sentences(99, 40, 11), "w9 w10", "what is this"], vocabulary)
    expected = [-math.log(truth.p(s[t], tuple(s[max(0, t - order + 1):t]))) for r, n in zip(fresh.ids.tolist(), fresh.lengths.tolist())
                for s in [[name(i) for i in r[:n + 1]]] for t in range(1, n + 1)]
    assert torch.allclose(model.word_nll(fresh), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
    assert torch.allclose(model.sentence_nll(fresh), torch.stack([x.sum() for x in model.word_nll(fresh).split(fresh.lengths.tolist())]))
    if size == 400:
        assert discounts(np.array(list(truth.a[-1].values()))).tolist() != [0, 0.5, 1, 1.5]


def test_kenlms_own_trainer_gives_the_same_model():
    "lmplz.arpa: sixty sentences, then the model of order 3 that kenlm's lmplz (0.3.0, --discount_fallback) made of them."
    path = ROOT / "tests" / "lmplz.arpa"
    text = path.read_text().split("\n\n")[0].splitlines()
    theirs = NGram.load_arpa(path)
    ours = NGram.fit(encode(text, theirs.vocabulary), 3)
    assert len(text) == 60 and all(np.array_equal(a, b) for a, b in zip(ours.keys, theirs.keys))
    for part in ("log_p", "log_gamma"):
        for a, b in zip(getattr(ours, part), getattr(theirs, part)):
            assert np.allclose(a, b, rtol=0, atol=2e-6) # single precision


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_kenlm_reads_the_same_probabilities(order, tmp_path, capfd):
    kenlm = pytest.importorskip("kenlm", reason="ufal-kenlm is not installed; install the extra `text`")
    text = sentences(1, 500, 40)
    tokens = encode(text, Vocabulary.of(text, size=30))
    model = NGram.fit(tokens, order)
    reader = kenlm.Model(str(model.save_arpa(tmp_path / "m.arpa"))) if order > 1 else None # kenlm refuses models of order 1
    if order == 1:
        model.save_arpa(tmp_path / "m.arpa")
    fresh_text = [*text[:50], *sentences(2, 100, 60), "w1 x x w2"]
    fresh = encode(fresh_text, tokens.vocabulary)
    again = NGram.load_arpa(tmp_path / "m.arpa")
    assert torch.allclose(again.sentence_nll(fresh), model.sentence_nll(fresh), rtol=1e-6)
    if order > 1:
        ours = model.word_nll(fresh).numpy() / math.log(10)
        assert np.abs(ours + [p for s in fresh_text for p, _, _ in reader.full_scores(s)]).max() < 1e-5
        assert abs(math.log(perplexity(model.sentence_nll(fresh), fresh)) + sum(map(reader.score, fresh_text)) * math.log(10) / fresh.words) < 1e-5


def test_empty_sentences_and_sums():
    "A summary may end at once; after anything, all that can come has probability 1."
    text = sentences(3, 200)
    tokens = encode(text, Vocabulary.of(text))
    model = NGram.fit(tokens)
    assert model.order == 3
    empty = tokens_of(torch.tensor([[EOS, 0, 0], [4, EOS, 0]]), tokens.vocabulary)
    assert math.isclose(model.sentence_nll(empty)[0], -math.log(next_sign(model, [SOS])[EOS]))
    for context in ([], [SOS], [EOS], [UNK, UNK], [SOS, 5, UNK], [4, 5, 6, 7]):
        p = next_sign(model, context)
        assert abs(p.sum() - 1) < 1e-12 and p[:EOS].tolist() == [0, 0] and p[EOS:].min() > 0


def test_order_of_sentences_and_padding_change_nothing():
    text = sentences(4, 300)
    tokens = encode(text, Vocabulary.of(text))
    mixed = tokens.take(torch.randperm(300, generator=torch.Generator().manual_seed(0)))
    wide = encode([*text, " ".join(["w0"] * 25)], tokens.vocabulary).take(slice(0, 300))
    model = NGram.fit(tokens)
    for other in (mixed, wide):
        fitted = NGram.fit(other)
        assert all(np.array_equal(a, b) for part in ("keys", "log_p", "log_gamma") for a, b in zip(getattr(model, part), getattr(fitted, part)))
    assert torch.equal(model.sentence_nll(wide), model.sentence_nll(tokens))


def test_what_cannot_be_is_said_in_one_sentence(tmp_path):
    short = encode(["a", "b"], Vocabulary.of("ab"))
    for order, words in ((0, "choose 1 to 5"), (6, "choose 1 to 5"), (4, "no sentence has 4 signs")):
        with pytest.raises(ValueError, match=words):
            NGram.fit(short, order)
    model = NGram.fit(short, 3)
    with pytest.raises(ValueError, match="another vocabulary"):
        model.sentence_nll(encode(["a"], Vocabulary.of("a")))
    with pytest.raises(ValueError, match="</s> is a word of this vocabulary"):
        NGram.fit(encode(["a </s>"], Vocabulary.of(["a </s>"])), 2).save_arpa(tmp_path / "x.arpa")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataMissing, match="There is no file"):
        NGram.load_arpa(tmp_path / "x.arpa")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="Cannot write"):
        model.save_arpa(tmp_path / "file" / "x.arpa")


def test_a_damaged_file_is_refused_and_another_programs_is_read(tmp_path):
    text = sentences(5, 50)
    path = NGram.fit(encode(text, Vocabulary.of(text))).save_arpa(tmp_path / "m.arpa")
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    trigram = next(i for i, x in enumerate(lines) if "3-grams" in x) + 1
    bigram = next(i for i, x in enumerate(lines) if "2-grams" in x) + 1
    for damaged, words in (("".join(lines[:trigram + 3]), "were announced"), (whole.replace("\\end\\", ""), "no line"), ("", "no line"), (whole.replace("ngram 2=", "ngram 7="), "announces"),
                           ("".join([*lines[:trigram], lines[trigram + 1], *lines[trigram + 1:]]), "comes twice"),
                           ("".join([*lines[:trigram], "much" + lines[trigram], *lines[trigram + 1:]]), "could not convert"),
                           ("".join([*lines[:bigram], "-1\tw0 nobody\t0\n", *lines[bigram + 1:]]), "not among its words")):
        path.write_text(damaged)
        with pytest.raises(DataDamaged, match="m.arpa is not a whole ARPA file.*" + words):
            NGram.load_arpa(path)
    path.write_text("made by hand\n\n\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-99 <s> -0.30103\n-0.6\t</s>\n-0.3\ta\t-0.2\n-1\tb\n\n\\2-grams:\n-0.1\t<s> a\n-0.2\ta </s>\n\n\\end\\\n")
    other = NGram.load_arpa(path)
    fresh = encode(["a", "b a", "zebra"], other.vocabulary)
    assert other.vocabulary.words[4:] == ("a", "b")
    assert np.allclose(other.sentence_nll(fresh) / -math.log(10), [-0.1 - 0.2, -0.30103 - 1 - 0.3 - 0.2, -0.30103 - 100 - 0.6])


def test_writing_that_is_cut_off_leaves_what_was_there(tmp_path, monkeypatch):
    text = sentences(6, 50)
    model = NGram.fit(encode(text, Vocabulary.of(text)))
    before = model.save_arpa(tmp_path / "m.arpa").read_bytes()
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match="free some space"):
        model.save_arpa(tmp_path / "m.arpa")
    assert [p.name for p in tmp_path.iterdir()] == ["m.arpa"] and (tmp_path / "m.arpa").read_bytes() == before
