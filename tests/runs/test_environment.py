import subprocess
from pathlib import Path
from unittest import mock

from gpt2_lightning.runs import environment


def test_environment_names_versions_and_hardware():
    found = environment.environment()
    assert {"torch", "lightning", "transformers"} <= set(found["packages"])
    assert {"python", "platform", "git_commit", "git_diff", "cpu_count", "gpus"} <= set(found)


def test_a_diff_of_any_bytes_is_told_and_none_is_told_from_unknown(tmp_path: Path):
    def git(*arguments: str) -> None:
        own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *own, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "module.py").touch()
    with mock.patch.object(environment, "__file__", str(tmp_path / "module.py")):
        environment.git.cache_clear()
        assert environment.environment()["git_diff"] is None, "there is no repository"
        git("init")
        git("add", ".")
        git("commit", "-m", "first")
        environment.git.cache_clear()
        assert environment.environment()["git_diff"] == ""
        (tmp_path / "module.py").write_bytes(b"caf\xe9\n")
        environment.git.cache_clear()
        assert "+caf\N{REPLACEMENT CHARACTER}" in environment.environment()["git_diff"]
    environment.git.cache_clear()
