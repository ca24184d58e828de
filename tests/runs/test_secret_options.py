"""Secrets among the options."""

from pathlib import Path

import pytest
from jsonargparse import Namespace

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.secret_options import check_arguments, check_config, masked
from tests.test_configs import TEXT, TOY, main, options

CANARY = "canary-7b1f0c"


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        *(
            (name, True)
            for name in ("api_key", "api-key", "wandb_api_key", "secret_key", "private-key", "hub_token")
        ),
        *((name, True) for name in ("token", "password", "credentials", "passphrase")),
        *(
            (name, False)
            for name in ("pad_token", "eos_token", "max_new_tokens", "token_dim", "key", "tokenizer")
        ),
    ],
)
def test_names_of_secrets(name: str, refused: bool):
    if refused:
        with pytest.raises(InputError, match="looks like a secret"):
            check_arguments([f"--data.corpus.source.{name}", "x"])
    else:
        check_arguments([f"--data.corpus.source.{name}", "x"])


@pytest.mark.parametrize(
    ("value", "option"),
    [
        ({"token": "x"}, "a.token"),
        (Namespace(init_args=Namespace(api_key="x")), "a.init_args.api_key"),
        ([Namespace(password="x")], "a.password"),
        (["fine", f"hf_{'a' * 34}"], "a"),
    ],
)
def test_secrets_at_any_depth_of_a_configuration(value: object, option: str):
    with pytest.raises(InputError, match=f"^--{option} looks like a secret"):
        check_config(Namespace(a=value))
    check_config(Namespace(a={"token": None, "tokens": ["x"], "password": ""}))


def test_secrets_in_uncommitted_changes_are_masked():
    assert (
        masked(f"+token: hf_{'a' * 34}\n+url: https://me:pass@example.org")
        == "+token: ***\n+url: ***example.org"
    )


def test_a_secret_in_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.yaml").write_text(f"notes: hf_{'a' * 34}\n")
    with pytest.raises(SystemExit) as stop:
        main(*options(tmp_path), *TEXT, *TOY, f"--config={tmp_path / 'mine.yaml'}")
    assert stop.value.code == 2
    assert "--notes looks like a secret" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([f"--data.corpus.source.token={CANARY}"], "--data.corpus.source.token looks like a secret"),
        (["--wandb_api_key", CANARY], "--wandb_api_key looks like a secret"),
        ([f"--notes=hf_{'a' * 34}"], "--notes looks like a secret"),
        (["--notes", f"hf_{'a' * 34}"], "an option's value looks like a secret"),
        (["--data.corpus.source.paths=https://me:pass@example.org/a.txt"], "paths looks like a secret"),
    ],
)
def test_no_secret_is_taken_or_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
):
    with pytest.raises(SystemExit) as stop:
        main(*options(tmp_path), *TEXT, *TOY, *extra)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not any(word in line for word in (CANARY, "aaaa", "pass@"))
    assert not (tmp_path / "logs").exists()
