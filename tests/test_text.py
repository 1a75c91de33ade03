"Texts: every layout, every kind of bad input, splits that share no sentence, stand-ins that are called so."
import csv
import gzip
import io
import json
import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path
import pytest
from thesis_ebm.data import docstrings
from thesis_ebm.data.catalog import TEXTS, DataDamaged, DataMissing, find, look
from thesis_ebm.data.grammar import Caption, draw, parse
from thesis_ebm.data.text import NLI, SPLITS, load, tokenise
from thesis_ebm.lab.artifact import full_caption, same_data


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def all_splits(name: str, source: str = "auto", **options) -> list:
    "The three splits, which share no sentence and have no empty one."
    parts = [load(name, s, source, **options) for s in SPLITS]
    sets = [set(p.sentences) for p in parts]
    assert sum(map(len, sets)) == len(set.union(*sets)) and all(s == " ".join(s.split()) != "" for p in parts for s in p.sentences)
    assert len({p.fingerprint for p in parts}) == 3 and all(p.provenance["n"] == len(p) and p.provenance["split"] == s for p, s in zip(parts, SPLITS))
    return parts


def own(n: int = 100) -> str:
    return "".join(f"Line number {i} isn't long.\n" for i in range(n))


def test_a_text_of_ones_own_packed_or_not_is_the_same(data, tmp_path):
    plain, packed = put(tmp_path / "a.txt", own() + "\n\nWord\nword\n"), put(tmp_path / "b.txt.gz", own() + "\n\nWord\nword\n")
    for a, b in zip(all_splits(str(plain)), all_splits(str(packed))):
        assert a.fingerprint == b.fingerprint and a.provenance["sha256"] != "" and a.provenance["skipped"] == {"empty": 2, "twice": 1} and a.labels is None
        assert str(tmp_path) not in a.provenance["description"] and a.provenance["source"] == "own" and not a.provenance["stand_in"] and same_data(a.provenance)
    assert sum(len(load(str(plain), s)) for s in SPLITS) == 101 and "line number 0 is n't long ." in {x for s in SPLITS for x in load(str(plain), s).sentences}
    put(tmp_path / "c.tok", own())
    assert "Line number 0 isn't long." in {x for s in SPLITS for x in load(str(tmp_path / "c.tok"), s).sentences}, "what is tokenised is only split at blanks"
    assert any("Line" in x for x in load(str(plain), lower=False).sentences) and len(load(str(plain), limit=3)) == 3
    put(plain, own(99))
    assert not same_data(a.provenance | {"requested": str(plain)}), "another content"


@pytest.mark.parametrize("content, error, words", [
    (b"", DataMissing, "no sentence in its split train .left out: none"), (b"\n \n\t\n", DataMissing, "left out: 3 empty"), (b"one\n" * 20, DataMissing, "no sentence.*19 twice"),
    (own().encode() + b"caf\xe9\n", DataDamaged, "my.txt, line 101, is not UTF-8.*unreadable=\"skip\""), ("two words\n".encode("utf-16"), DataDamaged, "line 1, is not UTF-8")])
def test_bad_texts_are_refused_in_a_sentence(data, tmp_path, content, error, words):
    with pytest.raises(error, match=words) as e:
        all_splits(str(put(tmp_path / "my.txt", content)))
    assert "\n" not in str(e.value) and "my.txt" in str(e.value)


def test_what_is_not_a_text(data, tmp_path):
    with pytest.raises(DataDamaged, match="cut.txt.gz.*cannot be unpacked"):
        path = put(tmp_path / "cut.txt.gz", own())
        path.write_bytes(path.read_bytes()[:-20])
        load(str(path))
    with pytest.raises(DataDamaged, match="x.gz.*cannot be unpacked"):
        (tmp_path / "x.gz").write_bytes(b"not gzip")
        load(str(tmp_path / "x.gz"))
    with pytest.raises(DataMissing, match="There is no data set, file or folder.*nowhere.txt"):
        load(str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match="Did you mean 'snli'"):
        load("snly")
    with pytest.raises(ValueError, match="Unknown split 'tset'.*Did you mean 'test'"):
        load("grammar", "tset")
    with pytest.raises(ValueError, match="Unknown option of yelp 'field'"):
        load("yelp", field="titles")
    text = load(str(put(tmp_path / "some.txt", own().encode() + b"caf\xe9\n")), unreadable="skip")
    assert text.provenance["skipped"] == {"not UTF-8": 1}


