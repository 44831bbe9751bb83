"""One engine in one thread, and the requests that are gathered for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from spikeclip.encode.encoder import Encoder, format_of, text_list
from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.serve.refusals import LOG, busy
from spikeclip.serve.settings import Settings

Result = TypeVar("Result")
Kind = Literal["image", "text", "alone"]


class _Job(NamedTuple):
    kind: Kind
    inputs: Any
    size: int
    since: float
    future: Future


class Batched:
    """An encoder whose calls, from any thread, wait for a batch with those of others.

    encoder: runs in one thread of its own. seen: called with the kind of every batch, its inputs and seconds. A batch
    starts when its oldest input has waited for `Settings.wait`; while the engine is busy the next ones are gathered. A
    call that is not answered within `Settings.timeout` raises `Refused` (503).
    """

    def __init__(
        self, encoder: Encoder, settings: Settings, seen: Callable[[str, int, float], None] | None = None
    ) -> None:
        self.encoder, self.settings, self._seen = encoder, settings, seen
        self.name, self.dim, self.fingerprint = encoder.name, encoder.dim, encoder.fingerprint
        self.image_format, self.logit_scale = format_of(encoder), encoder.logit_scale
        self.provenance, self.taught = encoder.provenance, encoder.taught
        self._jobs: list[_Job] = []
        self._changed, self._closed = Condition(), False
        self._thread = Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def encode_image(
        self, images: np.ndarray | Sequence[Picture], spikes: SpikeCounts | None = None
    ) -> np.ndarray:
        """Embed pictures -> (N, dim) float32; see `Encoder.encode_image`."""
        images_NHWC = as_pixels(images, self.image_format)
        if spikes is not None or not len(images_NHWC):
            return self.alone(lambda: self.encoder.encode_image(images_NHWC, spikes))
        return self._asked("image", images_NHWC, len(images_NHWC))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim) float32; see `Encoder.encode_text`."""
        texts = text_list(texts)
        return self._asked("text", texts, len(texts)) if texts else self.encoder.encode_text(texts)

    def alone(self, function: Callable[[], Result]) -> Result:
        """Return what a function returns that has the engine for itself."""
        return self._asked("alone", function, 1)

    def later(self, function: Callable[[], None]) -> None:
        """Let a function have the engine for itself, and do not wait for it; a failure is logged."""
        self._put("alone", function, 1).add_done_callback(_log)

    def close(self) -> None:
        """Answer what waits, then stop; calls from now on raise `Refused`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(self.settings.timeout)

    def _put(self, kind: Kind, inputs: Any, size: int) -> Future:
        future: Future = Future()
        with self._changed:
            if self._closed:
                raise busy("this server is stopping: ask again in a moment")
            self._jobs.append(_Job(kind, inputs, size, time.monotonic(), future))
            if len(self._jobs) == 1:
                self._changed.notify()
        return future

    def _asked(self, kind: Kind, inputs: Any, size: int) -> Any:
        future = self._put(kind, inputs, size)
        try:
            return future.result(self.settings.timeout)
        except TimeoutError:
            future.cancel()
            raise busy(
                f"the engine did not answer within {self.settings.timeout:g} seconds: ask again in a moment"
            ) from None

    def _work(self) -> None:
        while jobs := self._gathered():
            self._run([job for job in jobs if job.future.set_running_or_notify_cancel()])

    def _gathered(self) -> list[_Job]:
        """Wait for a batch and return it; none where there is nothing left to do and no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return []
            kind, _, _, since, _ = self._jobs[0]
        if kind != "alone" and not self._closed:
            time.sleep(max(0.0, since + self.settings.wait - time.monotonic()))
        with self._changed:
            taken, left, size = self._jobs[:1], [], self._jobs[0].size
            for job in self._jobs[1:]:
                fits = job.kind == kind != "alone" and size + job.size <= self.settings.batch
                (taken if fits else left).append(job)
                size += job.size if fits else 0
            self._jobs = left
            return taken

    def _run(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        start, kind = time.monotonic(), jobs[0].kind
        try:
            rows = self._call(kind, [job.inputs for job in jobs])
        except BaseException as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
            else:  # what is wrong with one is no business of the others
                for job in jobs:
                    self._run([job])
            return
        if self._seen is not None:
            self._seen(kind, sum(job.size for job in jobs), time.monotonic() - start)
        first = 0
        for job in jobs:
            job.future.set_result(rows if kind == "alone" else rows[first : first + job.size])
            first += job.size

    def _call(self, kind: Kind, inputs: list[Any]) -> Any:
        if kind == "alone":
            return inputs[0]()
        if kind == "text":
            return self.encoder.encode_text([text for texts in inputs for text in texts])
        return self.encoder.encode_image(np.concatenate(inputs) if len(inputs) > 1 else inputs[0])


def _log(future: Future) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        LOG.error("the engine failed", exc_info=error)
