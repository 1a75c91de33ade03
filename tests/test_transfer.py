"Transfer: bad input of ARAETransfer and of the tables, files, determinism, a run that is stopped and goes on."
import csv
import json
import warnings
from collections import Counter
from dataclasses import replace
from itertools import product
import pytest
import torch
from thesis_ebm.arae import ARAE, ARAETransfer, styles
from thesis_ebm.arae.styles import StyleText, profile_of, style_config, style_corpus, text_of, train_style
from thesis_ebm.data.catalog import DataDamaged
from thesis_ebm.lab.run import run

torch.set_num_threads(1)
SMALL = dict(n=12, nz=4, widths=(12,), m=16, steps=20, progress=False, device="cpu")
CORPUS = [" ".join(w) + " ." for w in product(("the dog", "a man", "one cat"), ("sleeps", "runs", "eats"), ("here", "there", "in town", "at home"))]
LABELS = ["here" if i % 2 else "there" for i in range(len(CORPUS))]


@pytest.fixture(scope="module")
def model() -> ARAETransfer:
    return ARAETransfer.fit(CORPUS, LABELS, **SMALL)


def said(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400, text
    return text


@pytest.mark.parametrize("sentences, labels, kind, words", [
    (CORPUS, LABELS[:-1], ValueError, "36 sentences and 35 labels"),
    (CORPUS, None, ValueError, "no labels"),
    (CORPUS, ["same"] * 36, ValueError, "'same'"),
    (CORPUS, ["rare"] + ["often"] * 35, ValueError, "'rare'"),
    (CORPUS, [None] + LABELS[1:], TypeError, "sentence 1"),
    (CORPUS, [0.5] + LABELS[1:], TypeError, "sentence 1"),
    (CORPUS, "here", TypeError, "list of labels"),
    ({"a": CORPUS}, None, ValueError, "'a'"),
    ({"a": CORPUS, "b": "no_such_file.txt"}, None, FileNotFoundError, "no_such_file.txt"),
    ({"a": CORPUS, "b": CORPUS}, LABELS, ValueError, "dictionary"),
    ([*CORPUS, 7], [*LABELS, "here"], TypeError, "Sentence 37"),
    ([], [], ValueError, "at least 8")], ids=lambda v: None)
def test_labels_that_do_not_fit(sentences, labels, kind, words):
    with pytest.raises(kind) as error:
        ARAETransfer.fit(sentences, labels, **SMALL)
    assert words in said(error)


def test_settings_that_do_not_exist(model):
    for wrong in (dict(lamda2=1.0), dict(steps=0), dict(valid=0.9), dict(lr_u="fast")):
        with pytest.raises((ValueError, TypeError)) as error:
            ARAETransfer.fit(CORPUS, LABELS, **SMALL | wrong)
        said(error)
    with pytest.raises(ValueError) as error:
        ARAETransfer.fit(CORPUS, LABELS, **SMALL | dict(lr_ae=1e6, steps=60))
    assert "diverged" in said(error)


@pytest.mark.parametrize("to, kind, words", [("nowhere", ValueError, "'nowhere'"), (["here"], ValueError, "2 sentences"), (1.5, TypeError, ""), (None, TypeError, "")])
def test_a_label_that_was_not_seen(model, to, kind, words):
    with pytest.raises(kind) as error:
        model.transfer(CORPUS[:2], to=to)
    assert words in said(error)


def test_without_an_adversary_nothing_can_be_drawn():
    plain = ARAETransfer.fit(CORPUS, LABELS, **SMALL | dict(adversary="none", lambda2=0.0))
    assert len(plain.transfer(CORPUS[:2], to="here")) == 2
    with pytest.raises(ValueError) as error:
        plain.sample("here", 2)
    assert "generator was not trained" in said(error)


def test_sentences_that_cannot_be_transferred(model):
    for bad in ([], [""], ["so " * 40], "one string", [None]):
        with pytest.raises((ValueError, TypeError)) as error:
            model.transfer(bad, to="here")
        said(error)
    assert len(model.transfer(["so the dog " * 20], to="here", longer="cut")) == 1


def test_labels_stay_with_their_sentences():
    "Empty and long sentences are left out, with their labels: the model is that of the others alone."
    gaps = [x for s in CORPUS for x in (s, "", "so " * 40)]
    labels = [x for y in LABELS for x in (y, "here", "there")]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = ARAETransfer.fit(gaps, labels, **SMALL)
    plain = ARAETransfer.fit(CORPUS, LABELS, **SMALL)
    assert "36 empty" in str(seen[0].message) and model.skipped["empty"] == 36
    assert all(torch.equal(a, b) for a, b in zip(model.model.state_dict().values(), plain.model.state_dict().values(), strict=True))


def test_whole_numbers_and_dictionaries_are_labels(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(CORPUS[:18]))
    numbers = ARAETransfer.fit(CORPUS, [i % 3 for i in range(36)], **SMALL)
    assert numbers.values == ("0", "1", "2") and len(numbers.transfer(CORPUS, to=[2] * 36)) == 36 and numbers.sample(1, 3) == numbers.sample("1", 3)
    parts = ARAETransfer.fit({"a": str(tmp_path / "a.txt"), "b": CORPUS[18:]}, **SMALL)
    assert parts.values == ("a", "b") and parts.encode(CORPUS).shape == (36, 12)


def test_files(model, tmp_path):
    folder = model.save(tmp_path / "model")
    read = ARAETransfer.load(folder)
    assert read.transfer(CORPUS, to="here") == model.transfer(CORPUS, to="here") and read.history == model.history
    with pytest.raises(ValueError, match="not of a saved ARAE:"):
        ARAE.load(folder)
    with pytest.raises(ValueError, match="not of a saved ARAETransfer"):
        ARAETransfer.load(ARAE.fit(CORPUS, **SMALL).save(tmp_path / "other"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataDamaged):
        ARAETransfer.load(folder)


def test_corpora_that_cannot_be_transferred(tmp_path):
    with pytest.raises(ValueError, match="'sad'"):
        style_corpus(StyleText(data="grammar-reviews", source="embedded", values=(("sad",), ("positive",))))
    with pytest.raises(ValueError, match="two values"):
        style_corpus(StyleText(data="grammar-reviews", source="embedded", values=(("positive",),)))
    with pytest.raises(ValueError, match="two values"):
        style_corpus(StyleText(data="grammar", source="embedded"))
    with pytest.raises(ValueError, match="no training sentence"):
        style_corpus(StyleText(data="grammar-reviews", source="embedded", limit=1))
    with pytest.raises(ValueError, match="system"):
        style_config(profile_of("smoke"), "arae")


@pytest.mark.parametrize("system, turn", [("b", "transfer_iterate"), ("cross", "cross_iterate")])
def test_a_stopped_run_goes_on_bit_for_bit(system, turn, tmp_path, env, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_CHECKPOINT_SECONDS", "0")
    c = replace(style_config(profile_of("smoke"), system), steps=108)
    text, go_on = style_corpus(text_of(c)), getattr(styles, turn)

    class Stopped(Exception):
        pass

    def stop(player, t):
        if t == 105:
            raise Stopped
        return go_on(player, t)

    whole = run(train_style, c, 0, text, "smoke", "cpu")
    monkeypatch.setenv("THESIS_EBM_RUNS", str(tmp_path / "again"))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(styles, turn, stop)
        run(train_style, c, 0, text, "smoke", "cpu")
    halves = run(train_style, c, 0, text, "smoke", "cpu")
    assert halves.record["notes"]["resumed_at"] == [100]
    assert all(torch.equal(halves.tensors[k], v) for k, v in whole.tensors.items())


def test_table_4_2_writes_what_people_are_asked_about(root, call, tmp_path):
    "The file of sentences beside the reference has every system, and makes sheets."
    folder = root / "figures" / "reference" / "quick" / "tab-4.2"
    with open(folder / "outputs.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    each = Counter(r["system"] for r in rows)
    assert list(rows[0]) == ["system", "original", "from", "to", "output"] and set(each) == set(styles.SYSTEMS.values()) and len(set(each.values())) == 1
    assert all(r["from"] != r["to"] for r in rows)
    record = json.loads((folder / "record.json").read_text())
    assert "outputs.csv" in record["files"] and "tok:none" in record["caption"] and len(record["claims"]) == 10
    made = call("thesis-ebm", "rate", "export", folder / "outputs.csv", "--systems", "Cross-Aligned AE", "ARAE, lambda1 = 10", "--out", tmp_path / "sheets", "--n", 20)
    assert made.returncode == 0 and "20 originals (10" in made.stdout, made.stdout + made.stderr