def make_snli(data: Path, layout: str, n: int = 60) -> None:
    "The same pairs in one of three layouts."
    fields, rows = ("gold_label", "sentence1", "sentence2"), {}
    for part in ("train", "dev", "test"):
        rows[part] = [("-" if i % 10 == 9 else NLI[i % 3], f"a {part} man no {i // 3} sleeps", f"someone sleeps {i} {part}") for i in range(n)]
    for part, pairs in rows.items():
        if layout == "jsonl":
            put(data / "snli_1.0" / f"snli_1.0_{part}.jsonl", "".join(json.dumps(dict(zip(fields, p), pairID="1")) + "\n" for p in pairs))
        elif layout == "txt":
            put(data / "snli_1.0" / f"snli_1.0_{part}.txt", "".join("\t".join((*p, "x")) + "\n" for p in [fields, *pairs]))
        else:
            put(data / "snli" / f"{part}.txt.gz", "".join(f"{p}\t{h}\t{NLI.index(y)}\n" for y, p, h in pairs if y != "-"))


@pytest.mark.parametrize("layout", ["jsonl", "txt", "tsv"])
def test_snli_in_each_of_its_layouts(data, layout):
    make_snli(data, layout)
    train, valid, test = all_splits("snli-pairs", "full")
    assert [len(x) for x in (train, valid, test)] == [54] * 3 and train.names == NLI and train.labels.bincount().tolist() == [18] * 3
    assert all(NLI.index(NLI[int(b.split()[2]) % 3]) == y for b, y in zip(train.second, train.labels.tolist())), "each label with its pair"
    assert "without" not in train.provenance["description"] and train.provenance["skipped"] == ({} if layout == "tsv" else {"without agreement on the label": 18})
    sentences = all_splits("snli", "full")
    assert [len(x) for x in sentences] == [74 if layout == "tsv" else 80] * 3 and sentences[0].labels is None
    for part in data.rglob("*train*"):
        part.unlink()
    train, valid, test = all_splits("snli-pairs", "full")
    assert "without its training part" in train.provenance["description"] and len(train) > len(valid) + len(test) > 0
    next(data.rglob("*dev*")).unlink()
    with pytest.raises(DataMissing, match="snli: no dev part lies beside.*nlp.stanford.edu"):
        load("snli")


@pytest.mark.parametrize("name, content, words", [("snli_1.0/snli_1.0_dev.jsonl", '{"sentence1": "a"}\n', "line 1 .*is no pair"), ("snli/dev.txt", "a man\tsomeone\tmaybe\n", "label 'maybe'"),
                                                  ("snli/dev.txt", "a man\tsomeone\n", "line 1 .*is no pair")])
def test_damaged_pairs_are_named(data, name, content, words):
    for part in ("dev", "test"):
        put(data / name.replace("dev", part), content)
    with pytest.raises(DataDamaged, match=words):
        load("snli-pairs")


def test_yelp_with_and_without_its_training_files(data):
    for part, n in (("train", 40), ("dev", 30), ("test", 20)):
        for y in (0, 1):
            put(data / "yelp" / f"sentiment.{part}.{y}{'.gz' * (part == 'dev')}", "".join(f"the {('bad', 'good')[y]} {part} food {i} .\n" for i in range(n)) + "ok .\n")
    train, valid, test = all_splits("yelp")
    assert [len(x) for x in (train, valid, test)] == [80, 60, 42] and train.names == ("negative", "positive")
    assert all(("good" in s) == y for p in (train, valid) for s, y in zip(p.sentences, p.labels.tolist())) and train.provenance["skipped"] == {"also in a later split": 4}
    assert len(set(train.labels[:20].tolist())) == 2 and len(train.of("positive")) == 40, "classes are mixed"
    for path in (data / "yelp").glob("*train*"):
        path.unlink()
    train, valid, test = all_splits("yelp")
    assert len(train) == 40 and len(valid) + len(test) in (60, 61, 62) and {s.split()[2] for s in train.sentences} == {"test"}
    assert "its test part is train, its dev part is valid and test" in train.provenance["description"]
    put(data / "yelp" / "sentiment.test.1x", "a\n")
    with pytest.raises(DataDamaged, match="should end in .0"):
        load("yelp")


