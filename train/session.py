"""One stretch of a run: from where it starts to where it ends or is stopped."""

import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
import numpy as np

from memzoo.errors import NonFiniteError

from ..configs.experiment import ExperimentConfig
from ..configs.serialise import to_json
from ..data.pipeline import Pipeline
from ..data.task import has_split
from ..evals.evaluate import Evaluation, evaluate
from .checkpoint import Checkpoints, Restored, saved_steps
from .metrics import RunLog
from .program import Program
from .progress import Screen
from .signals import StopSignals, stop_exit_code
from .state import TrainState
from .step import StepMetrics

# Steps that the program may be ahead of the devices.
_AHEAD = 2

OnLog = Callable[[dict[str, Any]], None]
Evaluate = Callable[..., Evaluation]


@dataclass(frozen=True)
class TrainResult:
    """End of a run.

    Attributes:
        step: steps done.
        status: `done`; `preempted`: asked to stop, and saved; `stopped_early`: reached
            `stop_at_accuracy`.
        evaluation: last evaluation: `step`, `accuracy`, `loss` and `rows`; None: the
            task has no validation split.
        asked: signal to stop that arrived, whatever the status; after the last step it
            cannot stop this run, but the caller should start nothing more.
    """

    step: int
    status: Literal["done", "preempted", "stopped_early"]
    evaluation: dict[str, Any] | None
    asked: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """Return the command's exit code: 130 if Ctrl-C stopped the run, else 0."""
        return stop_exit_code(self.asked) if self.status == "preempted" else 0


class Session:
    """Training from `restored`, or from the beginning, to the end of the run."""

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        program: Program,
        restored: Restored | None,
        data: Pipeline,
        checkpoints: Checkpoints,
        log: RunLog,
        screen: Screen,
        on_log: OnLog | None,
        evaluator: Evaluate | None,
    ) -> None:
        self._config = config
        self._program = program
        self._data = data
        self._checkpoints = checkpoints
        self._log = log
        self._screen = screen
        self._on_log = on_log
        self._evaluate = evaluate if evaluator is None else evaluator
        self._measured = has_split(config.task, "validation")
        self._saved = checkpoints.saved_step
        self._step = 0 if restored is None else restored.step
        self._evaluation = log.last_evaluation
        self._state: TrainState = program.init() if restored is None else restored.state
        self._clock = _Clock()

    def run(self, signals: StopSignals) -> TrainResult:
        """Train until the run is done, or was stopped and saved.

        Raises:
            NonFiniteError: a loss, gradient, update or evaluation is not finite.
            SaveError: a file could not be written.
        """
        try:
            return self._run(signals)
        except NonFiniteError as error:
            error.asked = signals.received
            raise

    def _run(self, signals: StopSignals) -> TrainResult:
        config = self._config
        if self._step and (
            self._step >= config.steps or _due(self._step, config.evaluate_every)
        ):
            # A run that ended between saving and evaluating has not evaluated this
            # step.
            self._measure()
        if self._reached_accuracy():
            return self._end("stopped_early", signals)
        ahead: deque[jax.Array] = deque()
        self._screen.at(self._step)
        if self._step < config.steps:
            self._screen.compiling()
        while self._step < config.steps:
            batch = self._program.put(next(self._data))
            self._state, metrics = self._program.step(self._state, batch)
            self._step += 1
            self._clock.count(batch.tokens.size, metrics["loss"])
            ahead.append(metrics["loss"])
            if len(ahead) > _AHEAD:
                ahead.popleft().block_until_ready()
            self._screen.at(self._step)
            last = self._step == config.steps
            if last or self._step % config.log_every == 0:
                self._report(metrics, batch.tokens.size)
            asked = signals.asked(self._step)
            if last or asked or _due(self._step, config.checkpoint_every):
                self._save()
            if asked and not last:
                return self._interrupted(signals)
            # Evaluate after saving, because it can fail or take long.
            if last or _due(self._step, config.evaluate_every):
                self._measure()
            if self._reached_accuracy():
                self._save()
                return self._end("stopped_early", signals)
        return self._end("done", signals)

    def _report(self, metrics: StepMetrics, tokens_a_step: int) -> None:
        """Write a line of metrics.jsonl."""
        values = jax.device_get(metrics)
        self._check_finite()
        line = {
            "step": self._step,
            "loss": float(values.pop("loss")),
            "tokens": self._step * tokens_a_step,
            "tokens_per_second": round(self._clock.tokens_per_second(), 1),
        } | {name: np.asarray(value).tolist() for name, value in values.items()}
        self._log.step(line)
        self._screen.numbers(line)
        if self._on_log is not None:
            self._on_log(line)

    def _measure(self) -> None:
        """Evaluate on the validation split, if there is one, at most once per step."""
        before = self._evaluation
        if not self._measured or (before is not None and before["step"] == self._step):
            return
        self._check_finite()
        config, state = self._config, self._state
        self._clock.pause()
        try:
            found = self._evaluate(
                self._program.template.merge(state.params, state.rest),
                config.task,
                split="validation",
                examples=config.evaluation_examples,
                batch_size=config.batch_size,
            )
        except NonFiniteError as error:
            said = f"the evaluation is not finite at step {self._step}"
            raise self._not_finite(said, self._step) from error
        self._evaluation = {"step": self._step} | asdict(found)
        self._log.evaluation(self._evaluation)
        self._clock.resume()

    def _save(self) -> None:
        """Start to save a checkpoint of this step."""
        self._check_finite()
        self._clock.pause()
        if self._saved != self._step:
            self._checkpoints.save(
                self._step, self._state, self._data, to_json(self._config)
            )
            self._saved = self._step
        self._clock.resume()

    def _check_finite(self) -> None:
        """Check that every step so far was finite; reads one number from the device."""
        failed = int(self._state.failed_step)
        if failed >= 0:
            said = f"the loss, a gradient or an update is not finite at step {failed}"
            raise self._not_finite(said, failed - 1)

    def _not_finite(self, said: str, suspect: int) -> NonFiniteError:
        """Return an error that names the last checkpoint before the problem.

        Args:
            said: what is not finite, and when.
            suspect: step whose parameters caused it.
        """
        self._checkpoints.wait()
        steps = saved_steps(self._checkpoints.directory)
        good = [step for step in steps if step < suspect]
        if good:
            rest = f"the last good checkpoint is step {good[-1]}"
        elif suspect in steps:
            rest = f"the checkpoint of step {suspect} leads here, and no other is left"
        else:
            rest = "there is no checkpoint"
        optimizer = self._config.optimizer
        return NonFiniteError(
            f"{said}; {rest}; try a lower learning_rate (now "
            f"{optimizer.learning_rate}), a smaller clip_norm (now "
            f"{optimizer.clip_norm}) or more warmup_steps (now "
            f"{optimizer.warmup_steps})"
        )

    def _reached_accuracy(self) -> bool:
        wanted, found = self._config.stop_at_accuracy, self._evaluation
        return (
            wanted is not None
            and found is not None
            and found["step"] == self._step
            and found["accuracy"] >= wanted
        )

    def _interrupted(self, signals: StopSignals) -> TrainResult:
        assert signals.received is not None
        result = self._end("preempted", signals)
        self._screen.say(
            f"{signals.received.name}: saved at step {self._step} of "
            f"{self._config.steps}; start the command again to continue"
        )
        return result

    def _end(
        self,
        status: Literal["done", "preempted", "stopped_early"],
        signals: StopSignals,
    ) -> TrainResult:
        self._checkpoints.wait()
        self._log.timings(self._clock.summary())
        return TrainResult(self._step, status, self._evaluation, signals.received)


