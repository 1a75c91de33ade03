"Chapter 7's data: questions on paragraphs in SQuAD's layout, every kind of bad file, splits that share nothing, stand-ins that are called so."
import gzip
import io
import json
import tarfile
from pathlib import Path
import pytest
from thesis_ebm.data.catalog import ASKED, CLASSIFIED, PRETRAINED_ON, DataDamaged, DataMissing, find, fingerprint, look
from thesis_ebm.data.reading import Questions, load
from thesis_ebm.data.grammar import GENRES
from thesis_ebm.data.text import NLI, SENTIMENT, SPLITS, Text, tokenise
from thesis_ebm.lab.artifact import full_caption, same_data


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def qa(id: str, question: str, *answers: tuple[str, int], **more) -> dict:
    return dict(id=id, question=question, answers=[dict(text=text, answer_start=at) for text, at in answers], **more)


def squad(part: str, n: int) -> dict:
    "n articles of two paragraphs of two questions each."
    def paragraph(i, j):
        text = f"In the {part} town no. {i}, a Dog’s owner sleeps {j} times."
        at = text.index("Dog")
        return dict(context=text, qas=[qa(f"{part}{i}-{j}a", "Who's asleep?", ("a Dog’s owner", at - 2), ("owner", at + 6)), qa(f"{part}{i}-{j}b", "How often?", (f"{j} times", text.index(f"{j} times")))])
    return dict(version="1.1", data=[dict(title=f"{part}_{i}", paragraphs=[paragraph(i, j) for j in range(2)]) for i in range(n)])


