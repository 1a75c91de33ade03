"Chapter 7's word vectors: their layouts, every kind of bad file, a stand-in that is called so."
import gzip
import re
from pathlib import Path
import numpy as np
import pytest
import torch
from thesis_ebm.data import vectors as made_here
from thesis_ebm.data.catalog import VECTORS, DataDamaged, DataMissing, find, load, look
from thesis_ebm.data.tokens import PAD, SIGNS, UNK, Vocabulary
from thesis_ebm.data.vectors import Vectors, cooccurrences, factorised, ppmi, read_vectors, vectors
from thesis_ebm.lab.artifact import full_caption, same_data

GOOD = "the 0.5 -1.25 3\ndog 1e-2 7 -0.125\n"


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_each_form_of_the_text_format_reads_alike(tmp_path):
    plain = read_vectors(put(tmp_path / "a.txt", GOOD))
    assert plain.words == ("the", "dog") and torch.equal(plain.matrix, torch.tensor([[0.5, -1.25, 3], [0.01, 7, -0.125]])) and plain.matrix.dtype == torch.float32
    forms = {"b.txt.gz": GOOD, "c.vec": "2 3\n" + GOOD, "d.vec.gz": "2 3 \n" + GOOD.replace("\n", " \n"), "e.txt": GOOD.replace("\n", "\r\n"), "f": GOOD.strip(), "g.txt": "\ufeff" + GOOD, "h.tsv": GOOD.replace(" ", "\t"), "i.txt": "\n" + GOOD + "\n\n"}
    for name, content in forms.items():
        assert read_vectors(put(tmp_path / name, content)).fingerprint == plain.fingerprint == vectors(str(tmp_path / name)).fingerprint, name
    assert len({plain.fingerprint, *(read_vectors(put(tmp_path / "j.txt", GOOD.replace(*change))).fingerprint for change in (("dog", "cat"), ("7", "8")))}) == 3


def test_what_no_vocabulary_can_have_is_counted(tmp_path):
    v = read_vectors(put(tmp_path / "a.txt", GOOD + "the 9 9 9\n. . . 1 2 3\nat name@domain.com 1 2 3\n\u00a0 4 5 6\n\u0085 1 1 1\nthe 8 8 8\n"))
    assert v.words == ("the", "dog", "\u00a0", "\u0085") and v.matrix[0, 0] == 0.5 and v.provenance["skipped"] == {"twice": 2, "with a blank in the word": 2}
    assert len(read_vectors(tmp_path / "a.txt", limit=1)) == 1


@pytest.mark.parametrize("content, words", [
    ("", "is empty"), ("\n \n", "is empty"), (GOOD + "cat 1 2\n", "line 3, has 2 numbers after its word, but line 1 has 3"), (GOOD + "cat 1 2 3 4\n", "line 3, has 4 numbers after its word, but line 1 has 3"),
    (GOOD + "\ncat\n", "line 4, has 0 numbers"), ("the\n", "line 1, has no number for a word"), (GOOD + "cat 1 two 3\n", "line 3: 'two' is no number"), (GOOD + "cat 1 nan 3\n", "line 3: 'nan' is no number"),
    (GOOD + "cat 1 1e99 3\n", "line 3: '1e99' is no number that float32 can hold"), (GOOD + "cat 1,0 2,0 3,0\n", "line 3: '1,0' is no number"), ("2 4\n" + GOOD, "line 2, has 3 numbers after its word, but its first line says 4"),
    ("3 3\n" + GOOD, "has 2 words, but its first line says 3"), ("1 3\n" + GOOD, "has 2 words, but its first line says 1"), ("0 3\n", "has no word with a vector"), ("2 0\n" + GOOD, "line 1, has no number for a word"),
    (GOOD.encode() + b"caf\xe9 1 2 3\n", "line 3, is not UTF-8"), ("\n".join(f"w{i} {'1 ' * 5}" for i in range(9000)) + "\nlast 1 1 x 1 1", "line 9001: 'x' is no number"), ("\n".join(f"w{i} 1 2" for i in range(9000)) + "\nlast 1", "line 9001, has 1 number after its word, but line 1 has 2")])
