"""Being asked to stop: SIGTERM, SIGHUP, Ctrl-C, or the whole cluster is preempted."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

# A terminal that is closed sends SIGHUP; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
_HANDLED = tuple(n for n in (signal.SIGTERM, signal.SIGINT, _HANGUP) if n is not None)


def stop_exit_code(received: signal.Signals | None) -> int:
    """Exit code of a command that was asked to stop, and saved: 130 after Ctrl-C."""
    return 130 if received == signal.SIGINT else 0


class StopSignals:
    """A context in which a signal to stop is noted instead of obeyed.

    A second Ctrl-C is obeyed at once. SIGHUP stays ignored where it is, as `nohup`
    has it. Handlers are set in the main thread only, and put back on leaving. Under
    jax.distributed all are left alone: JAX handles SIGTERM, and lets all processes
    agree on the step to stop at.
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
        """The run should save and stop after this step; the same in every process."""
        if self._distributed and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
