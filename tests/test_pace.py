"""Rate limits of one domain, tested with simulated times."""

import math

import pytest

from openimager.photos.pace import Pace, registered_domain
from openimager.tables.fetch import retry_after


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
    """Hosts under one registered domain share a limit; addresses and bare names have their own."""
    assert registered_domain(url) == domain


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), (" 0 ", 0.0), ("-3", None), ("1.5", None), ("", None), (None, None), ("x", None)],
)
def test_retry_after(value, seconds):
    """Whole seconds are accepted, other values are ignored."""
    assert retry_after(value) == seconds


def test_retry_after_date_in_the_past():
    """A date in the past gives a wait of 0, not a negative one."""
    assert retry_after("Thu, 01 Jan 1970 00:00:10 GMT") == 0.0


def refused(domain, now, after=None, busy=True):
    """Send a request at `now` that is refused 0.1 s later."""
    domain.sent(now)
    domain.answered(now, now + 0.1, busy=busy, after=after)
    return domain.until - (now + 0.1)


def test_rate():
    """At ten per second, the sixth request is sent half a second after the first."""
    domain, now = Pace(rate=10), 0.0
    for _ in range(5):
        domain.sent(now)
        now += domain.delay(now)
    assert now == pytest.approx(0.5)


def test_rate_does_not_save_up():
    """After an idle time, requests are still sent at the given rate."""
    domain = Pace(rate=10)
    domain.sent(0.0)
    assert domain.delay(9.0) == 0.0
    domain.sent(9.0)
    assert domain.delay(9.0) == pytest.approx(0.1)


def test_no_cap():
    """A rate of 0 means no limit."""
    domain = Pace(rate=0)
    for _ in range(100):
        assert domain.delay(0.0) == 0.0
        domain.sent(0.0)


def test_few_requests_in_flight_at_first():
    """At first few requests are in flight; after 36 good answers there is no such limit."""
    domain = Pace(window=12)
    for _ in range(12):
        domain.sent(0.0)
    for _ in range(36):
        assert domain.delay(0.0) == math.inf
        domain.answered(0.0, 0.1, busy=False)
        assert domain.delay(0.1) == 0.0
        domain.sent(0.1)
    for _ in range(1000):
        assert domain.delay(0.1) == 0.0
        domain.sent(0.1)


@pytest.mark.parametrize("after", [0.5, 5.0, 7200.0])
def test_retry_after_is_honoured(after):
    """After a first refusal, the domain waits exactly as long as Retry-After says."""
    domain = Pace()
    assert refused(domain, 0.0, after) == pytest.approx(after)
    assert domain.waits(after) and not domain.waits(after + 0.11)


def test_retry_after_of_another_status():
    """After a 503, the domain waits only if there is a Retry-After."""
    assert refused(Pace(), 0.0, 5.0, busy=False) == pytest.approx(5.0)
    domain = Pace()
    refused(domain, 0.0, None, busy=False)
    assert not domain.waits(0.2)


def test_pause_grows():
    """Without Retry-After, the pause starts at 30 s and doubles up to ten minutes."""
    domain, now, pauses = Pace(), 0.0, []
    for _ in range(7):
        pauses.append(round(refused(domain, now), 3))
        now = domain.until
    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def test_wrong_retry_after_grows_too():
    """If a domain keeps refusing after its own Retry-After, the pauses grow."""
    domain, now, pauses = Pace(), 0.0, []
    for _ in range(8):
        pauses.append(refused(domain, now, 1.0))
        now = domain.until
    assert pauses[:2] == pytest.approx([1.0, 1.0])
    assert pauses[-1] > 30


def test_one_probe_at_a_time_and_open_after_an_answer():
    """After the pause one request is sent, and each answer allows one more."""
    domain = Pace()
    refused(domain, 0.0)
    assert domain.waits(30.0) and not domain.waits(30.2)
    domain.sent(30.2)
    assert domain.waits(31.0)
    domain.answered(30.2, 31.0, busy=False)
    assert not domain.waits(31.0) and domain.delay(31.0) == 0.0
    domain.sent(31.0)
    domain.sent(31.0)
    assert not domain.waits(31.0) and domain.delay(31.0) == math.inf
    # The next pause has the initial length again.
    domain.answered(31.0, 31.1, busy=True)
    assert domain.until == pytest.approx(61.1)


def test_burst_is_one_refusal():
    """Several 429s to requests that were in flight together count as one refusal."""
    domain = Pace()
    for _ in range(16):
        domain.sent(0.0)
    for number in range(16):
        domain.answered(0.0, 0.5 + number / 100, busy=True)
    assert domain.strikes == 1
    assert domain.until == pytest.approx(30.65)


@pytest.mark.parametrize("busy", [False, None])
def test_old_answers_do_not_count(busy):
    """An answer to a request sent before the 429 does not end the pause."""
    domain = Pace()
    domain.sent(0.0)
    domain.sent(0.1)
    domain.answered(0.0, 1.0, busy=True)
    domain.answered(0.1, 1.1, busy=busy)
    assert domain.strikes == 1 and domain.waits(2.0)


def test_silent_domain_waits_and_is_given_up():
    """A domain without answers is probed a few times, then given up; an answer resets this."""
    domain, now = Pace(), 0.0
    for _ in range(7):
        refused(domain, now, busy=None)
    assert not domain.waits(0.2)
    domain.sent(0.3)
    domain.answered(0.3, 0.4, busy=False)
    for _ in range(8):
        now += 1
        refused(domain, now, busy=None)
    assert domain.waits(now + 0.2) and not domain.closed
    for _ in range(4):
        now = domain.until
        refused(domain, now, busy=None)
    assert domain.closed and not domain.waits(now)
