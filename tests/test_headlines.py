"Headlines: every layout, titles that training cannot reach, every kind of bad line, stand-ins that are called so."
import gzip
import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
import pytest
from thesis_ebm.data import text
from thesis_ebm.data.catalog import HEADLINED, DataDamaged, DataMissing, find, load, look
from thesis_ebm.data.headlines import Articles, Pairs, normalised
from thesis_ebm.data.images import SPLITS
from thesis_ebm.data.text import Text
from thesis_ebm.lab.artifact import full_caption, same_data

NAMES = ("gigaword", "news", "reuters", "headlines")


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def lines(what: str, part: str, n: int) -> str:
    return "".join(f"the {what} of {part} no {word(i)} is here\n" for i in range(n))


def word(i: int) -> str:
    "A word for a number: digits would become one and the same sign."
    return "".join(chr(97 + int(d)) for d in str(i))


def put_pairs(data: Path, part: str, n: int, article: str, title: str) -> None:
    put(data / article, lines("article", part, n))
    put(data / title, lines("title", part, n))


def whole(name: str, source: str = "auto") -> tuple[list, list]:
    "Articles and pairs, then the unpaired headlines; what must hold of every copy."
    train, *pairs = (load(name, s, source) for s in SPLITS)
    titles = [load(f"{name}-titles", s, source) for s in SPLITS]
    assert type(train) is Articles and all(type(p) is Pairs for p in pairs) and all(type(t) is Text for t in titles)
    sides = [set(train.texts), *(set(p.articles) for p in pairs)]
    assert sum(map(len, sides)) == len(set.union(*sides)), "no article is on two sides"
    alone, held = [set(t.sentences) for t in titles], {t for p in pairs for t in p.titles}
    assert sum(map(len, alone)) == len(set.union(*alone)) == len(set.union(*alone) - held), "no headline is on two sides"
    everything = [*train.texts, *(x for p in pairs for side in (p.articles, p.titles) for x in side), *set.union(*alone)]
    assert all(x and x == normalised(x, tokenised=True) for x in everything)
    for x, s in zip((train, *pairs, *titles), SPLITS * 2):
        assert x.provenance["split"] == s and x.provenance["n"] == len(x) and same_data(x.provenance) and f"{len(x):,}" in x.provenance["description"]
    return [train, *pairs], titles


LAYOUTS = {"sumdata": ("sumdata/train/{}.article.txt", "sumdata/train/{}.title.txt", dict(train="train", valid="valid", test="test")),
           "filter": ("gigaword/{}.article.filter.txt.gz", "gigaword/{}.title.filter.txt.gz", dict(train="train", valid="valid", test="test")),
           "src": ("gigaword/train/{}.src.txt", "gigaword/train/{}.tgt.txt", dict(train="train", valid="dev", test="test")),
           "mixed": ("gigaword/{}.source.50K.txt", "gigaword/{}.headline.50K.txt.gz", dict(train="train", valid="val", test="giga"))}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gigaword_in_each_of_its_layouts(data, layout):
    article, title, parts = LAYOUTS[layout]
    for (split, part), n in zip(parts.items(), (200, 30, 20)):
        put_pairs(data, split, n, article.format(part), title.format(part))
    (train, valid, test), titles = whole("gigaword", "full")
    assert (len(train), len(valid), len(test)) == (200, 30, 20) and sum(map(len, titles)) == 200 and "kept aside" not in train.provenance["description"]
    assert all(t == a.replace("article", "title") for p in (valid, test) for a, t in zip(p.articles, p.titles)), "each article with its title"
    assert all("article of train" in x for x in train.texts) and all("title of train" in x for t in titles for x in t.sentences)
    order = {f"the article of train no {word(i)} is here": i for i in range(200)}
    alone = [order[t.replace("title", "article")] for t in titles[0].sentences]
    assert alone != sorted(alone) and alone != [i for i in map(order.get, train.texts) if i in set(alone)], "neither the file's order nor that of the articles"


def test_the_test_files_of_rush_and_others(data):
    put_pairs(data, "train", 50, "sumdata/train/train.article.txt", "sumdata/train/train.title.txt")
    put_pairs(data, "valid", 20, "sumdata/train/valid.article.filter.txt", "sumdata/train/valid.title.filter.txt")
    put_pairs(data, "test", 10, "sumdata/Giga/input.txt", "sumdata/Giga/task1_ref0.txt")
    put(data / "sumdata" / "DUC2004" / "input.txt", "not read\n")
    (train, valid, test), _ = whole("gigaword")
    assert (len(train), len(valid), len(test)) == (50, 20, 10) and set(test.articles) == set(lines("article", "test", 10).splitlines())


