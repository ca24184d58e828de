"""The commands that are no verbs of Lightning's Trainer: `python -m gpt2_lightning sample`."""

import sys
from collections.abc import Sequence

from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.generate import sample
from gpt2_lightning.model.sampling import Sampling
from gpt2_lightning.option_errors import Parser, fail
from gpt2_lightning.quiet import quiet


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        args: options; `sys.argv`'s if not given.
    """
    quiet()
    parser = Parser(prog="python -m gpt2_lightning", description="Use what training made.")
    commands = parser.add_subcommands()
    commands.add_subcommand("sample", _sample_parser(), help="continue a prompt with a trained model")
    config = parser.parse_args(args)
    try:
        options = config.sample.as_dict()
        sampling = Sampling(**{name: options.pop(name) for name in Sampling.__dataclass_fields__})
        sample(sampling, **options)
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _sample_parser() -> Parser:
    parser = Parser(description="Continue a prompt with a trained model, printed as it is written.")
    parser.add_function_arguments(sample, skip={"sampling"})
    parser.add_class_arguments(Sampling)
    return parser


if __name__ == "__main__":
    sys.exit(main())
