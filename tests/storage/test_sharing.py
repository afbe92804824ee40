"""What is said while processes share a work; the rest is tested where it is used."""

import pytest

from ddist.storage.sharing import SharedProgress, share

SHORTER = "Fewer experts take less."


def test_the_time_left_is_told_after_the_first_epoch_and_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    left = 2000
    progress = SharedProgress("experts", "epochs", lambda: left, SHORTER)
    said, more = {}, []
    for _ in range(1000):  # this process; another one does as much
        now, left = now + 10, left - 2
        progress.advance()
        if caplog.messages:
            said[left], *rest = caplog.messages
            more += rest
            caplog.clear()
    progress.end()
    assert said[1998] == "experts: 2/2,000 epochs · 2 h 46 min left"
    assert said[1986] == "experts: 14/2,000 epochs · 2 h 46 min left"  # a minute later
    assert said[6] == "experts: 1,994/2,000 epochs · 30 s left"
    assert len(said) == 167
    assert more == [SHORTER]
    assert caplog.messages == ["experts: all are there, after 2 h 47 min"]


def test_quick_epochs_are_told_by_tenths_and_rarely_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now, looks, left = 0.0, 0, 1000
    monkeypatch.setattr("time.monotonic", lambda: now)

    def count() -> int:
        nonlocal looks
        looks += 1
        return left

    progress = SharedProgress("experts", "epochs", count, SHORTER)
    for _ in range(1000):
        now, left = now + 0.02, left - 1
        progress.advance()
    assert 10 <= len(caplog.messages) <= 11 and looks <= 22


def test_what_is_done_in_vain_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(RuntimeError, match="b was done 20 times, and is not there"):
        share(lambda: ["a", "b"], lambda job: job == "b", lambda job: None)
