"""The model card of an export."""

import json
from pathlib import Path

import yaml


def test_the_export_has_a_card_of_its_run(trained: Path):
    card = (trained / "export" / "README.md").read_text()
    header, text = yaml.safe_load(card.split("---")[1]), card.split("---", 2)[2]
    assert (header["library_name"], header["pipeline_tag"]) == ("transformers", "text-generation")
    summary = json.loads((trained / "summary.json").read_text())
    for fact in (
        trained.name,
        f"{summary['val_nll']:.4f}",
        "TextFiles `assets`",
        "4 optimizer steps",
        "MuonAdamW",
    ):
        assert fact in text
    assert "base_model" not in header
    assert "README.md" in (trained / "export" / "SHA256SUMS").read_text()