def test_yahoo_titles_and_replies_of_three_topics(data):
    for part, n in (("train", 200), ("test", 50)):
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows((i % 10 + 1, f"What's {part} question {i}?", "more, \\n text", f'Well, "it" is {part} {i}.<br />\\nAnother line. And so on.') for i in range(n))
        put(data / "yahoo_answers_csv" / f"{part}.csv", out.getvalue())
    train, valid, test = all_splits("yahoo")
    assert len(train) + len(valid) == 60 and len(test) == 15 and train.names == ("science", "music", "politics") and test.labels.bincount().tolist() == [5] * 3
    assert all(s.startswith("what 's train question") and [1, 7, 9][y] == int(s.split()[4]) % 10 for s, y in zip(train.sentences, train.labels.tolist()))
    replies = load("yahoo", "test", field="replies")
    assert all(s.startswith('well , " it " is test') and s.endswith(".") and "another" not in s for s in replies.sentences) and "replies" in replies.provenance["description"]
    with pytest.raises(ValueError, match="Unknown field 'title'.*Did you mean 'titles'"):
        load("yahoo", field="title")
    put(data / "yahoo_answers_csv" / "train.csv", '"1","a","b","c"\n"1","a"\n')
    with pytest.raises(DataDamaged, match="train.csv, row 2, has 2 fields"):
        load("yahoo")


def test_captions_in_both_layouts(data):
    for k in (1, 2):
        put(data / "flickr30k-captions" / f"train.{k}.en.gz", "".join(f"A dog, no. {i}, in view {k}.\n" for i in range(30)))
        put(data / "flickr30k-captions" / f"val.{k}.en.gz", "".join(f"A cat, no. {i}, in view {k}.\n" for i in range(9)))
    train, valid, test = all_splits("captions")
    assert [len(x) for x in (train, valid, test)] == [60, 10, 8] and "a dog , no . 3 , in view 1 ." in train.sentences and "half by half" in train.provenance["description"]
    put(data / "flickr30k" / "results_20130124.token", "".join(f"{i}.jpg#{k}\tA man no {i} in view {k} .\n" for i in range(100) for k in range(5)))
    train, valid, test = all_splits("captions")
    photographs = [{s.split()[3] for s in x.sentences} for x in (train, valid, test)]
    assert sum(map(len, photographs)) == 100 == len(set.union(*photographs)) and len(train) + len(valid) + len(test) == 500, "a photograph stays on one side"


def test_news_and_its_categories(data):
    path = put(data / "news" / "news_category_v3.jsonl.gz", "".join(json.dumps(dict(headline=f"It's News No. {i}", category=("SCIENCE", "ARTS")[i % 2], text="")) + "\n" for i in range(300)))
    train, valid, test = all_splits("news-topics")
    assert len(train) + len(valid) + len(test) == 300 and train.names == ("ARTS", "SCIENCE") and all(int(s.split()[-1]) % 2 != y for s, y in zip(train.sentences, train.labels.tolist()))
    put(path, '{"headline": "a", "category": "B"}\n[]\n')
    with pytest.raises(DataDamaged, match="line 2 .*is no headline"):
        load("news-topics")


STAND_INS = dict(snli="docstrings", captions="docstrings", yelp="grammar-reviews", yahoo="") | {"snli-pairs": "grammar-pairs", "news-topics": ""}


def test_stand_ins_are_called_so_and_full_refuses_them(data):
    assert set(STAND_INS) | {"docstrings", "docstrings-pairs", "grammar", "grammar-reviews", "grammar-pairs"} == {d.name for d in TEXTS}
    for name, instead in STAND_INS.items():
        text = load(name, limit=100)
        assert text.provenance["stand_in"] and text.provenance["source"] == "embedded" and ("docstrings" in text.provenance["description"] or "synthetic" in text.provenance["description"])
        assert same_data(text.provenance) and "a stand-in for the full data set" in full_caption(type("A", (), dict(caption="X.")), [text.provenance])
        with pytest.raises(DataMissing, match=f"{name}.* in full is not on this machine.*It is not downloaded for you"):
            load(name, source="full")
        if instead:
            assert load(instead, source="full", limit=100).fingerprint == text.fingerprint and not load(instead).provenance["stand_in"]
    assert len(load("yahoo").names) == 3 and len(load("news-topics").names) > 5 and load("snli").labels is None and load("yelp").names == ("negative", "positive")


