"Chapter 7's data: questions on paragraphs in SQuAD's layout, every kind of bad file, splits that share nothing, stand-ins that are called so."
import gzip
import json
from pathlib import Path
import pytest
from thesis_ebm.data.catalog import ASKED, DataDamaged, DataMissing, find, look
from thesis_ebm.data.reading import Questions, load
from thesis_ebm.data.text import SPLITS, tokenise
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
    with pytest.raises(DataMissing, match="dev-v1.1.json: 2 articles cannot be parted in 3: at least 3"):
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
    assert len(train) > 20_000 and min(len(valid), len(test)) > 1000 and not test.provenance["stand_in"] and "synthetic" in test.provenance["description"] and {d.name for d in ASKED} == {"squad", "grammar-questions"}
    assert all(f" {c} ".count(f" {a[0]} ") == 1 for c, a in zip([test.contexts[p] for p in test.context_of], test.answers)), "each answer comes once"
    stand_in = load("squad", "test")
    assert stand_in.fingerprint == test.fingerprint and stand_in.provenance["stand_in"] and look("squad").source == "embedded"
    assert "a stand-in for the full data set" in full_caption(type("A", (), dict(caption="X.")), [stand_in.provenance])
    with pytest.raises(DataMissing, match="squad.* in full is not on this machine.*It is not downloaded for you"):
        load("squad", source="full")
    with pytest.raises(ValueError, match="Unknown split 'dev'"):
        load("squad", "dev")


@pytest.mark.realdata
def test_real_questions(real_data, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if look("squad", "full") is None:
        pytest.skip("$THESIS_EBM_DATA has no squad")
    parts = all_splits("squad", "full")
    assert sum(map(len, parts)) > 10_000 and min(map(len, parts)) > 500 and not parts[0].provenance["stand_in"]
