"""The pace of one domain: told by times that go in and come out, without any waiting."""

import math

import pytest

from openimager.web.politeness import Pace, registered_domain, retry_after


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://farm1.staticflickr.com/a.jpg", "staticflickr.com"),
        ("https://c7.STATICFLICKR.com./a.jpg", "staticflickr.com"),
        ("https://open-images-dataset.s3.amazonaws.com/a.jpg", "amazonaws.com"),
        ("https://photos.example.co.uk/a.jpg", "example.co.uk"),
        ("https://co.uk.example.com/a.jpg", "example.com"),
        ("http://127.0.0.1:8000/a.jpg", "127.0.0.1:8000"),
        ("http://[::1]:8000/a.jpg", "::1:8000"),
        ("http://nas:81/a.jpg", "nas:81"),
        ("https://nas/a.jpg", "nas:443"),
    ],
)
def test_registered_domain(url, domain):
    """Hosts of one owner count as one; addresses and bare names stand for themselves."""
    assert registered_domain(url) == domain


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), (" 0 ", 0.0), ("-3", None), ("1.5", None), ("", None), (None, None), ("x", None)],
)
def test_retry_after(value, seconds):
    """Whole seconds are taken, nonsense is not."""
    assert retry_after(value) == seconds


def test_retry_after_date_in_the_past():
    """A date that has passed asks for no wait, not for a negative one."""
    assert retry_after("Thu, 01 Jan 1970 00:00:10 GMT", now=99.0) == 0.0


def pace(rate=10, backoff=1.0, longest_wait=60.0, strikes=8):
    return Pace(rate, backoff, longest_wait, strikes)


def test_cap():
    """At ten a second, the sixth request goes half a second after the first."""
    domain, now = pace(), 0.0
    for _ in range(5):
        domain.sent(now)
        now += domain.wait(now)
    assert now == pytest.approx(0.5)


def test_cap_does_not_save_up():
    """A pause is not made up for by a burst."""
    domain = pace()
    domain.sent(0.0)
    assert domain.wait(9.0) == 0.0
    domain.sent(9.0)
    assert domain.wait(9.0) == pytest.approx(0.1)


def test_no_cap():
    """A rate of 0 lets everything go at once."""
    domain = pace(rate=0)
    for _ in range(100):
        assert domain.wait(0.0) == 0.0
        domain.sent(0.0)


def test_429_waits_for_retry_after_within_bounds():
    """The domain waits as long as it asks, and no longer than the bound."""
    for after, waited in ((5.0, 5.0), (3600.0, 60.0), (0.0, 0.2)):
        domain = pace()
        domain.sent(0.0)
        domain.answered(0.0, 1.0, busy=True, after=after)
        assert domain.wait(1.0) == pytest.approx(waited)


def test_429_without_retry_after_backs_off():
    """Each 429 in a row doubles the wait, with jitter on top."""
    domain, now = pace(), 0.0
    for strike in range(4):
        domain.sent(now)
        domain.answered(now, now + 0.1, busy=True)
        wait = domain.wait(now + 0.1)
        assert 2**strike <= wait <= 1.5 * 2**strike
        now += 0.1 + wait


def test_slower_after_429_and_recovering():
    """The rate is halved by a 429, and comes back by and by, never above what it was."""
    domain, now = pace(), 0.0
    domain.sent(now)
    domain.answered(now, 0.1, busy=True, after=1.0)
    assert domain.interval == pytest.approx(0.2)
    intervals = []
    for now in range(2, 14):
        domain.sent(now)
        domain.answered(now, now + 0.1, busy=False)
        intervals.append(domain.interval)
    assert intervals[0] > 0.15
    assert intervals[8] > 0.1
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] == pytest.approx(0.1)


def test_a_tenth_of_429s_does_not_stop_a_domain():
    """Halving and recovering balance well above a crawl, however long it goes on."""
    domain, now = pace(), 0.0
    for number in range(1000):
        now += domain.wait(now)
        domain.sent(now)
        domain.answered(now, now, busy=number % 10 == 0, after=0.0)
    assert 3 < 1000 / now < 10


def test_uncapped_domain_recovers_entirely():
    """Without a cap a 429 slows down too, and is forgotten in the end."""
    domain = pace(rate=0)
    domain.sent(0.0)
    domain.answered(0.0, 0.1, busy=True, after=0.0)
    assert domain.interval > 0
    for now in range(1, 60):
        domain.sent(now)
        domain.answered(now, now, busy=False)
    assert domain.interval == 0.0


def test_one_at_a_time_after_429():
    """After a 429 nothing goes while a request is under way, until one is answered otherwise."""
    domain = pace()
    domain.sent(0.0)
    domain.answered(0.0, 0.1, busy=True, after=1.0)
    domain.sent(2.0)
    assert domain.wait(9.0) == math.inf
    domain.answered(2.0, 9.0, busy=False)
    domain.sent(10.0)
    assert domain.wait(11.0) == 0.0


def test_burst_is_one_strike():
    """429s to requests that were under way when the first arrived are no news."""
    domain = pace(rate=0, strikes=2)
    for _ in range(16):
        domain.sent(0.0)
    for _ in range(16):
        domain.answered(0.0, 0.5, busy=True, after=1.0)
    assert domain.strikes == 1
    assert not domain.closed


def test_old_good_news_does_not_reset():
    """An answer to a request from before the 429 does not take it back."""
    domain = pace()
    domain.sent(0.0)
    domain.sent(0.1)
    domain.answered(0.0, 1.0, busy=True, after=1.0)
    domain.answered(0.1, 1.1, busy=False)
    assert domain.strikes == 1


@pytest.mark.parametrize("broken_by", [False, None])
def test_left_alone_after_strikes_in_a_row(broken_by):
    """Eight in a row close a domain; another answer begins the count anew, no answer does not."""
    domain, now = pace(), 0.0
    for busy in [True] * 7 + [broken_by] + [True] * 7:
        domain.sent(now)
        domain.answered(now, now + 0.1, busy=busy, after=0.0)
        now += 100.0
    assert domain.closed == (broken_by is None)
    domain.sent(now)
    domain.answered(now, now + 0.1, busy=True)
    assert domain.closed
