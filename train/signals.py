"""Requests to stop: SIGTERM, SIGHUP, Ctrl-C, or preemption of the whole cluster."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

# Closing a terminal sends SIGHUP; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
_HANDLED = tuple(n for n in (signal.SIGTERM, signal.SIGINT, _HANGUP) if n is not None)


def stop_exit_code(received: signal.Signals | None) -> int:
    """Return the exit code of a command that was stopped and saved: 130 after
    Ctrl-C.
    """
    return 130 if received == signal.SIGINT else 0


class StopSignals:
    """Context in which a signal to stop is recorded instead of obeyed.

    A second Ctrl-C is obeyed immediately. SIGHUP stays ignored if it was, as under
    `nohup`. Handlers are set only in the main thread, and restored on leaving. Under
    jax.distributed no handler is set: JAX handles SIGTERM, and lets all processes agree
    on the step to stop at.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._distributed = jax.distributed.is_initialized()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if (
            threading.current_thread() is threading.main_thread()
            and not self._distributed
        ):
            for number in _HANDLED:
                if number == _HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self, step: int) -> bool:
        """Return whether to save and stop after this step; the same in every
        process.
        """
        if self._distributed and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
