"Perplexity under GPT-2 with the reader's own weights: said in one sentence when something is missing, refused when damaged, right when it runs."
import json
import math
import pickle
import shutil
import sys
import pytest
import torch
from conftest import ROOT
from thesis_ebm.data.catalog import DataDamaged, DataMissing
from thesis_ebm.data.text import detokenise
from thesis_ebm.metrics.gpt2 import END, GPT2Missing, gpt2_folder, gpt2_nll, gpt2_or_reason, gpt2_reading

HEADLINES = ["u.s. stocks fall # percent", "bosnian serbs free ### prisoners , again", "dole does n't lead ( yet )", "<unk>", "fall"]


@pytest.fixture(autouse=True)
def folder(data, offline):
    "The reader's folder <data>/gpt2, not made yet; no network, one thread."
    return data / "gpt2"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A tiny GPT-2 with random weights as transformers itself saves one, prefixes and the output layer included."
    transformers = pytest.importorskip("transformers", reason="transformers is not installed; install the extra `gpt2`")
    from tokenizers import ByteLevelBPETokenizer
    path = tmp_path_factory.mktemp("made")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([detokenise(h) for h in HEADLINES[:3] * 3], vocab_size=290, min_frequency=1, special_tokens=[END], show_progress=False)
    bpe.save(str(path / "tokenizer.json"))
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, vocab_size=bpe.get_vocab_size(), bos_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return path


@pytest.fixture
def whole(made, folder):
    shutil.copytree(made, folder)
    return folder


def test_missing_weights_are_asked_for_in_one_sentence(folder):
    with pytest.raises(GPT2Missing) as e:
        gpt2_reading(HEADLINES)
    said = str(e.value)
    assert isinstance(e.value, DataMissing) and "\n" not in said and str(folder) in said and str(ROOT / "data" / "raw" / "gpt2") in said
    assert said.endswith(f"put config.json, model.safetensors and tokenizer.json of the model gpt2, as the Hugging Face hub has them, into {folder}.")
    assert gpt2_or_reason(HEADLINES) == (None, f"No GPT-2: {said}")


class Harm:
    def __reduce__(self):
        return print, ("harm",)


def test_a_pickle_alone_is_refused_and_not_read(folder, capsys):
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))
    value, reason = gpt2_or_reason(HEADLINES)
    assert value is None and "lacks model.safetensors (pytorch_model.bin is a pickle and is never loaded)" in reason and "harm" not in capsys.readouterr().out
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    assert "model.safetensors, tokenizer.json (or vocab.json and merges.txt)" in gpt2_or_reason(HEADLINES)[1]


def test_a_missing_library_is_named_with_its_remedy(folder, monkeypatch):
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    value, reason = gpt2_or_reason(HEADLINES)
    assert gpt2_folder() == folder and value is None and reason.endswith("pip install 'thesis-ebm[gpt2]'.") and "\n" not in reason


def test_the_number_is_that_of_transformers_one_sentence_at_a_time(whole):
    "Its own loader, its own loss; the two forms of a tokeniser's files; no random number is drawn."
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel
    net, bpe = GPT2LMHeadModel.from_pretrained(whole, local_files_only=True).eval(), Tokenizer.from_file(str(whole / "tokenizer.json"))
    ids = [[bpe.token_to_id(END), *bpe.encode(detokenise(h)).ids] for h in HEADLINES]
    with torch.no_grad():
        expected = torch.tensor([float(net(torch.tensor([i]), labels=torch.tensor([i])).loss) * (len(i) - 1) for i in ids], dtype=torch.float64)
    state = torch.random.get_rng_state()
    found = gpt2_reading(HEADLINES, device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.allclose(found.nll, expected, rtol=1e-5) and found.tokens.tolist() == [len(i) - 1 for i in ids] and found.words.tolist() == [5, 7, 7, 1, 1]
    assert math.isclose(found.per_word, math.exp(expected.sum() / 21), rel_tol=1e-4) and found.per_token < found.per_word
    value, reason = gpt2_or_reason(HEADLINES)
    assert value == found.per_word and "\n" not in reason and all(part in reason for part in (f"{found.per_word:,.1f} per word", f"{found.per_token:,.1f} per token", "21 words", f"{sum(p.numel() for p in net.parameters()):,} weights"))
    merges = json.loads((whole / "tokenizer.json").read_text())["model"]
    (whole / "tokenizer.json").unlink()
    (whole / "vocab.json").write_text(json.dumps(merges["vocab"]))
    (whole / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges["merges"]))
    assert torch.equal(gpt2_reading(HEADLINES, device="cpu").nll, found.nll)


