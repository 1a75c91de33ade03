"SWWAE on a reader's own images: a script of theirs, every kind of bad input, files, determinism."
import json
import subprocess
import sys
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from conftest import ROOT, clean_env
from thesis_ebm.data.catalog import DataDamaged, DataMissing
from thesis_ebm.lab.saved import FILES
from thesis_ebm.swwae import SWWAEClassifier, use

torch.set_num_threads(1)
FAST = dict(steps=4, progress=False, device="cpu")
X = torch.randint(256, (30, 3, 10, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = [("cat", "dog", "fox")[i % 3] for i in range(30)]

SCRIPT = '''
import sys
import numpy as np
from thesis_ebm.swwae import SWWAEClassifier
print([m for m in "pandas scipy matplotlib sklearn papermill torchvision".split() if m in sys.modules])

random = np.random.default_rng(0)
def shapes(n):
    "Discs, crosses and frames of any colour, somewhere on a noisy ground of any other."
    kinds, images = random.integers(3, size=n), random.uniform(0, 80, (n, 12, 12, 3)) + random.uniform(0, 60, (n, 1, 1, 3))
    rows, columns = np.mgrid[:12, :12]
    for image, kind in zip(images, kinds):
        y, x = (np.abs(axis - random.integers(4, 8)) for axis in (rows, columns))
        image[(x**2 + y**2 <= 9, (x * y == 0) & (x + y <= 4), np.maximum(x, y) == 3)[kind]] += random.uniform(60, 110, 3)
    return images.astype(np.uint8), np.array(["disc", "cross", "frame"])[kinds]

images, labels = shapes(60)
model = SWWAEClassifier.fit(images, labels, unlabelled=shapes(100)[0], steps=200, progress=False)
new, truth = shapes(300)
print((model.predict(new) == truth).mean())
again = SWWAEClassifier.load(model.save("model"))
print((again.predict(new) == model.predict(new)).all() and bool((again.predict_proba(new) == model.predict_proba(new)).all()))
'''


def test_a_script_of_a_readers_own(tmp_path):
    "Of three kinds a guess is right in a third of cases, 300 guesses with a standard deviation of 2.7%: 0.7 is 13 of them above."
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, env=clean_env(tmp_path, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr[-2000:]
    heavy, accuracy, same = done.stdout.split("\n")[:3]
    assert heavy == "[]" and float(accuracy) > 0.7 and same == "True", done.stdout
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["mine.py", "model", *FILES])


@pytest.fixture(scope="module")
def model() -> SWWAEClassifier:
    return SWWAEClassifier.fit(X, Y, **FAST)


@pytest.fixture
def saved(model, tmp_path) -> Path:
    return model.save(tmp_path / "model")


def same(a, b) -> bool:
    return all(torch.equal(v, w) for v, w in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True))


@pytest.mark.parametrize("images, labels", [
    (X.numpy(), np.array(Y)), (X.permute(0, 2, 3, 1).numpy(), Y), (X.double() / 255, Y), ((X.double() / 255).numpy(), tuple(Y)), (X.long(), Y), (list(X), Y),
    ([Image.fromarray(x.permute(1, 2, 0).numpy()) for x in X], Y), ((x for x in X), iter(Y))], ids="array channels-last floats float-array integers tensors pictures generator".split())
def test_the_same_images_in_any_form_give_the_same_model(images, labels, model):
    assert same(SWWAEClassifier.fit(images, labels, **FAST), model)


@pytest.mark.parametrize("labels", [[7, 3, -1] * 10, [True, False, None] * 10, ["b", "a", None] * 10, [2.0, 1.0, float("nan")] * 10, torch.tensor([0, 1, -1] * 10)],
                         ids="integers booleans strings gaps tensor".split())
def test_labels_come_back_as_they_were(labels):
    fitted = SWWAEClassifier.fit(X, labels, **FAST)
    given = {y for y in (labels.tolist() if torch.is_tensor(labels) else labels) if y is not None and y != -1 and y == y}
    assert set(fitted.classes) == given and set(fitted.predict(X).tolist()) <= given and fitted.config.rows == (20, 30)
    assert fitted.predict_proba(X).shape == (30, 2) and {type(y) for y in fitted.classes} == {type(y) for y in fitted.predict(X).tolist()}


@pytest.mark.parametrize("images, labels, more, error, message", [
    ([X[0], X[1], X[2][:, :9]], Y[:3], {}, ValueError, "Image 1 has 10x12 pixels in 3 channels, image 3 9x12"), (X, Y[:9], {}, ValueError, "30 images but 9 labels"),
    (X, ["cat"] * 30, {}, ValueError, "All labels are 'cat'"), (X, [None] * 30, {}, ValueError, "No image has a label"), (X, None, {}, ValueError, "without labels"),
    (X, ["a", 1] * 15, {}, ValueError, "several types, int, str"), (X, [0.5] * 30, {}, TypeError, "label of image 1 is 0.5"), (X, torch.eye(30), {}, TypeError, "label of image 1"), (X, "cat", {}, TypeError, "list of labels"),
    (X.float(), Y, {}, ValueError, "values from 0 to 255 .float32."), (X / 127.5 - 1, Y, {}, ValueError, "values from -1 to 1"), (X * float("nan"), Y, {}, ValueError, "from nan"), (X > 9, Y, {}, TypeError, "no numbers but bool"),
    (X[:0], [], {}, ValueError, "No images"), ([], [], {}, ValueError, "No images"), (None, Y, {}, TypeError, "not one NoneType"), (Image.new("L", (9, 9)), Y, {}, TypeError, "not one Image"), (X[0, 0], Y, {}, ValueError, r"shape \(10, 12\)"),
    ([X[0], None], Y[:2], {}, TypeError, "Image 2 has no numbers"), ([X[0], "none.png"], Y[:2], {}, DataDamaged, "Image 2 cannot be read"), ("nowhere", None, {}, DataMissing, "no folder 'nowhere'"),
    (X, Y, dict(unlabelled=X[..., :9]), ValueError, "those of unlabelled 10x9 pixels"), (X, Y, dict(unlabelled=[]), ValueError, "No images"),
    (X, Y, dict(net="(8)3c-2q-3fc"), ValueError, "'2q' in '.8.3c-2q-3fc' is not a layer"), (X, Y, dict(net="(8)3c-11p-3fc"), ValueError, "11p of .* meets maps of 10x12"), (X, Y, dict(net="(8)3c-2p-4fc"), ValueError, "your images have 3 classes: let it end in 3fc"),
    (X, Y, dict(net=5), ValueError, "net"), (X, Y, dict(share=0.05), ValueError, "share = 0.05: class 'cat', of which 10 images .* smallest share .* 0.1"), (X, Y, dict(share=-1), ValueError, "share = -1"),
    (X, Y, dict(epochs=3), ValueError, "Unknown setting 'epochs'"), (X, Y, dict(stepz=3), ValueError, "Did you mean 'steps'"), (X, Y, dict(steps=0), ValueError, "steps = 0"), (X, Y, dict(dropout=1), ValueError, "dropout = 1"), (X, Y, dict(rec=-1), ValueError, "rec = -1"),
    (X, Y, dict(pooling="mean"), ValueError, "Unknown pooling"), (X, Y, dict(room=10), ValueError, "room = 10"), (X, Y, dict(seed=-1), ValueError, "seed = -1"), (X, Y, dict(device="tpu"), ValueError, "Unknown device"), (X, Y, dict(size=-1), ValueError, "size = -1"),
    (X, Y, dict(lr=1e30), ValueError, "diverged at step .* smaller learning rate than lr=1e.30")])
def test_what_cannot_be_fitted_is_refused(images, labels, more, error, message, tmp_path, monkeypatch):
    "In one sentence; nothing is left behind, and torch's generator is where it was."
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    with pytest.raises(error, match=message) as caught:
        SWWAEClassifier.fit(images, labels, **FAST | more)
    assert len(str(caught.value).splitlines()) == 1 and not list(tmp_path.iterdir()) and torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_classified_is_refused(model):
    for images, message in ((X[:, :, :9], "9x12 pixels in 3 channels, those that the model was fitted on 10x12"), (X[:, 0], "in 1 channel"), (X[0], "in 1 channel"), (X.float(), "values from 0 to 255"), ([], "No images")):
        with pytest.raises(ValueError, match=message):
            model.predict(images)
    for level in (0, 3, 1.0, "1"):
        with pytest.raises(ValueError, match="level = "):
            model.what_where(X, level)
    with pytest.raises(ValueError, match="no pooling layer"):
        SWWAEClassifier.fit(X, Y, net="(4)3c-3fc", **FAST).what_where(X)
    with pytest.raises(ValueError, match="rec=0"):
        SWWAEClassifier.fit(X, Y, rec=0, **FAST).reconstruct(X)
    assert model.predict([Image.new("L", (12, 10), 9)]).tolist()[0] in model.classes and len(model.predict(X[:1])) == 1


def test_a_batch_shrinks_to_the_images_there_are():
    assert SWWAEClassifier.fit(X[:2], Y[:2], **FAST, norm=True).config.rows == (2, 2)
    assert SWWAEClassifier.fit(X[:4], [*Y[:2], None, None], X[4:6], batch=9, **FAST).config.rows == (2, 6)
    assert SWWAEClassifier.fit(X, Y, share=0.1, **FAST).config.share == 0.1


def test_a_folder_of_pictures(tmp_path):
    root = tmp_path / "mine"
    for i, x in enumerate(X[..., :10]):
        path = root / (Y[i] if i < 24 else "unlabelled") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.permute(1, 2, 0).numpy()).save(path)
    model = SWWAEClassifier.fit(root, **FAST)
    assert model.classes == ("cat", "dog", "fox") and model.config.rows == (24, 30) and len(model.predict(str(root / "unlabelled"))) == 6
    assert (model.predict(root / "dog") == model.predict([str(p) for p in sorted((root / "dog").iterdir())])).all()
    small = SWWAEClassifier.load(SWWAEClassifier.fit(root, unlabelled=root / "cat", size=8, **FAST).save(tmp_path / "model"), "cpu")
    assert small.reconstruct(root).shape == (30, 3, 8, 8) and small.size == 8
    with pytest.raises(ValueError, match="leave labels out"):
        SWWAEClassifier.fit(root, Y, **FAST)
    (root / "emu").mkdir()
    with pytest.raises(ValueError, match="emu holds no image"):
        SWWAEClassifier.fit(root, **FAST)
    Image.new("RGB", (9, 7)).save(root / "emu" / "x.png")
    with pytest.raises(ValueError, match="has 10x10 pixels, .*x.png has 9x7 pixels: say size="):
        SWWAEClassifier.fit(root, **FAST)
    (root / "emu" / "x.png").write_bytes(b"no image")
    with pytest.raises(DataDamaged, match="x.png cannot be read"):
        SWWAEClassifier.fit(root, **FAST)


