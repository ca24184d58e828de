from gpt2_lightning.runs.run import Run
from gpt2_lightning.runs.settings import differences, settings_of, short_names
from tests.runs.conftest import Write


def test_a_class_stands_under_the_name_of_its_option():
    config = {
        "model": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}, "adapter": None}
    }
    config |= {"run": "a", "trainer": {"logger": {"class_path": "a.B"}, "max_steps": 3}}
    config |= {"data": {"tokenizer": {"class_path": "gpt2_lightning.data.tokenizer.Bytes"}}}
    assert settings_of(config) == {
        "model.optimizer": "AdamW",
        "model.optimizer.lr": 0.1,
        "model.adapter": None,
        "trainer.max_steps": 3,
        "data.tokenizer": "Bytes",
    }


def test_only_settings_that_differ_are_told(write_run: Write):
    runs = [Run(write_run("first")), Run(write_run("second", seed=1)), Run(write_run("other", lr=0.02))]
    found = differences([run.settings for run in runs])
    assert found == {"seed_everything": [0, 1, 0], "model.optimizer.lr": [0.01, 0.01, 0.02]}


def test_short_names_tell_options_apart():
    names = ["model.optimizer.init_args.lr", "samples.every_n_steps", "histograms.every_n_steps", "lr"]
    assert list(short_names(names).values()) == [
        "init_args.lr", "samples.every_n_steps", "histograms.every_n_steps", "lr",
    ]  # fmt: skip