def all_splits(name: str, source: str = "auto") -> list[Questions]:
    "The three splits; what must hold of every copy."
    parts = [load(name, s, source) for s in SPLITS]
    sides = [set(p.raw) for p in parts]
    assert sum(map(len, sides)) == len(set.union(*sides)) and len({p.fingerprint for p in parts}) == 3, "no paragraph is on two sides"
    for p, split in zip(parts, SPLITS):
        assert p.provenance["n"] == len(p) == len(p.questions) == len(p.answers) == len(p.ids) and p.provenance["split"] == split and same_data(p.provenance)
        assert f"{len(p):,} questions" in p.provenance["description"] and (p.spans[:, 0] <= p.spans[:, 1]).all() and len(set(p.raw)) == len(p.raw)
        for context, raw, places in zip(p.contexts[:50], p.raw, p.offsets):
            assert context == tokenise(raw) and [tokenise(raw[a:b]) for a, b in places.tolist()] == context.split()
        for i in range(0, len(p), 1 + len(p) // 50):
            assert p.answers[i][0] in p.text_of(i, *p.spans[i].tolist()) and p.spans[i, 1] < len(p.offsets[p.context_of[i]])
    return parts


@pytest.mark.parametrize("folder, ending, version", [("squad", ".json", "1.1"), ("SQuAD", ".json.gz", "1.1"), ("squad", ".json.gz", "2.0")])
def test_squad_with_its_training_part(data, folder, ending, version):
    put(data / folder / f"train-v{version}{ending}", json.dumps(squad("train", 20)))
    put(data / folder / f"dev-v{version}{ending}", json.dumps(squad("dev", 5)))
    train, valid, test = all_splits("squad", "full")
    assert [len(x) for x in (train, valid, test)] == [72, 8, 20] and all("the dev town" in raw for raw in test.raw) and "without" not in train.provenance["description"]
    assert not {r.split(",")[0] for r in train.raw} & {r.split(",")[0] for r in valid.raw} and find("squad").source == "folder", "an article is on one side"
    i = next(i for i, q in enumerate(test.questions) if q == "who 's asleep ?")
    assert test.answers[i] == ("a Dog’s owner", "owner") and test.text_of(i, *test.spans[i].tolist()) == "a Dog’s owner"
    assert len(load("squad", "train", limit=7)) == 7 and load("squad", "train", limit=7).ids == train.ids[:7]


def test_squad_without_its_training_part(data):
    put(data / "squad" / "dev-v1.1.json", json.dumps(squad("dev", 20)))
    train, valid, test = all_splits("squad")
    assert [len(x) for x in (train, valid, test)] == [64, 8, 8] and "without its training part: 80, 10 and 10% of the articles" in train.provenance["description"]
    put(data / "squad" / "dev-v1.1.json", json.dumps(squad("dev", 2)))
    with pytest.raises(DataMissing, match="dev-v1.1.json: 2 different ones cannot be parted in 3: at least 3"):
        load("squad")
    put(data / "squad" / "train-v1.1.json", json.dumps(squad("train", 4)))
    assert [len(x) for x in all_splits("squad")] == [12, 4, 8]
    (data / "squad" / "dev-v1.1.json").unlink()
    with pytest.raises(DataMissing, match="squad: no dev part lies beside.*rajpurkar"):
        load("squad")


def test_what_cannot_be_asked_is_counted(data):
    content = squad("dev", 3)
    bad = [qa("1", "Where?", ("cats", 0)), qa("2", "Where?", ("A", 4)), qa("3", "Where?", ("A dog", -5)), qa("4", "Where?", ("A", 400)), qa("5", " ", ("A", 0)), qa("6", "Why?"), qa("7", "Why?", ("A", 0), is_impossible=True),
           qa("8", "Why?", ("", 0)), qa("9", "Who is good?", ("A dog", 0), ("the dog", 0)), qa("10", "What?", ("lack d", 8)), qa("10", "What?", ("A", 0))]
    for article in content["data"]:
        article["paragraphs"] += [dict(context=f"A dog, black dog of {article['title']}.", qas=[{**q, "id": article["title"] + q["id"]} for q in bad]), dict(context=" \n", qas=[qa(article["title"], "Why?", ("A", 0))])]
    put(data / "squad" / "dev-v1.1.json", json.dumps(content))
    for part in all_splits("squad"):
        assert part.provenance["skipped"] == {"answer not in its paragraph": 5, "empty": 1, "unanswerable": 2, "with an empty answer": 1, "twice": 1, "on an empty paragraph": 1}
        i = next(i for i, a in enumerate(part.answers) if a == ("lack d",))
        assert part.text_of(i, *part.spans[i].tolist()) == "black dog", "the words that cover it" and len(part) == 5
        assert len(part.within(10, 30)) < len(part) == 5 == len(part.within(30, 30)) and "on a paragraph longer than 10 words" in part.within(10, 30).provenance["skipped"]
    for article in content["data"]:
        article["paragraphs"] = article["paragraphs"][3:]
    put(data / "squad" / "dev-v1.1.json", json.dumps(content))
    with pytest.raises(DataMissing, match="no questions in its split train .left out: 1 on an empty paragraph"):
        load("squad")


@pytest.mark.parametrize("content, words", [
    (b"", "is no JSON"), (b'{"data": [', "is no JSON"), (b'{"data": "caf\xe9"}', "is no JSON"), ("[]", "the whole has no list 'data'"), ('{"version": "1.1"}', "the whole has no list 'data'"),
    ('{"data": [{"paragraphs": []}]}', "article 1 has no text 'title'"), ('{"data": [{"title": "a"}]}', "article 1 has no list 'paragraphs'"), ('{"data": [{"title": "a", "paragraphs": [{"qas": []}]}]}', "paragraph 1 of article 1 has no text 'context'"),
    ('{"data": [{"title": "a", "paragraphs": [{"context": "b"}]}]}', "no list 'qas'"), ('{"data": [{"title": "a", "paragraphs": [{"context": "b", "qas": [{"id": "1", "question": "c"}]}]}]}', "no list 'answers'"),
    ('{"data": [{"title": "a", "paragraphs": [{"context": "b", "qas": [{"id": "1", "question": "c", "answers": [{"text": "b", "answer_start": "0"}]}]}]}]}', "question '1', an answer of it, has no whole number 'answer_start'")])
def test_a_file_of_another_shape_is_named(data, content, words):
    path = put(data / "squad" / "dev-v1.1.json", content)
    with pytest.raises(DataDamaged, match=words) as e:
        load("squad", "test")
    assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_a_file_cut_short(data):
    path = put(data / "squad" / "dev-v1.1.json.gz", json.dumps(squad("dev", 5)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataDamaged, match="dev-v1.1.json.gz.*unpacked"):
        load("squad")


def test_the_stand_in_is_called_so(data):
    train, valid, test = all_splits("grammar-questions")
    assert len(train) > 9_000 and min(len(valid), len(test)) > 400 and not test.provenance["stand_in"] and "synthetic" in test.provenance["description"] and {d.name for d in ASKED} == {"squad", "grammar-questions"}
    assert all(f" {c} ".count(f" {a[0]} ") == 1 for c, a in zip([test.contexts[p] for p in test.context_of], test.answers)), "each answer comes once"
    stand_in = load("squad", "test")
    assert stand_in.fingerprint == test.fingerprint and stand_in.provenance["stand_in"] and look("squad").source == "embedded"
    assert "a stand-in for the full data set" in full_caption(type("A", (), dict(caption="X.")), [stand_in.provenance])
    with pytest.raises(DataMissing, match="squad.* in full is not on this machine.*It is not downloaded for you"):
        load("squad", source="full")
    with pytest.raises(ValueError, match="Unknown split 'dev'"):
        load("squad", "dev")


def texts(name: str, source: str = "auto", splits=SPLITS) -> list[Text]:
    "The splits of a labelled text; what must hold of every copy."
    parts = [load(name, s, source) for s in splits]
    assert sum(len(set(p.sentences)) for p in parts) == len({s for p in parts for s in p.sentences}) and all(len(p.labels) == len(p) == p.provenance["n"] for p in parts)
    assert all(s == " ".join(s.split()) != "" for p in parts for s in p.sentences[:200]) and all(same_data(p.provenance) for p in parts)
    return parts


def review(part: str, sign: str, i: int) -> str:
    return f"It's a {part} film, no. {i}:<br /><br>I felt {sign}."


def put_imdb(folder: Path, n: int) -> None:
    for part in ("train", "test"):
        for sign in ("neg", "pos"):
            for i in range(n):
                put(folder / part / sign / f"{i}_{i % 10}.txt", review(part, sign, i))
    put(folder / "train" / "unsup" / "0_0.txt", "not read")
    put(folder / "train" / "pos" / "._0_0.txt", b"\xff")
    put(folder / "README", "not read")


def pack(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:" + {".gz": "gz", ".tgz": "gz", ".xz": "xz", ".tar": ""}[archive.suffix]) as t:
        t.add(folder, "aclImdb")
        for name, kind in (("aclImdb/test/pos/link.txt", tarfile.SYMTYPE), ("../test/neg/up.md", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0_0.txt"
            t.addfile(member, io.BytesIO(b""))
    return archive


@pytest.mark.parametrize("place", ["imdb/aclImdb", "aclImdb", "imdb", "imdb/aclImdb_v1.tar.gz", "aclImdb_v1.tar.gz", "imdb/aclImdb-labelled.tar.xz", "imdb/aclImdb.tgz", "imdb/aclImdb.tar"])
def test_imdb_in_each_of_its_layouts(data, tmp_path, place):
    if "." in place:
        put_imdb(tmp_path / "unpacked", 30)
        pack(tmp_path / "unpacked", data / place)
    else:
        put_imdb(data / place, 30)
    before = {p for p in tmp_path.rglob("*")}
    train, valid, test = texts("imdb", "full")
    assert [len(x) for x in (train, valid, test)] == [54, 6, 60] and train.names == SENTIMENT and train.second is None and "90 and 10%" in train.provenance["description"]
    for part in (train, valid, test):
        assert all(s == tokenise(review("test" if part is test else "train", ("neg", "pos")[y], int(s.split()[8])).replace("<br />", " ").replace("<br>", " ")) for s, y in zip(part.sentences, part.labels.tolist()))
    assert {p for p in tmp_path.rglob("*")} == before, "nothing was unpacked to disk"


def test_imdb_that_is_not_whole(data, tmp_path):
    put_imdb(data / "imdb" / "aclImdb", 5)
    known = fingerprint(find("imdb"))
    path = put(data / "imdb" / "aclImdb" / "test" / "neg" / "9_9.txt", b"caf\xe9")
    assert fingerprint(find("imdb")) != known, "another file, another hash"
    with pytest.raises(DataDamaged, match="aclImdb: aclImdb/test/neg/9_9.txt is not UTF-8"):
        load("imdb")
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(DataMissing, match="aclImdb has no test/neg/.*stanford"):
        load("imdb")
    cut = pack(data / "imdb" / "aclImdb", tmp_path / "data2" / "imdb" / "aclImdb.tar.xz").read_bytes()
    for content in (cut[:-50], cut[:200], b"no archive", b""):
        (data / "imdb" / "aclImdb").exists() and (data / "imdb" / "aclImdb").rename(tmp_path / "away")
        put(data / "imdb" / "aclImdb.tar.xz", content)
        with pytest.raises(DataDamaged, match="aclImdb.tar.xz cannot be unpacked to its end"):
            load("imdb")


def test_sst(data):
    for part, n in (("train", 40), ("dev", 10), ("test", 20)):
        put(data / "sst" / f"stsa.binary.{part}{'.gz' * (part == 'dev')}", "".join(f"{i % 2} a {('bad', 'good')[i % 2]} {part} film , no {i} .\n" for i in range(n)) + "\n")
    put(data / "sst" / "stsa.fine.train", "4 not read\n")
    put(data / "sst" / "stsa.binary.phrases.train", "1 not read\n")
    train, valid, test = texts("sst", "full")
    assert [len(x) for x in (train, valid, test)] == [40, 10, 20] and train.names == SENTIMENT and train.provenance["skipped"] == {"empty": 3}
    assert all(("good" in s) == y and s.startswith("a ") for p in (train, valid, test) for s, y in zip(p.sentences, p.labels.tolist()))
    put(data / "sst" / "stsa.binary.dev.gz", "1 a film\n2 a film\n")
    with pytest.raises(DataDamaged, match="stsa.binary.dev.gz, line 2 .*the label '2'"):
        load("sst")
    (data / "sst" / "stsa.binary.dev.gz").unlink()
    with pytest.raises(DataMissing, match="sst: no dev part lies beside.*stsa.binary.train"):
        load("sst")


def put_mnli(folder: Path, ending: str, parts=("train", "dev_matched", "dev_mismatched")) -> None:
    fields = ("gold_label", "sentence1_binary_parse", "sentence1", "sentence2", "genre")
    for part in parts:
        rows = [("-" if i % 10 == 9 else NLI[i % 3], "( a", f"A {part} premise, no. {i // 3}.", f"It's {i}.", "fiction") for i in range(60)]
        lines = [json.dumps(dict(zip(fields, r))) for r in rows] if "json" in ending else ["\t".join(r) for r in (fields, *rows)]
        put(folder / f"multinli_1.0_{part}.{ending}", "\n".join(lines) + "\n")


@pytest.mark.parametrize("place, ending", [("multinli_1.0", "jsonl"), ("multinli_1.0", "txt"), ("mnli/multinli_1.0", "jsonl.gz"), ("mnli", "txt.gz"), ("multinli", "jsonl")])
def test_mnli_in_each_of_its_layouts(data, place, ending):
    put_mnli(data / place, ending)
    train, valid, test = texts("mnli", "full")
    (far,) = texts("mnli-mismatched", "full", ("test",))
    assert len(train) + len(valid) == 54 == len(test) == len(far) and 0 < len(valid) < 6 and test.names == NLI and train.provenance["skipped"] == {"without agreement on the label": 12}
    for part, word in ((train, "train"), (valid, "train"), (test, "dev_matched"), (far, "dev_mismatched")):
        assert all(f"a {word} premise" in s and NLI[int(b.split()[2]) % 3] == NLI[y] for s, b, y in zip(part.sentences, part.second, part.labels.tolist()))
    with pytest.raises(DataMissing, match="mnli-mismatched: there is no sentence in its split train"):
        load("mnli-mismatched")


def test_mnli_without_a_part(data):
    put_mnli(data / "multinli_1.0", "jsonl", ("dev_matched",))
    train, valid, test = texts("mnli")
    assert len(train) + len(valid) + len(test) == 54 and min(len(valid), len(test)) > 3 and "without its training part" in train.provenance["description"]
    with pytest.raises(DataMissing, match="mnli-mismatched: no mismatched part lies beside.*multinli_1.0.zip"):
        load("mnli-mismatched", "test")
    put(data / "multinli_1.0" / "multinli_1.0_train.jsonl", '{"sentence1": "a", "sentence2": "b", "gold_label": "perhaps"}\n')
    with pytest.raises(DataDamaged, match="multinli_1.0_train.jsonl has a pair with the label 'perhaps'"):
        load("mnli")
    put(data / "multinli_1.0" / "multinli_1.0_train.jsonl", '{"sentence1": "a"}\n')
    with pytest.raises(DataDamaged, match="multinli_1.0_train.jsonl, line 1 .*is no pair"):
        load("mnli")


WIKI = " \n = A {part} = \n \n The {part} <unk> , well @-@ known , of 1 @,@ 00{i} years . \n\n = = Part {i} = = \n Its {part} end no. {i} . \n"


@pytest.mark.parametrize("place", ["wikitext-2-raw/wiki.{}.raw", "wikitext2/wikitext-2-raw/wiki.{}.raw", "wikitext2/wiki.{}.raw", "wikitext2/{}.raw.gz", "wikitext2/{}.raw"])
def test_wikitext_in_each_of_its_layouts(data, place):
    for part, n in (("train", 9), ("valid", 3), ("test", 4)):
        put(data / place.format(part), "".join(WIKI.format(part=part, i=i) for i in range(n)))
    parts = [load("wikitext2", s, "full") for s in SPLITS]
    for text, part, n in zip(parts, ("train", "valid", "test"), (9, 3, 4)):
        assert set(text.sentences) == {s for i in range(n) for s in (f"the {part} <unk> , well-known , of 1,00{i} years .", f"its {part} end no . {i} .")}
        assert text.labels is None and text.provenance["skipped"] == {"empty": 48, "headings": 32} and same_data(text.provenance) and "hash" not in text.provenance["description"]


def test_a_folder_of_texts(data, tmp_path, monkeypatch):
    folder = tmp_path / "mine test"
    put(folder / "a.txt", "".join(f"It's line {i}.\n" for i in range(200)))
    put(folder / "deep" / "er" / "b.raw.gz", "".join(f"Paragraph {i}. It isn't long.\n\n" for i in range(200)) + "It's line 3.\n")
    put(folder / "notes.md", "not read\n")
    put(folder / ".hidden.txt", b"\xff")
    parts = [load(str(folder), s) for s in SPLITS]
    assert sum(map(len, parts)) == 400 and min(map(len, parts)) > 5 and {len(s.split()) for p in parts for s in p.sentences} == {5, 8} and parts[0].provenance["skipped"] == {"empty": 200, "twice": 1}
    assert parts[0].provenance["source"] == "own" and str(tmp_path) not in parts[0].provenance["description"] and same_data(parts[0].provenance) and not parts[0].provenance["stand_in"]
    monkeypatch.chdir(tmp_path)
    assert load("mine test").fingerprint == load("mine test", lower=True).fingerprint == parts[0].fingerprint, "also without a stroke in its path"
    put(folder / "test.txt", "One.\n")
    put(folder / "val" / "c.txt", "Two.\n")
    assert load("mine test", "test").sentences == ("one .",) and load("mine test", "valid").sentences == ("two .",) and len(load("mine test")) == 400
    put(folder / "z.txt", b"caf\xe9\nThree.\n")
    with pytest.raises(DataDamaged, match="z.txt, line 1, is not UTF-8"):
        load("mine test")
    assert load("mine test", unreadable="skip").provenance["skipped"]["not UTF-8"] == 1
    (folder / "z.txt").write_bytes(b"")
    (folder / "z.txt.gz").write_bytes(gzip.compress(b"much text\n" * 99)[:-9])
    with pytest.raises(DataDamaged, match="z.txt.gz cannot be unpacked to its end"):
        load("mine test")


def test_a_folder_without_text(data, tmp_path):
    with pytest.raises(DataMissing, match="holds no text: put files there whose names end in .txt"):
        load(str(put(tmp_path / "empty" / "a.md", "x").parent))
    put(tmp_path / "pictures" / "a.png", "x")
    with pytest.raises(ValueError, match="is a set of pictures of any size"):
        load(str(put(tmp_path / "pictures" / "read me.txt", "x").parent))
    with pytest.raises(DataMissing, match="There is no data set, file or folder.*nowhere.*a folder of texts"):
        load(str(tmp_path / "nowhere"))
    with pytest.raises(DataMissing, match="there is no sentence in its split train .left out: 1 headings"):
        load(str(put(tmp_path / "blank" / "a.txt", " = Life = \n").parent))


def test_prose_stands_in_for_wikitext(data):
    parts = [load("prose", s) for s in SPLITS]
    assert {d.name for d in PRETRAINED_ON} == {"wikitext2", "prose"} and sum(map(len, parts)) > 40_000 and min(map(len, parts)) > 1500 and not parts[0].provenance["stand_in"]
    stand_in = load("wikitext2", "test")
    assert stand_in.fingerprint == parts[2].fingerprint and stand_in.provenance["stand_in"] and "synthetic" in stand_in.provenance["description"] and "numpy" in stand_in.provenance["description"]


def test_labelled_stand_ins_are_called_so(data):
    assert {d.name for d in CLASSIFIED} == {"imdb", "sst", "mnli", "mnli-mismatched"}
    for name in ("imdb", "sst"):
        assert load(name, "test").fingerprint == load("grammar-reviews", "test").fingerprint and load(name, "test").provenance["stand_in"]
    train, valid, test = texts("mnli")
    (far,) = texts("mnli-mismatched", splits=("test",))
    assert len(train) > 9_000 and min(map(len, (valid, test, far))) > 400 and not {w for p in (train, valid, test) for s in (*p.sentences, *p.second) for w in s.split()} & GENRES
    assert all(set(s.split()) & GENRES for s in far.sentences) and "without some activities" in test.provenance["description"] and "of those activities only" in far.provenance["description"]
    learned_from = {s for split in SPLITS for s in load("prose", split).sentences}
    assert not learned_from & {s for p in (valid, test, far, load("imdb", "valid"), load("imdb", "test")) for s in (*p.sentences, *(p.second or ()))}
    for name in ("imdb", "sst", "mnli", "mnli-mismatched"):
        assert load(name, "test").provenance["stand_in"] and "synthetic" in load(name, "test").provenance["description"]
        with pytest.raises(DataMissing, match=f"{name}.* in full is not on this machine.*It is not downloaded for you"):
            load(name, "test", source="full")


def test_the_command_line_knows_them(call, data):
    told = call("thesis-ebm", "data", "check", "squad", "imdb", "mnli", extra=dict(THESIS_EBM_DATA=str(data)))
    assert told.returncode == 0 and told.stdout.count("synthetic") == 3
    got = call("thesis-ebm", "data", "get", "squad", extra=dict(THESIS_EBM_DATA=str(data)))
    assert got.returncode == 1 and "squad/train-v1.1.json" in got.stderr and "Traceback" not in got.stderr


@pytest.mark.realdata
def test_real_questions(real_data, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look("squad", "full") is None:
        pytest.skip("$THESIS_EBM_DATA has no squad")
    parts = all_splits("squad", "full")
    assert sum(map(len, parts)) > 10_000 and min(map(len, parts)) > 500 and not parts[0].provenance["stand_in"]


@pytest.mark.realdata
@pytest.mark.parametrize("name, sizes", [("imdb", (22_000, 2400, 24_000)), ("sst", (6900, 870, 1800))])
def test_real_reviews(real_data, monkeypatch, name, sizes):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look(name, "full") is None:
        pytest.skip(f"$THESIS_EBM_DATA has no {name}")
    parts = texts(name, "full")
    assert all(len(p) >= n for p, n in zip(parts, sizes)) and not parts[0].provenance["stand_in"] and not any("<br" in s for s in parts[2].sentences)
    assert all(0.45 < p.labels.float().mean() < 0.55 for p in parts)


@pytest.mark.realdata
def test_real_wikitext(real_data, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look("wikitext2", "full") is None:
        pytest.skip("$THESIS_EBM_DATA has no wikitext2")
    parts = [load("wikitext2", s, "full") for s in SPLITS]
    assert len(parts[0]) > 15_000 and min(map(len, parts)) > 1500 and not any(" @ - @ " in s or s.startswith("= ") and s.endswith(" =") for p in parts for s in p.sentences)
