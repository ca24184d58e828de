import pytest

from gpt2_lightning.errors import FieldError, InputError, placed


def test_places_stand_before_a_field_from_the_outermost_in():
    with pytest.raises(InputError) as raised, placed("--data"), placed("source"), placed("sources[1]"):
        raise FieldError("paths 'x': no such file")
    assert str(raised.value) == "--data.source.sources[1].paths 'x': no such file"


def test_what_has_its_option_already_stays_as_it_is():
    with pytest.raises(InputError) as raised, placed("--other"), placed("--data"):
        raise FieldError("split: is empty")
    assert str(raised.value) == "--data.split: is empty"
    with pytest.raises(InputError, match=r"^--x: is wrong$"), placed("--data"):
        raise InputError("--x: is wrong")