def test_the_same_seed_gives_the_same_model_and_leaves_torch_alone(model, saved):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again, other = SWWAEClassifier.fit(X, Y, **FAST), SWWAEClassifier.fit(X, Y, **FAST, seed=1)
    read = SWWAEClassifier.load(saved, "cpu")
    read.predict(X), read.reconstruct(X), read.what_where(X, 2)
    assert torch.equal(torch.get_rng_state(), state) and same(again, model) and again.history == model.history and not same(other, model)


def test_an_interrupt_keeps_the_model(monkeypatch):
    step = use.Autoencoders.step

    def interrupted(p, t, at=3):
        if t == at:
            raise KeyboardInterrupt
        return step(p, t)
    monkeypatch.setattr(use.Autoencoders, "step", interrupted)
    with pytest.warns(UserWarning, match="Interrupted at step 4 of 9"):
        assert [r["step"] for r in SWWAEClassifier.fit(X, Y, **FAST | dict(steps=9)).history] == [1, 2, 3]
    monkeypatch.setattr(use.Autoencoders, "step", lambda p, t: interrupted(p, t, 0))
    with pytest.raises(KeyboardInterrupt):
        SWWAEClassifier.fit(X, Y, **FAST)


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    every = SWWAEClassifier.fit(X, Y, X[:5], "(6)3c-2p-(6)3c-2p-7fc-3fc", **FAST, pooling="phase", norm=True, contrast=True, mirror=True, mid=0.1, share=0.5)
    for fitted in (model, every):
        for _ in range(2):
            read = SWWAEClassifier.load(fitted.save(tmp_path / "new" / "model"), device="cpu")
        assert same(read, fitted) and repr(read) == repr(fitted) and (read.config, read.classes, read.history) == (fitted.config, fitted.classes, fitted.history)
        assert (read.predict(X) == fitted.predict(X)).all() and torch.equal(read.reconstruct(X), fitted.reconstruct(X))
    assert sorted(p.name for p in (tmp_path / "new").rglob("*")) == sorted(["model", *FILES])


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_or_a_missing_file_is_noticed(name, saved):
    path = saved / name
    good = path.read_bytes()
    for place in range(0, len(good), len(good) // 20):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        with pytest.raises((DataDamaged, ValueError), match="damaged|not of a saved SWWAEClassifier|another format"):
            SWWAEClassifier.load(saved)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        SWWAEClassifier.load(saved)


def test_files_of_others_are_neither_read_nor_replaced(model, saved, tmp_path):
    about = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(about | dict(format="thesis_ebm ARAE 1")))
    with pytest.raises(ValueError, match="not of a saved SWWAEClassifier"):
        SWWAEClassifier.load(saved)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("years of work")
    with pytest.raises(FileExistsError, match="thesis.doc"):
        model.save(tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.doc"]