def test_a_bad_file_is_named_with_its_line(tmp_path, content, words):
    path = put(tmp_path / "bad.txt", content)
    for read in (read_vectors, lambda p: vectors(str(p))):
        with pytest.raises(DataDamaged, match=re.escape(words)) as e:
            read(path)
        assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_a_packed_file_cut_short(tmp_path):
    path = put(tmp_path / "a.txt.gz", GOOD * 500)
    for cut in (path.read_bytes()[:-9], b"no gzip"):
        path.write_bytes(cut)
        with pytest.raises(DataDamaged, match="a.txt.gz cannot be unpacked to its end"):
            vectors(str(path))


def test_rows_of_a_vocabulary():
    v = Vectors(("dog", "the", "<pad>", "<unk>"), torch.tensor([[1., 2], [3, 4], [5, 6], [7, 0]]))
    E, known = v.of(vocabulary := Vocabulary.of(["the the dog barks"]))
    assert E.shape == (len(vocabulary), 2) and E.dtype == torch.float32 and known.tolist() == [w in ("the", "dog", "<unk>") for w in vocabulary.words]
    assert E[PAD].tolist() == [0, 0] and E[UNK].tolist() == [7, 0] and E[vocabulary.index["dog"]].tolist() == [1, 2] and E[vocabulary.index["barks"]].tolist() == [4, 3]
    scaled, same = v.of(vocabulary, scale=0.3)
    assert torch.equal(same, known) and torch.allclose(scaled[known].square().mean().sqrt(), torch.tensor(0.3)) and torch.allclose(scaled / scaled[5, 0], E / E[5, 0])
    with pytest.raises(ValueError, match="None of the 5 words.*lower case"):
        Vectors(("Chien",), torch.ones(1, 2), {}).of(Vocabulary(SIGNS + ("dog",)))


@pytest.mark.parametrize("place", ["glove/glove.6B.50d.txt", "glove/glove.6B.50d.100k.txt.gz", "glove.6B/glove.6B.300d.txt", "glove.840B.300d.txt.gz", "GloVe/mine.txt", "glove/crawl.vec"])
def test_glove_in_each_of_its_layouts(data, place):
    path = put(data / place, GOOD)
    v = load("glove", source="full")
    p = v.provenance
    assert v.words == ("the", "dog") and p["name"] == "glove" and p["source"] == "folder" and not p["stand_in"] and p["n"] == 2 and path.name in p["description"] and same_data(p)
    assert vectors().fingerprint == vectors("glove", "full").fingerprint == v.fingerprint and len(load("glove", limit=1)) == 1
    put(path, GOOD.replace("7", "8"))
    assert not same_data(p) and vectors("glove").fingerprint != v.fingerprint, "other bytes are read anew"
    with pytest.raises(ValueError, match="Unknown split 'test'"):
        load("glove", "test")


def test_of_several_files_the_largest_known_one_or_none(data):
    put(data / "glove" / "glove.6B.50d.txt", GOOD)
    put(data / "glove" / "glove.6B.300d.txt", "a 1 2\n")
    assert vectors().words == ("a",)
    for name in ("x.txt", "y.txt"):
        put(data / "GloVe" / name, GOOD)
    (data / "glove" / "glove.6B.50d.txt").unlink(), (data / "glove" / "glove.6B.300d.txt").unlink()
    with pytest.raises(DataMissing, match="glove: .*x.txt or y.txt: keep one"):
        vectors()


def test_what_is_no_file_of_vectors(data, tmp_path):
    with pytest.raises(DataMissing, match="There is no data set, file or folder 'nowhere.txt'"):
        vectors("nowhere.txt")
    with pytest.raises(DataMissing, match="is a folder: name the file"):
        vectors(str(tmp_path))
    with pytest.raises(ValueError, match="'mnist' is no word vectors: choose glove, counted-vectors, or the path"):
        vectors("mnist")
    with pytest.raises(DataMissing, match="glove.* in full is not on this machine.*It is not downloaded for you.*glove.840B.300d.txt lies"):
        vectors("glove", "full")