def test_a_sample_has_its_parts_made(data):
    "Pairs of one part, and articles without titles."
    put_pairs(data, "valid", 400, "gigaword/valid.article.filter.4K.txt.gz", "gigaword/valid.title.filter.4K.txt.gz")
    put(data / "gigaword" / "valid.src.small.txt.gz", lines("source", "valid", 100) + lines("article", "valid", 7))
    (train, valid, test), titles = whole("gigaword", "full")
    assert len(train) == 100 and train.provenance["skipped"] == {"also among the pairs": 7}
    aside = sum(map(len, titles))
    assert 70 < aside < 130 and len(valid) + len(test) == 400 - aside and 0.15 < len(valid) / (400 - aside) < 0.35
    kept = {t.replace("title", "article") for part in titles for t in part.sentences}
    assert not kept & {*train.texts, *valid.articles, *test.articles}, "an article kept aside is used nowhere"
    for words in ("without its training part: its articles without titles are train", "a quarter of its pairs is kept aside", "valid and test, one to three"):
        assert words in test.provenance["description"]
    put(data / "gigaword" / "train.article.txt", lines("article", "train", 60))
    (train, *_), _ = whole("gigaword")
    assert len(train) == 60 and "without its training part" not in train.provenance["description"], "a train file of articles alone is enough"


def test_training_never_decodes_the_titles(data, monkeypatch):
    put_pairs(data, "train", 30, "gigaword/train.article.txt", "gigaword/train.title.txt")
    put_pairs(data, "valid", 30, "gigaword/valid.article.txt", "gigaword/valid.title.txt")
    for part in ("train", "valid"):
        put(data / "gigaword" / f"{part}.title.txt", b"\xff\xfe not UTF-8\n" * 30)
    opened, read = [], text.read_lines
    monkeypatch.setattr("thesis_ebm.data.headlines.read_lines", lambda path, **options: opened.append(path.name) or read(path, **options))
    train = load("gigaword")
    assert len(train) == 30 and set(opened) == {"train.article.txt", "valid.article.txt"}
    for name, split, file in (("gigaword", "valid", "valid"), ("gigaword-titles", "train", "train")):
        with pytest.raises(DataDamaged, match=f"{file}.title.txt, line 1, is not UTF-8"):
            load(name, split)


def test_training_data_have_no_place_for_titles(data):
    assert {f.name for f in fields(Articles)} == {"texts", "provenance"} and {f.name for f in fields(Pairs)} == {"articles", "titles", "provenance"}
    for name in NAMES:
        train = load(name, "train", limit=50)
        assert type(train) is Articles and len(train) == 50 and not [a for a in dir(train) if "title" in a or a in ("second", "pairs")]
        with pytest.raises(FrozenInstanceError):
            train.titles = ("a",)
        for split in ("valid", "test"):
            assert type(load(name, split, limit=5)) is Pairs and len(load(name, split, limit=5)) == 5
    with pytest.raises(ValueError, match="2 articles and 1 titles"):
        Pairs(("a", "b"), ("a",))


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("change, words", [(lambda b: b + b"\n", "31 lines, but .* has 30"), (lambda b: b.partition(b"\n")[2], "29 lines, but .* has 30"), (lambda b: b"", "0 lines, but .* has 30")])
def test_a_title_file_of_another_length_is_refused_for_every_split(data, part, change, words):
    for p in SPLITS:
        put_pairs(data, p, 30, f"gigaword/{p}.article.txt", f"gigaword/{p}.title.txt")
    path = data / "gigaword" / f"{part}.title.txt"
    path.write_bytes(change(path.read_bytes()))
    for name, split in [("gigaword", s) for s in SPLITS] + [("gigaword-titles", "train")]:
        with pytest.raises(DataDamaged, match=f"{part}.title.txt has {words}") as e:
            load(name, split)
        assert f"{part}.article.txt" in str(e.value) and "\n" not in str(e.value)


def test_bad_lines_shift_no_title(data):
    articles = ["first article .", "", "second article .", "third article .", "word", "<unk> UNK unk", "Fourth  1 article .", " \t", "word ."]
    titles = ["first", "x", "", "third", "one word", "nothing known", "fourth 22", "", "a word"]
    for end, name in (("\n", "valid"), ("\r\n", "test")):
        put(data / f"gigaword/{name}.article.txt", "\ufeff" + end.join(a.replace("article", name) for a in articles) + end)
        put(data / f"gigaword/{name}.title.txt", "\ufeff" + end.join(titles))
    put(data / "gigaword/train.article.txt", "\n".join(["word .", "word", "", "two words", "TWO  WORDS", "<unk> UNK unk", "UNK UNK", "in 1999 , 3.5 pct"]) + "\n")
    put(data / "gigaword/train.title.txt", "\n".join("abcdefgh") + "\n")
    valid, test, train = load("gigaword", "valid"), load("gigaword", "test"), load("gigaword")
    assert dict(zip(valid.articles, valid.titles)) == {"first valid .": "first", "third valid .": "third", "fourth # valid .": "fourth ##"}
    assert dict(zip(test.articles, test.titles)) == {"first test .": "first", "third test .": "third", "fourth # test .": "fourth ##", "word": "one word", "word .": "a word", "<unk> <unk> <unk>": "nothing known"}
    assert test.provenance["skipped"] == {"without an article or a title": 6, "also in a later split": 3}
    assert set(train.texts) == {"two words", "<unk> <unk>", "in #### , #.# pct"}
    assert train.provenance["skipped"] == {"of one word": 2, "empty": 1, "twice": 1, "also among the pairs": 1}


