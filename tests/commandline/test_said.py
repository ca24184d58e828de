from pathlib import Path

from gpt2_lightning.commandline.said import Said


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_later_layers_count_over_earlier_ones(tmp_path: Path):
    default = Path(write(tmp_path / "default.yaml", "trainer: {max_steps: 5, max_epochs: null}"))
    own = write(tmp_path / "own.yaml", "trainer: {max_epochs: 3}\nmodel: {optimizer: {init_args: {lr: 1}}}")
    said = Said(["--config", own, "--model.optimizer.lr=2", "--trainer.max_time", "00:00:01:00"], default)
    names = ("trainer.max_steps", "trainer.max_epochs", "model.optimizer.lr", "trainer.max_time", "run")
    assert [said.last(name) for name in names] == [0, 1, 2, 3, -1], "what is null is not said"
    assert said.typed("model.optimizer") == {"model.optimizer.lr": 2}
    assert Said(["--config", own]).last("model.optimizer.lr") == 0
    assert said.typed("trainer") == {"trainer.max_time": "00:00:01:00"}


def test_a_class_that_is_named_after_another_starts_anew(tmp_path: Path):
    own = write(
        tmp_path / "own.yaml", "model: {optimizer: {class_path: a.Muon, init_args: {lr: 1, beta: 2}}}"
    )
    other = Said(["--config", own, "--model.optimizer", "torch.AdamW", "--model.optimizer.lr", "3"])
    settings = other.settings("model.optimizer")
    assert (settings.kind, settings.own, settings.fallen) == ("torch.AdamW", {"lr": 3}, {"lr": 1, "beta": 2})
    same = Said(["--config", own, "--model.optimizer=Muon", "--model.optimizer.init_args.lr=3"])
    settings = same.settings("model.optimizer")
    assert (settings.own, settings.fallen) == ({"lr": 3, "beta": 2}, {})
    whole = Said(["--model.optimizer", "{class_path: AdamW, init_args: {lr: 4}}"]).settings("model.optimizer")
    assert (whole.kind, whole.own) == ("AdamW", {"lr": 4})


def test_a_file_fills_its_whole_section(tmp_path: Path):
    write(tmp_path / "corpus.yaml", "source: {class_path: TextFiles, init_args: {paths: x, separator: ''}}")
    own = write(tmp_path / "own.yaml", "data: {corpus: corpus.yaml, block_size: 8}")
    book = write(tmp_path / "book.yaml", "source: {class_path: TextFiles, init_args: {paths: y}}")
    said = Said(["--config", own, "--data.corpus", book])
    settings = said.settings("data.corpus.source")
    assert (settings.own, settings.replaced) == ({"paths": "y"}, {"paths": "x", "separator": ""})
    assert said.piece("data.corpus") == Path(book)
    assert Said(["--config", own]).piece("data.corpus") is None, "it is not typed"
    assert said.last("data.block_size") == 0


def test_what_the_parser_will_refuse_is_left_to_it(tmp_path: Path):
    broken = write(tmp_path / "broken.yaml", "a: [")
    said = Said(["--config", "nowhere.yaml", f"--data.corpus={broken}", "--x", "[", "--", "-1", "--y"])
    assert said.last("data.corpus") >= 0
    assert said.last("x") >= 0
    assert Said([]).layers == []
