"""Several sources as one."""

from pathlib import Path

import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import JSONFiles, Mixture, TokenFiles
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.lines import ignore
from tests.data.sources.reading import jsonl, reasons


def test_mixture_repeats_or_thins_documents_by_weight(tmp_path: Path):
    a = jsonl(tmp_path / "a.jsonl", *({"text": f"a{i}"} for i in range(400)))
    b = jsonl(tmp_path / "b.jsonl", *({"text": f"b{i}"} for i in range(10)))
    mixture = Mixture([JSONFiles(str(a)), JSONFiles(str(b))], [0.5, 2])
    found = [each.text for each in mixture.documents(ignore) if each.only_for != "held out"]
    assert found[-20:] == [f"b{i}" for i in range(10)] * 2
    assert 150 < len(found) - 20 < 250
    with pytest.raises(InputError, match=r"--data.corpus.source.weights"):
        Corpus(Mixture([JSONFiles(str(a))], [1, 2]))
    with pytest.raises(InputError, match=r"--data.corpus.source.sources\[1\] TokenFiles"):
        Corpus(Mixture([JSONFiles(str(a)), TokenFiles("x.bin")]))


def test_what_is_wrong_is_said_once_and_names_its_source(tmp_path: Path):
    good, bad = jsonl(tmp_path / "a.jsonl", {"text": "a"}), jsonl(tmp_path / "b.jsonl", {"text": 5})
    sources = [JSONFiles(str(good)), JSONFiles(str(bad))]
    assert reasons(Mixture(sources, [1, 3])) == [f"{bad}:1: the field 'text' is a number, not text"]
    with pytest.raises(InputError, match=r"^sources\[1\].paths '.*nowhere': no such file"):
        reasons(Mixture([sources[0], JSONFiles(str(tmp_path / "nowhere"))]))
