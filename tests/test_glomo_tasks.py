"The networks that graphs are transferred to: with the real fusion, at the published sizes, in other precisions, on a GPU."
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from thesis_ebm.glomo.layers import RNNS, BiRNN
from thesis_ebm.glomo.tasks import AT, Entailer, Reader, Sentiment, best_spans, span_loss
from thesis_ebm.glomo.transfer import GraphTransfer, Uniform

NETS = dict(reader=Reader, entailer=Entailer, sentiment=Sentiment)


def inputs(name: str, B: int, T: int, S: int, width: int, device="cpu", dtype=torch.float32) -> list:
    "Features and lengths of a sequence of at most T words, and of another of at most S where the network takes two."
    generator = torch.Generator().manual_seed(1)
    found = []
    for n in (T, S) if name != "sentiment" else (T,):
        lengths = torch.randint(1, n + 1, (B,), generator=generator)
        lengths[0] = n
        found += [torch.randn(B, n, width, generator=generator).to(device, dtype), lengths.to(device)]
    return found


def loss_of(name: str, out) -> torch.Tensor:
    if name != "reader":
        return F.cross_entropy(out, torch.zeros(len(out), dtype=torch.int64, device=out.device))
    return span_loss(*out, torch.zeros(len(out[0]), 2, dtype=torch.int64, device=out[0].device))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("at", AT)
def test_networks_take_the_fusion_of_the_chapter(name, at):
    "Sequences of different lengths, so that graphs must stay with theirs; every weight learns, the fusion's too."
    torch.manual_seed(0)
    transfer = GraphTransfer(Uniform(heads=2, layers=2, words=12))
    net, x = NETS[name](5, 8, at=at, fuse=transfer.fusion), inputs(name, 6, 12, 7, 5)
    graphs = [] if at == "none" else [transfer.graphs(torch.full(H.shape[:2], 4), n) for H, n in zip(x[::2], x[1::2])]
    loss_of(name, net(*x, *graphs)).backward()
    assert {n for n, w in net.named_parameters() if w.grad is None or not w.grad.any()} == set()


@pytest.mark.parametrize("name", NETS)
def test_published_sizes_fit_together_without_memory(name):
    with torch.device("meta"):
        net = NETS[name](150)
        out = net(torch.empty(32, 20, 150), torch.ones(32, dtype=torch.int64), *([torch.empty(32, 5, 150), torch.ones(32, dtype=torch.int64)] if name != "sentiment" else []))
    assert [tuple(o.shape) for o in (out if isinstance(out, tuple) else (out,))] == dict(reader=[(32, 20)] * 2, entailer=[(32, 3)], sentiment=[(32, 2)])[name]


@pytest.mark.parametrize("rnn", RNNS)
@pytest.mark.parametrize("name", NETS)
def test_other_precisions_say_the_same(name, rnn):
    torch.manual_seed(0)
    net, x = NETS[name](5, 8, rnn=rnn).eval(), inputs(name, 6, 9, 4, 5)
    want = loss_of(name, net(*x))
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(name, net(*x))
    loss.backward()
    assert abs(loss - want) < 0.05 and all(w.grad.isfinite().all() for w in net.parameters())
    assert torch.allclose(loss_of(name, net.double()(*(v.double() if v.is_floating_point() else v for v in x))), want.double(), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_a_best_span_lies_in_its_text_even_when_padding_scores_high(seed):
    torch.manual_seed(seed)
    lengths, start, end = torch.randint(1, 8, (50,)), *torch.randn(2, 50, 8)
    start[:, 7], end[:, 7] = 100.0, 100.0
    first, last = best_spans(start, end, lengths, most=3).T
    assert ((first >= 0) & (first <= last) & (last < lengths) & (last - first < 3)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("rnn", RNNS)
def test_padding_is_kept_out_of_a_gpus_rnn_too(rnn):
    layer = BiRNN(50, 76, rnn).cuda()
    x, lengths = inputs("sentiment", 32, 300, 0, 50, "cuda")
    plain = RNNS[rnn](50, 76, batch_first=True, bidirectional=True).cuda()
    plain.load_state_dict({k: w[:, :-1] if k.startswith("weight_ih") else w for k, w in layer.rnn.state_dict().items()})
    want = pad_packed_sequence(plain(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))[0], batch_first=True)[0]
    assert torch.allclose(layer(x, lengths), want, atol=2e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", NETS)
def test_a_gpu_says_what_the_cpu_says(name):
    "Also with lengths that stay on the CPU."
    torch.manual_seed(0)
    net, x = NETS[name](50, 24).eval(), inputs(name, 16, 60, 12, 50)
    want = loss_of(name, net(*x))
    for move in (lambda v: v.cuda(), lambda v: v.cuda() if v.is_floating_point() else v):
        assert abs(loss_of(name, net.cuda()(*map(move, x))).cpu() - want) < 5e-3
