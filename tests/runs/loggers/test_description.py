from gpt2_lightning.runs.loggers.description import Description, WhenUsed


def test_settings_by_their_whole_names_as_a_table_takes_them():
    settings = {"model": {"adapter": None, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}}, "compile": True}
    assert Description(settings).flat() == {
        "model.optimizer.lr": 0.1,
        "model.optimizer.betas": "[0.9, 0.99]",
        "compile": True,
    }


def test_nothing_is_made_before_it_is_used():
    made = []

    def make() -> list[int]:
        made.append(1)
        return made

    stand_in = WhenUsed(make)
    assert made == []
    assert stand_in.count(1) == 1