def test_embedded_texts_have_splits_that_share_nothing(data):
    for name in ("docstrings", "docstrings-pairs", "grammar", "grammar-reviews", "grammar-pairs", "yahoo"):
        train, valid, test = all_splits(name, "embedded")
        assert len(train) > 5 * max(len(valid), len(test)) > 0 and look(name).source == "embedded" and same_data(train.provenance)
        assert max(Counter(train.sentences).values()) == 1 or train.second


def test_docstrings_are_plain_english(data):
    text = load("docstrings")
    assert len(text) > 5000 and all(3 <= len(s.split()) - 1 <= 20 for s in text.sentences) and all(s == tokenise(s) for s in text.sentences)
    assert not [s for s in text.sentences if any(c in s for c in "_=<>`\\{}[]()*|~^#@$")], "no code, no markup"
    assert "numpy 2" in text.provenance["description"] or "numpy 1" in text.provenance["description"]


def test_two_processes_harvest_once(data, tmp_path, monkeypatch):
    def slow():
        (tmp_path / f"made by {os.getpid()}").touch()
        time.sleep(0.5)
        return {"mlxtend": [list(pair) for pair in docstrings.harvest("mlxtend")]}
    monkeypatch.setattr(docstrings, "harvest_all", slow)
    path = tmp_path / "cache" / "x.json"
    with multiprocessing.get_context("fork").Pool(3) as pool:
        got = pool.map(docstrings.keep, [path] * 3, chunksize=1)
    assert got[0] == got[1] == got[2] == docstrings.kept(path) and len(got[0]["mlxtend"]) > 50
    assert len(list(tmp_path.glob("made by *"))) == 1 and [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == ["x.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"sha256": "0", "harvest": {"numpy": [["evil words .", ""]]}}', b"\xff\xfe"])
def test_a_damaged_cache_is_made_again(data, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(docstrings, "harvest_all", lambda: {"numpy": [["good words here .", ""]]})
    path = put(tmp_path / "x.json", damage)
    assert docstrings.keep(path) == docstrings.kept(path) == {"numpy": [["good words here .", ""]]}


def test_the_grammar_is_read_back_and_drawn_again():
    drawn = draw(3000, seed=3)
    assert drawn == draw(3000, seed=3) and len({str(c) for c in drawn}) > 2500
    for c in drawn:
        found = parse(str(c))
        assert (found.subject, found.verb, found.modifier, found.plural) == (c.subject, c.verb, c.modifier, c.plural), str(c)
    assert parse("people standing") == Caption("person", "standing", "the", plural=True)


def test_the_command_line_knows_them(call, data):
    told = call("thesis-ebm", "data", "check", "snli", "grammar", "yelp", extra=dict(THESIS_EBM_DATA=str(data)))
    assert told.returncode == 0 and "docstrings of installed packages" in told.stdout and "synthetic" in told.stdout
    got = call("thesis-ebm", "data", "get", "yahoo", extra=dict(THESIS_EBM_DATA=str(data)))
    assert got.returncode == 1 and "yahoo_answers_csv/train.csv" in got.stderr and "Traceback" not in got.stderr
    put(data / "yelp" / "sentiment.dev.0.gz", b"ok .\n")
    (data / "yelp" / "sentiment.dev.0.gz").write_bytes(b"bad")
    told = call("thesis-ebm", "data", "check", "yelp", extra=dict(THESIS_EBM_DATA=str(data)))
    assert told.returncode == 1 and "sentiment.dev.0.gz is damaged" in told.stdout


REAL = {"snli": ("full", 20_000, None), "snli-pairs": ("full", 15_000, 3), "yelp": ("full", 100_000, 2), "captions": ("full", 140_000, None), "news-topics": ("full", 160_000, 42)}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_texts(real_data, monkeypatch, name):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look(name, "full") is None:
        pytest.skip(f"$THESIS_EBM_DATA has no {name}")
    source, least, classes = REAL[name]
    parts = all_splits(name, source)
    assert len(parts[0]) > least and min(len(p) for p in parts) > 1500 and not parts[0].provenance["stand_in"] and same_data(parts[0].provenance)
    assert (parts[0].labels is None) == (classes is None) and (not classes or len(parts[0].names) == classes == len(parts[0].labels.unique()))
    assert find(name).source == "folder"
