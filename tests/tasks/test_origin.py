"""What a run says of where its figures come from."""

import pytest

from ddist.tasks import origin


def test_the_command_is_what_people_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "words", lambda: ["~recipe", "method=dm", "dataset.folder=a b"])
    assert origin.command() == "ddist recipe=null method=dm 'dataset.folder=a b'"
