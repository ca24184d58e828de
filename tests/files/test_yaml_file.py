from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.yaml_file import read_mapping


def test_a_mapping_is_read(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: {c: 人}\n", encoding="utf-8")
    assert read_mapping(path, "corpus") == {"a": 1, "b": {"c": "人"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n", "a.yaml: is no corpus"),
        (b"", "a.yaml: is no corpus"),
        (b"a: 1\nb: [\n", "a.yaml:3: "),
        (b"a: \xff\n", "a.yaml: cannot be read: is not UTF-8"),
        (None, "a.yaml: cannot be read: No such file"),
    ],
)
def test_what_is_no_mapping_is_named_with_its_line(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_mapping(path, "corpus")
