from gpt2_lightning.runs.environment import environment


def test_environment_names_versions_and_hardware():
    found = environment()
    assert {"torch", "lightning", "transformers"} <= set(found["packages"])
    assert {"python", "platform", "git_commit", "git_diff", "cpu_count", "gpus"} <= set(found)