class _Clock:
    """Tokens and seconds of training, without compilation, evaluation and saving."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._first_step: float | None = None
        self._started: float | None = None
        self._seconds = 0.0
        self._tokens = 0
        self._reported = (0.0, 0)

    def count(self, tokens: int, loss: jax.Array) -> None:
        """Count a step that was started; wait for the first one, which compiles."""
        if self._first_step is None:
            loss.block_until_ready()
            self._first_step = time.monotonic() - self._begin
            self._started = time.monotonic()
            return
        self._tokens += tokens

    def pause(self) -> None:
        """Stop counting time: training pauses."""
        if self._started is not None:
            self._seconds += time.monotonic() - self._started
            self._started = None

    def resume(self) -> None:
        """Count time again: training continues."""
        if self._first_step is not None:
            self._started = time.monotonic()

    def tokens_per_second(self) -> float:
        """Return the speed since the last call; 0 if unknown."""
        seconds, tokens = self._elapsed(), self._tokens
        before = self._reported
        self._reported = (seconds, tokens)
        passed = seconds - before[0]
        return (tokens - before[1]) / passed if passed > 0 else 0.0

    def summary(self) -> dict[str, float]:
        """Return this process's entry for timings.json."""
        seconds = self._elapsed()
        return {
            "wall_seconds": round(time.monotonic() - self._begin, 3),
            "first_step_seconds": round(self._first_step or 0.0, 3),
            "training_seconds": round(seconds, 3),
            "tokens": self._tokens,
            "tokens_per_second": round(self._tokens / seconds, 1) if seconds else 0.0,
        }

    def _elapsed(self) -> float:
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._seconds + running


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