def test_files_that_cannot_be_read_are_named(data):
    put_pairs(data, "valid", 30, "gigaword/valid.article.txt", "gigaword/valid.title.txt")
    put_pairs(data, "train", 30, "gigaword/train.article.txt", "gigaword/train.title.txt")
    for part in ("train", "valid"):
        good = (data / f"gigaword/{part}.article.txt").read_bytes()
        put(data / f"gigaword/{part}.article.txt", b"good\ncaf\xe9\n" + b"good\n" * 28)
        with pytest.raises(DataDamaged, match=f"{part}.article.txt, line 2, is not UTF-8.*convert the file.$"):
            load("gigaword", part)
        put(data / f"gigaword/{part}.article.txt", good)
    put(data / "gigaword/train.article.txt.gz", b"")
    with pytest.raises(DataMissing, match="train.article.txt and .*train.article.txt.gz would be the same part: keep one"):
        load("gigaword")
    (data / "gigaword/train.article.txt").unlink()
    (data / "gigaword/train.article.txt.gz").write_bytes(b"not packed")
    with pytest.raises(DataDamaged, match="train.article.txt.gz cannot be unpacked"):
        load("gigaword")


def test_what_is_missing_is_asked_for(data):
    put_pairs(data, "valid", 40, "gigaword/valid.article.txt", "gigaword/valid.title.txt")
    assert len(load("gigaword", "test")) > 10
    with pytest.raises(DataMissing, match="gigaword: there are no articles in its split train .left out: none.. It is not downloaded"):
        load("gigaword")
    (data / "gigaword/valid.article.txt").unlink()
    with pytest.raises(DataMissing, match="no article file beside .*valid.title.txt"):
        load("gigaword", "valid")
    put(data / "gigaword/valid.article.txt", "\n" * 40)
    with pytest.raises(DataMissing, match="no pairs in its split valid .left out: 40 without an article or a title"):
        load("gigaword", "valid")
    for name, split, words in (("gigaword", "tset", "Did you mean 'test'"), ("gigawords", "train", "Did you mean 'gigaword'")):
        with pytest.raises(ValueError, match=words):
            load(name, split)


def test_news_texts_and_headlines(data):
    put(data / "news" / "news_category_v3.jsonl.gz", "".join(json.dumps(dict(headline=f"News {word(i)}, at 5", category="A", text=f"Long text {word(i)}. It's 12!" * (i % 50 > 0))) + "\n" for i in range(400)) + "\n")
    (train, valid, test), titles = whole("news", "full")
    gone = (train.provenance["skipped"].get("empty", 0), valid.provenance["skipped"].get("without an article or a title", 0))
    assert len(train) + len(valid) + len(test) == 392 and sum(gone) == 8, "the empty text falls into one split"
    assert all(a == f"long text {t.split()[1]} . it 's ## !" and t.endswith(", at #") for p in (valid, test) for a, t in zip(p.articles, p.titles))
    assert len(load("news-topics").names) == 1 and load("news-topics").sentences[0].endswith("5"), "with its digits, for chapter 4"


def test_reuters_first_sentences_and_titles(data):
    def story(i, split="TRAIN", title="OIL <OIL.O> UP, 3 SAY {}", body="The U.S. oil of {}\nwas up, J. Smith <JS> of <Oil\nCorp> said. More later.\n    No more.\n Reuter"):
        return json.dumps(dict(id=i, split=split, topics=[], title=title.format(word(i).upper()), body=body.format(word(i).capitalize()))) + "\n"
    text = "".join(story(i) for i in range(200)) + "".join(story(i, "TEST") for i in range(200, 240)) + story(240, "NOT-USED")
    text += story(241, body="Shr 17 cts vs {}\n     Net 2.1 mln") + story(242, body="****") + story(243, title="*****{}") + story(244, "TEST", body="")
    path = put(data / "reuters" / "reuters21578.jsonl", text)
    (train, valid, test), titles = whole("reuters", "full")
    assert len(train) + len(valid) == 200 and len(valid) > 2 and len(test) == 40 and sum(map(len, titles)) == len(train)
    assert all(a == f"the u.s. oil of {t.split()[-1]} was up , j . smith of oil corp said ." and t.startswith("oil up , # say") for a, t in zip(test.articles, test.titles))
    assert test.provenance["skipped"] == {"in no part": 1, "without a first sentence": 3, "without a title": 1}
    for line, words in (('{"id": 1}', "KeyError"), ("[", "JSONDecodeError"), ("[]", "TypeError"), ('{"split": 1, "title": "", "body": ""}', "no text")):
        put(path, text + line + "\n")
        for name in ("reuters", "reuters-titles"):
            with pytest.raises(DataDamaged, match=f"reuters21578.jsonl, line 246, is no object with split, title, body .*{words}"):
                load(name)


