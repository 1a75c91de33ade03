"ROUGE-L against the library, on headlines; said in one sentence when the library is missing; fast enough to be called in training."
import sys
import time
from importlib.metadata import version
import numpy as np
import pytest
from thesis_ebm.metrics.rouge import ROUGE, rouge_l, rouge_signature

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed; install the extra `text`")
HEADLINES = ("u.s. stocks fall # percent", "bosnian serbs free ### prisoners", "ec demands equal rights to oil exploration", "euro-zone inflation at #.# percent",
             "finland routs czech republic at world cup", "dole 's lead narrows in #### poll", "consumer confidence hits ##-year low : survey")


def changed(rng, sentence: str) -> str:
    "A sentence with some words lost, doubled or in another place."
    words = sentence.split()
    picked = rng.integers(len(words), size=rng.integers(1, len(words) + 3))
    return " ".join(words[i] for i in (np.sort(picked) if rng.random() < 0.5 else picked))


def test_headlines_score_as_by_the_library_with_words_kept():
    "By the library with a tokeniser of blanks; its own tokeniser gives other numbers on the same pairs."
    class Blanks:
        def tokenize(self, text):
            return text.split()
    rng = np.random.default_rng(0)
    references = [HEADLINES[i] for i in rng.integers(len(HEADLINES), size=300)]
    summaries = references[:1] + [changed(rng, r) for r in references[1:]]
    ours = rouge_l(summaries, references)
    by = [np.array([s.score(r, z)["rougeL"].fmeasure for z, r in zip(summaries, references)])
          for s in (rouge_scorer.RougeScorer(["rougeL"], tokenizer=Blanks()), rouge_scorer.RougeScorer(["rougeL"]))]
    assert ours.dtype == np.float64 and ours.shape == (300,) and 0 < ours.min() and ours.max() == 1
    assert np.array_equal(ours, by[0]) and abs(ours.mean() - by[1].mean()) > 1e-3


def test_unknown_words_are_worth_nothing_and_cost_length():
    assert rouge_l(["<unk> a", "<unk> a", "UNK a", "unk a"], ["<unk> a", "b a", "UNK a", "unk a"]).tolist() == [0.5, 0.5, 0.5, 1.0]
    assert rouge_l(["<unk>", "<unk> <unk>"], ["<unk>", "a"]).tolist() == [0, 0]
    assert rouge_l(["a"], ["a b"])[0] == rouge_l(["a <unk>"], ["a"])[0] < 1


def test_what_is_missing_is_named():
    for summaries, references, words in ((["a"], [], "1 summaries cannot be compared with 0 references"), (["a", "b", "c"], ["a", "", "c"], "Reference 2 of 3 is empty"),
                                         ([""], ["\t"], "Reference 1 of 1 is empty")):
        with pytest.raises(ValueError, match=words):
            rouge_l(summaries, references)
    assert rouge_l(("", "  "), iter(("a b", "c"))).tolist() == [0, 0]


def test_twelve_hundred_headlines_take_less_than_a_second():
    rng = np.random.default_rng(1)
    words = np.array([f"w{i}" for i in range(500)])
    pairs = [" ".join(rng.choice(words, n)) for n in (15, 10) for _ in range(1200)]
    start = time.monotonic()
    rouge_l(pairs[:1200], pairs[1200:])
    assert time.monotonic() - start < 1


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    assert rouge_signature() == f"{ROUGE}|rouge-score:{version('rouge-score')}"
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(ImportError, match=r"rouge-score.*pip install 'thesis-ebm\[text\]'"):
        rouge_l(["a"], ["a"])
