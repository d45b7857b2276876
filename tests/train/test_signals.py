"""Stop signals are recorded, and handlers are restored."""

import signal
import threading

import pytest

from memzoo.train import signals
from memzoo.train.signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_and_the_handler_put_back(number):
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert not stop.asked(1)
        signal.raise_signal(number)
        assert stop.asked(2) and stop.received == number
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_ignored():
    """`nohup` starts a command this way."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked(1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_is_obeyed():
    with StopSignals(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_other_threads_leave_handlers_alone():
    found = []

    def run():
        with StopSignals() as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.asked(1)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(before, False)]


def test_under_jax_distributed_all_processes_agree(monkeypatch):
    monkeypatch.setattr(signals.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        signals.multihost_utils, "reached_preemption_sync_point", lambda step: step == 3
    )
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGTERM) is before
        assert [stop.asked(step) for step in (2, 3)] == [False, True]
        assert stop.received == signal.SIGTERM