def test_stand_ins_are_called_so_and_full_refuses_them(data):
    (train, valid, test), titles = whole("headlines", "full")
    assert not train.provenance["stand_in"] and {d.name for d in HEADLINED} == {n + e for n in NAMES for e in ("", "-titles")}
    for name in NAMES[:3]:
        for split, own in zip(SPLITS, (train, valid, test)):
            stand_in = load(name, split)
            assert stand_in.fingerprint == own.fingerprint and stand_in.provenance["stand_in"] and stand_in.provenance["source"] == "embedded"
        assert "a stand-in for the full data set" in full_caption(type("A", (), dict(caption="X.")), [stand_in.provenance])
        assert load(f"{name}-titles", "test").fingerprint == titles[2].fingerprint
        for each in (name, f"{name}-titles"):
            with pytest.raises(DataMissing, match=f"{each}.* in full is not on this machine.*It is not downloaded for you"):
                load(each, source="full")


def test_docstrings_make_a_headline_task(data):
    train, valid, test = (load("headlines", s) for s in SPLITS)
    assert len(train) > 8000 and (len(valid), len(test)) == (400, 1200) and sum(len(load("headlines-titles", s)) for s in SPLITS) > 10_000
    assert all(8 <= len(a.split()) - 1 <= 60 and a.endswith(" .") for a in (*train.texts, *valid.articles, *test.articles))
    assert all(3 <= len(t.split()) - 1 <= 20 for p in (valid, test) for t in p.titles)
    assert not [x for x in (*train.texts, *test.articles) if any(c in x for c in "_=<>\\{}[]()*|~^@$")], "no code, no markup"
    found = sum(w in a.split() for a, t in zip(test.articles, test.titles) for w in t.split()[:-1]) / sum(len(t.split()) - 1 for t in test.titles)
    assert found > 0.3, "a headline says what its article says"


def test_words_as_the_thesis_has_them():
    assert normalised("UNK said: Don't pay $1,250 (or 3.5%) in 2009!") == "<unk> said : do n't pay $ #,### ( or #.# % ) in #### !"
    assert normalised("It 's  UNK-like , unk 12th", tokenised=True) == "it 's unk-like , <unk> ##th" and normalised("") == normalised(" ", True) == ""
    for x in ("a #-# win , up #.## pct", "<unk> <unk> ##th", "u.s. don't #,###"):
        assert normalised(normalised(x)) == normalised(x)


def test_the_command_line_knows_them(call, data):
    here = dict(THESIS_EBM_DATA=str(data))
    told = call("thesis-ebm", "data", "check", "gigaword", "headlines", extra=here)
    assert told.returncode == 0 and "stands in for Gigaword, first sentences and headlines" in told.stdout
    got = call("thesis-ebm", "data", "get", "gigaword", extra=here)
    assert got.returncode == 1 and "gigaword/train.article.txt" in got.stderr and "Traceback" not in got.stderr
    put(data / "gigaword/valid.article.txt", "a\nb\n")
    put(data / "gigaword/valid.title.txt", "a\n")
    told = call("thesis-ebm", "data", "check", "gigaword", extra=here)
    assert told.returncode == 1 and "valid.title.txt has 1 lines, but" in told.stdout


REAL = dict(gigaword=(13_000, 700, 2_000, 950), news=(160_000, 9_000, 9_000, 160_000), reuters=(9_500, 500, 4_000, 9_000))


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_headlines(real_data, monkeypatch, name):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look(name, "full") is None:
        pytest.skip(f"$THESIS_EBM_DATA has no {name}")
    parts, titles = whole(name, "full")
    assert all(n <= len(x) for n, x in zip(REAL[name], (*parts, [t for part in titles for t in part.sentences]))) and find(name).source == "folder"
    assert not any(p.provenance["stand_in"] for p in (*parts, *titles)) and 15 < sum(len(a.split()) for a in parts[0].texts) / len(parts[0]) < 40
    if name == "gigaword":
        pairs = {t: a for p in parts[1:] for a, t in zip(p.articles, p.titles)}
        assert sum(a.startswith(t.split()[0]) for t, a in pairs.items()) > 500, "a title beside its article"
