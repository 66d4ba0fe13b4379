"""Passwords cannot be guessed fast, by one address or many, and sessions end."""

import pytest

from uncus.app import logins as module
from uncus.app.logins import FREE, LIFETIME, LONGEST_LOCK, PER_MINUTE, Logins, group


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_waits_ever_longer() -> None:
    clock = Clock()
    logins = Logins("right", clock)
    for _ in range(FREE):
        assert logins.wait("192.0.2.1") == 0 and not logins.login("192.0.2.1", "wrong")
    waits = []
    for _ in range(12):
        waits.append(logins.wait("192.0.2.1"))
        clock.now += waits[-1] - 0.01
        assert not logins.login("192.0.2.1", "right"), "the lock says nothing about a password"
        clock.now += 0.01
        assert not logins.login("192.0.2.1", "wrong")
    assert waits[:3] == pytest.approx([10, 20, 40]) and waits[-1] == pytest.approx(LONGEST_LOCK)
    assert logins.login("192.0.2.2", "right")  # others do not wait
    clock.now += LONGEST_LOCK + 1
    assert logins.login("192.0.2.1", "right") and logins.wait("192.0.2.1") == 0


def test_a_day_of_guessing_is_few_guesses() -> None:
    clock = Clock()
    logins, guesses = Logins("right", clock), 0
    while clock.now < 86_400:
        wait = logins.wait("192.0.2.1")
        clock.now += wait or 0.001
        if not wait:
            logins.login("192.0.2.1", "wrong")
            guesses += 1
    assert guesses < 50


def test_many_addresses_guess_no_faster() -> None:
    clock = Clock()
    logins = Logins("right", clock)
    token = logins.login("192.0.2.200", "right")
    for number in range(500):
        logins.login(f"198.51.100.{number % 250}", "wrong")
    assert len(logins.recent) == PER_MINUTE
    assert 0 < logins.wait("203.0.113.1") <= 60 and not logins.login("203.0.113.1", "right")
    assert logins.logged_in(token), "who is in notices nothing"
    clock.now += 61
    assert logins.login("203.0.113.1", "right")


def test_sessions_end() -> None:
    clock = Clock()
    logins = Logins("right", clock)
    one, other = logins.login("a", "right"), logins.login("a", "right")
    assert one != other and logins.logged_in(one) and not logins.logged_in("")
    logins.logout(one)
    assert not logins.logged_in(one) and logins.logged_in(other)
    clock.now += LIFETIME
    assert not logins.logged_in(other)
    logins.login("a", "right")
    assert len(logins.sessions) == 1


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_MINUTE", 10**9)
    monkeypatch.setattr(module, "MAX_ADDRESSES", 10)
    logins = Logins("right", Clock())
    for number in range(100):
        logins.login(f"192.0.2.{number}", "wrong")
    assert list(logins.wrong) == [f"192.0.2.{number}" for number in range(90, 100)]


def test_what_counts_as_one_address() -> None:
    assert group("192.0.2.1") != group("192.0.2.2")
    assert group("2001:db8::1") == group("2001:db8::2:3") != group("2001:db8:0:1::1")
    assert group("::ffff:192.0.2.1") == "192.0.2.1" and group("") == ""