def test_a_file_of_the_readers(env, tmp_path):
    v = vectors(str(put(tmp_path / "mine.vec", "2 3\n" + GOOD)))
    assert v.provenance["source"] == "own" and v.provenance["description"] == "2 word vectors, 3 numbers each, of the reader's own (mine.vec)" and same_data(v.provenance)
    put(tmp_path / "mine.vec", GOOD + "cat 1 1 1\n")
    assert len(vectors(str(tmp_path / "mine.vec"))) == 3


TEXTS = ["the red dog sees the man .", "the blue dog sees the woman .", "a red cat hears the woman .", "a blue cat hears a man ."] * 3


def test_the_stand_in(data, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(made_here, "WIDTH", 4)
    monkeypatch.setattr(made_here, "texts", lambda: calls.append(1) or TEXTS)
    monkeypatch.setattr(made_here, "read_settings", lambda: type("S", (), dict(raw=tmp_path / "raw")))
    v = made_here.read_glove(find("glove"))
    assert v.matrix.shape == (11, 4) and v.provenance["stand_in"] and look("glove").source == "embedded" and {d.name for d in VECTORS} == {"glove", "counted-vectors"}
    assert "a stand-in for the full data set" in full_caption(type("A", (), dict(caption="X.")), [v.provenance]) and "synthetic" in v.provenance["description"]
    (kept,) = (tmp_path / "raw" / "counted-vectors").glob("*.txt.gz")
    content = kept.read_bytes()
    assert made_here.read_glove(find("glove")).fingerprint == v.fingerprint and len(calls) == 1 and len(made_here.read_glove(find("glove"), limit=3)) == 3
    for damage in (content[:-20], b"", content[:60] + bytes([content[60] ^ 1]) + content[61:]):
        kept.write_bytes(damage)
        assert made_here.read_glove(find("glove")).fingerprint == v.fingerprint and kept.read_bytes() == content
    assert len(calls) == 4 and torch.isclose(v.matrix.square().mean().sqrt(), torch.tensor(made_here.SIZE)), "damaged, it is made again, bit by bit the same"


def test_counts_against_the_plain_loop():
    index = {w: i for i, w in enumerate(sorted({w for t in TEXTS for w in t.split()} - {"sees"}))}
    c, want = cooccurrences(TEXTS, index), np.zeros((len(index), len(index)))
    for words in map(str.split, TEXTS):
        for i, a in enumerate(words):
            for j, b in enumerate(words):
                if 0 < abs(i - j) <= 5 and "sees" not in (a, b):
                    want[index[a], index[b]] += 1 / abs(i - j)
    q = want.sum(0) ** 0.75 / (want.sum(0) ** 0.75).sum()
    with np.errstate(divide="ignore"):
        m = np.log(want / want.sum(1, keepdims=True) / q).clip(0)
    assert np.allclose(c.toarray(), want) and np.allclose(ppmi(c).toarray(), m)
    E = factorised(ppmi(c), 3)
    assert np.allclose((E**2).sum(0), np.linalg.svd(m)[1][:3]) and (np.take_along_axis(E, abs(E).argmax(0)[None], 0) > 0).all()


@pytest.mark.realdata
def test_real_vectors(real_data, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look("glove", "full") is None:
        pytest.skip("$THESIS_EBM_DATA has no glove")
    v = vectors("glove", "full")
    vocabulary = Vocabulary.of(["king queen banana qqqq"])
    E, known = v.of(vocabulary)
    king, queen, banana, unknown = (E[vocabulary.index[w]] for w in ("king", "queen", "banana", "qqqq"))
    assert known.sum() == 3 and torch.allclose(unknown, v.matrix.mean(0)) and not v.provenance["stand_in"]
    assert torch.cosine_similarity(king, queen, 0) > 0.5 > torch.cosine_similarity(king, banana, 0)