def test_batches_padding_and_order_change_nothing(whole):
    nll, words = gpt2_nll(HEADLINES)
    for batch in (1, 2, 3):
        assert torch.allclose(gpt2_nll(HEADLINES, batch=batch)[0], nll, rtol=1e-5)
    assert torch.allclose(gpt2_nll(HEADLINES[::-1])[0].flip(0), nll, rtol=1e-5)
    more, counts = gpt2_nll(["", *HEADLINES, "  "])
    assert more[0] == more[-1] == counts[0] == counts[-1] == 0 and torch.allclose(more[1:-1], nll, rtol=1e-5)
    for bad, words in ((dict(sentences=["", " "]), "None of the 2 sentences has a word"), (dict(sentences=[]), "None of the 0"), (dict(sentences=["a", "x " * 70]), "Sentence 2 has .* 64 at most"),
                       (dict(sentences=["a"], batch=0), "batch = 0"), (dict(sentences=["a"], device="cpux"), "Unknown device")):
        with pytest.raises(ValueError, match=words):
            gpt2_reading(**bad)


def test_the_published_file_has_no_prefix_and_keeps_the_causal_masks(whole):
    "The published model.safetensors names weights without 'transformer.' and holds h.*.attn.bias."
    from safetensors.torch import load_file, save_file
    nll, _ = gpt2_nll(HEADLINES)
    weights = {k.removeprefix("transformer."): w for k, w in load_file(whole / "model.safetensors").items()}
    weights |= {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64).tril() for i in range(2)}
    save_file(weights, whole / "model.safetensors")
    assert torch.equal(gpt2_nll(HEADLINES)[0], nll)
    save_file({k: w.half() for k, w in weights.items()}, whole / "model.safetensors")
    assert torch.allclose(gpt2_nll(HEADLINES)[0], nll, rtol=1e-2)


def test_damaged_files_are_refused_by_name(whole):
    from safetensors.torch import load_file, save_file
    good = {p.name: p.read_bytes() for p in whole.iterdir()}
    weights, about = load_file(whole / "model.safetensors"), json.loads(good["config.json"])
    def packed(tensors) -> bytes:
        save_file(tensors, whole / "other.safetensors")
        return (whole / "other.safetensors").read_bytes()
    one = next(k for k in weights if k.endswith("h.1.mlp.c_fc.weight"))
    gpt2_reading(HEADLINES)
    for name, content, words in (("model.safetensors", good["model.safetensors"][:5000], ""), ("model.safetensors", b"", ""), ("model.safetensors", pickle.dumps(Harm()), ""),
                                 ("model.safetensors", packed({k: w for k, w in weights.items() if k != one}), "h.1.mlp.c_fc.weight"),
                                 ("model.safetensors", packed({**weights, one: torch.zeros(3)}), "h.1.mlp.c_fc.weight"), ("model.safetensors", packed({**weights, "h.2.x": torch.zeros(3)}), "h.2.x"),
                                 ("model.safetensors", packed({**weights, one: weights[one] * math.nan}), "no numbers"),
                                 ("config.json", good["config.json"][:100], ""), ("config.json", json.dumps({**about, "n_head": 5}).encode(), ""),
                                 ("config.json", json.dumps({**about, "activation_function": "none"}).encode(), ""), ("config.json", b"\xff\xfe", ""), ("config.json", b"[]", ""),
                                 ("config.json", json.dumps({**about, "vocab_size": 10}).encode(), ""), ("tokenizer.json", good["tokenizer.json"][:200], ""),
                                 ("tokenizer.json", good["tokenizer.json"].replace(END.encode(), b"<|end|>"), "does not fit")):
        (whole / name).write_bytes(content)
        with pytest.raises(DataDamaged) as e:
            gpt2_or_reason(HEADLINES)
        said = str(e.value)
        assert str(whole) in said and words in said and "\n" not in said and (whole / name).read_bytes() == content, said
        (whole / name).write_bytes(good[name])
    gpt2_reading(HEADLINES)
