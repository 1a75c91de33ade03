"FID with the reader's own Inception weights: said in one sentence when something is missing, refused when damaged, right when it runs."
import hashlib
import io
import math
import os
import pickle
import subprocess
import sys
import pytest
import torch
from conftest import ROOT
from thesis_ebm.data.catalog import DataDamaged, DataMissing
from thesis_ebm.metrics.quality import INCEPTION, InceptionMissing, fid, fid_or_reason, frechet_distance, inception_weights, moments

ABSENT = INCEPTION.replace("6726825d", "0" * 8)


@pytest.fixture(autouse=True)
def folder(env, tmp_path, monkeypatch, offline):
    "The reader's folder <data>/inception; no network, one thread, torch's checkpoints in a folder of this test."
    (tmp_path / "data" / "inception").mkdir(parents=True)
    monkeypatch.setenv("THESIS_EBM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "data" / "inception"


def images(n: int, seed: int) -> torch.Tensor:
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, 32, mode="bilinear").to(torch.uint8)


def keep(folder, content: bytes) -> str:
    "The name, true to its hash, under which the content was put into a folder."
    name = INCEPTION.replace("6726825d", hashlib.sha256(content).hexdigest()[:8])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return name


@pytest.fixture(scope="module")
def network():
    "torch-fidelity's Inception with random weights, scaled so that signals neither vanish nor explode."
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_):
            pass
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    net = Untrained("inception-v3-compat", ["64", "2048"], nothing)
    for p in net.parameters():
        if p.ndim == 4:
            torch.nn.init.kaiming_normal_(p)
    return net


@pytest.fixture(scope="module")
def weights(network) -> bytes:
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    return content.getvalue()


def test_missing_weights_are_asked_for_in_one_sentence(folder, tmp_path):
    with pytest.raises(InceptionMissing) as e:
        fid(images(4, 0), images(4, 1), weights=ABSENT)
    said = str(e.value)
    assert isinstance(e.value, DataMissing) and "\n" not in said and ABSENT in said and "torch-fidelity project" in said
    assert all(str(p) in said for p in (folder, ROOT / "data" / "raw" / "inception", tmp_path / "hub" / "checkpoints")) and said.endswith(f"put it, as it is, in {folder}.")
    assert fid_or_reason(images(4, 0), images(4, 1), weights=ABSENT) == (None, f"No FID: {said}")


def test_a_missing_library_is_named_with_its_remedy(folder, monkeypatch):
    name = keep(folder, b"any weights")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    value, reason = fid_or_reason(images(4, 0), images(4, 1), weights=name)
    assert value is None and reason.endswith("pip install 'thesis-ebm[fid]'.") and "\n" not in reason


def test_nothing_optional_is_imported_with_the_module():
    block = "import sys\nfor m in 'torch_fidelity scipy matplotlib pandas skimage'.split(): sys.modules[m] = None\n"
    subprocess.run([sys.executable, "-c", block + "import thesis_ebm.metrics.quality"], check=True, cwd=ROOT)


def test_weights_are_found_in_torch_hubs_folder_and_the_readers_comes_first(folder, tmp_path):
    name = keep(tmp_path / "hub" / "checkpoints", b"weights")
    assert inception_weights(name) == tmp_path / "hub" / "checkpoints" / name
    keep(folder, b"weights")
    assert inception_weights(name) == folder / name


def test_a_tampered_file_is_refused_with_path_and_both_hashes(folder):
    name = keep(folder, b"good")
    (folder / name).write_bytes(b"bad")
    with pytest.raises(DataDamaged) as e:
        fid_or_reason(images(4, 0), images(4, 1), weights=name)
    assert str(folder / name) in str(e.value) and hashlib.sha256(b"bad").hexdigest() in str(e.value) and name[-12:-4] in str(e.value)
    assert (folder / name).read_bytes() == b"bad"


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run_and_other_tensors_are_refused(folder, tmp_path):
    pytest.importorskip("torch_fidelity")
    packed = io.BytesIO()
    torch.save(dict(weight=torch.zeros(3)), packed)
    harmful = io.BytesIO()
    torch.save(dict(weight=torch.zeros(3), harm=Harm(str(tmp_path / "harmed"))), harmful)
    for content in (pickle.dumps(Harm(str(tmp_path / "harmed")), 2), harmful.getvalue(), packed.getvalue()):
        with pytest.raises(DataDamaged, match="does not hold the weights"):
            fid(images(4, 0), images(4, 1), weights=keep(folder, content))
    assert not (tmp_path / "harmed").exists()


def test_fid_of_the_whole_path_is_the_frechet_distance_of_the_features(folder, weights, network):
    name, real, fake = keep(folder, weights), images(6, 0), images(5, 1) // 2
    layers = dict(zip((64, 2048), zip(network(real), network(fake))))
    for features, (a, b) in layers.items():
        found = fid(real, fake, features, weights=name, batch=4)
        ours = frechet_distance(*moments(a), *moments(b))
        assert math.isclose(found.value, ours, rel_tol=1e-3), "torch-fidelity roots the rounding errors of a singular product"
        assert (found.n_real, found.n_fake, found.features, found.weights) == (6, 5, features, name)
    value, sentence = fid_or_reason(real, fake, weights=name, features=64)
    assert value > 0 and "6 real and 5 generated" in sentence and "64 features" in sentence
    same = fid(real, real.flip(0), 64, weights=name).value
    assert 0 <= same < 1e-3 * value, "the same images in another order"
