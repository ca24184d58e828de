import pytest

from gpt2_lightning.commandline.option_errors import explain

KNOWN = ["trainer.max_steps", "data.block_size", "model.architecture.n_layer"]


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        (
            "Parser key \"trainer.max_steps\":\n  Expected a <class 'int'>. Got value: abc",
            [],
            "--trainer.max_steps: Expected a <class 'int'>. Got value: abc",
        ),
        (
            'Parser key "vocab_size":\n  Not of type BPEVocabSize: 2 does not conform to restriction v>=257',
            ["--data.corpus.tokenizer.vocab_size=2"],
            "--data.corpus.tokenizer.vocab_size: 2 is out of range: it must be >=257",
        ),
        (
            "unrecognized arguments: --trainer.max_step 3",
            ["--trainer.max_step", "3"],
            "--trainer.max_step: no such option; did you mean --trainer.max_steps?",
        ),
        (
            "Subcommand 'fit' does not accept option 'data.blok_size'",
            [],
            "--data.blok_size: no such option; did you mean --data.block_size?",
        ),
        (
            "Option 'lrr' is not accepted",
            ["--model.optimizer.lrr", "3"],
            "--model.optimizer.lrr: no such option; --model.optimizer names another class, or none before it",
        ),
        (
            "the following arguments are required: fit.data.corpus",
            [],
            "--data.corpus must be given; DATA= or an experiment's file under configs/ does so",
        ),
        (
            "the following arguments are required: last_words.models, last_words.texts",
            ["last_words"],
            "models, --texts must be given",
        ),
        ("something\n  else", [], "something else"),
    ],
)
def test_one_line_with_the_whole_name(message: str, arguments: list[str], expected: str):
    assert explain(message, KNOWN, arguments) == expected
