"""The batches of a stage: which samples each step reads, and their pictures, prepared on the device."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from operator import itemgetter

import torch
from torch import Tensor

from spikeclip.config.run import FeedKind
from spikeclip.data.draws import Draws
from spikeclip.data.images import Images
from spikeclip.data.mix import mix, partners
from spikeclip.data.transforms import augment, normalize
from spikeclip.errors import InputError
from spikeclip.train.stages.stage import Batch, Stage
from spikeclip.train.statistics import BATCH, SAMPLES

Planned = tuple[int, Tensor]
"""An epoch and the indices (B,) of the samples of a batch in it."""
AHEAD = 2
"""Blocks that the thread reads ahead."""
BLOCK = 2**24
"""Bytes of pictures that a GPU prepares at a time, so that starting the work takes less time than the work."""
RESIDENT_SHARE = 0.25
"""Of a GPU's free memory, up to which auto keeps the pictures there."""


class Steps:
    """The steps of a stage: how many there are, and which samples each of them reads."""

    def __init__(self, stage: Stage) -> None:
        config, self.seed = stage.config, stage.seed
        count = max(1, round(config.share * stage.samples))
        self.used = self._order(stage.samples, 0)[:count].sort().values
        self.batch_size = min(config.batch_size, count)
        self.per_epoch = count // self.batch_size
        self.total = self.per_epoch * config.epochs
        self.relu = round(config.relu_first * self.total)
        self._epoch = -1

    def at(self, step: int) -> Planned:
        """Return the epoch of a step and the indices (B,) of its samples, which a resumed training repeats."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, self.used[self._order(len(self.used), epoch)]
        return epoch, self._shuffled[place * self.batch_size :][: self.batch_size]

    def after(self, step: int) -> Iterator[Planned]:
        """Yield `at` of a step and of all that follow."""
        return map(self.at, range(step, self.total))

    def some(self, epoch: int, processes: int) -> list[Planned]:
        """Return batches from all samples, drawn for an epoch, to compute statistics from."""
        shuffled = self.used[self._order(len(self.used), epoch)][:SAMPLES]
        size = min(BATCH, len(shuffled)) // processes * processes
        return [(epoch, indices_B) for indices_B in shuffled.split(size) if len(indices_B) == size]

    def _order(self, samples: int, epoch: int) -> Tensor:
        mixed = (self.seed * 1_000_003 + epoch) * 1_000_003
        return torch.randperm(samples, generator=torch.Generator().manual_seed(mixed % 2**63))


class Feed:
    """Makes the batches of a stage on a device, of each the share of one process.

    resident: the pictures are all on the device, uint8. Else they are mapped: they stay where they are, and a thread
    reads those of the next batches meanwhile. Both augment and normalise on the device, and make the same batches.
    steps: those of the stage. share: number of this process and how many there are.

    Raises `InputError` where pictures that are to be resident have no room.
    """

    def __init__(
        self, stage: Stage, device: torch.device, kind: FeedKind = "auto", share: tuple[int, int] = (0, 1)
    ) -> None:
        self.stage, self.device, self.share, self.steps = stage, device, share, Steps(stage)
        self.block = BLOCK if device.type == "cuda" else 0
        self._pixels_NHWC: Tensor | None = None
        if stage.images is not None and _is_resident(kind, math.prod(stage.images.shape), device):
            self._pixels_NHWC = _copied(stage.images, device)

    @property
    def resident(self) -> bool:
        """Whether the pictures are on the device."""
        return self._pixels_NHWC is not None

    def batch(self, epoch: int, indices_B: Tensor) -> tuple[Batch, Batch]:
        """Return what the model reads and what the loss compares with of this process's share of a batch."""
        return next(self.batches([(epoch, indices_B)]))

    def batches(self, plan: Iterable[Planned]) -> Generator[tuple[Batch, Batch], None, None]:
        """Yield `batch` for each entry of a plan, prepared ahead; to be closed where it is not read to its end."""
        blocks = self._blocks(plan)
        reads = self.stage.images is not None and not self.resident
        for (epoch, parts), pixels_BHWC in self._read_ahead(blocks) if reads else ((b, None) for b in blocks):
            sides = self._prepared(epoch, torch.cat(parts), pixels_BHWC)
            sizes = list(map(len, parts))
            inputs, targets = ({name: x.split(sizes) for name, x in side.items()} for side in sides)
            for i in range(len(parts)):
                yield {name: x[i] for name, x in inputs.items()}, {name: x[i] for name, x in targets.items()}

    def _blocks(self, plan: Iterable[Planned]) -> Iterator[tuple[int, list[Tensor]]]:
        """Yield an epoch and this process's indices of one or several of its batches."""
        rank, processes = self.share
        for epoch, planned in itertools.groupby(plan, itemgetter(0)):
            parts = (indices_B.chunk(processes)[rank] for _, indices_B in planned)
            while part := list(itertools.islice(parts, 1)):
                part += itertools.islice(parts, max(0, self.block // self._bytes(part[0]) - 1))
                yield epoch, part

    def _bytes(self, indices_B: Tensor) -> int:
        shape = () if self.stage.images is None else self.stage.images.shape[1:]
        return len(indices_B) * math.prod(shape)

    def _read_ahead(self, blocks: Iterable) -> Iterator[tuple[tuple[int, list[Tensor]], Tensor]]:
        waiting: deque[tuple[tuple[int, list[Tensor]], Future[Tensor]]] = deque()
        reader = ThreadPoolExecutor(1, "feed")
        try:
            for block in blocks:
                waiting.append((block, reader.submit(self._read, self._mixed(block[0], torch.cat(block[1])))))
                if len(waiting) > AHEAD:
                    first, pixels_BHWC = waiting.popleft()
                    yield first, pixels_BHWC.result()
            for first, pixels_BHWC in waiting:
                yield first, pixels_BHWC.result()
        finally:
            reader.shutdown(cancel_futures=True)

    def _mixed(self, epoch: int, indices_B: Tensor) -> Tensor:
        """Return the samples whose pictures are needed: those given, and behind them those that they are mixed with."""
        if self.stage.images is None or self.stage.config.augment.mix == "none":
            return indices_B
        used = self.steps.used
        return torch.cat([indices_B, used[partners(Draws(self.stage.seed, epoch, indices_B), len(used))]])

    def _read(self, indices_B: Tensor) -> Tensor:
        # By NumPy alone: a thread that uses PyTorch's operations has threads of its own.
        assert self.stage.images is not None
        pixels_BHWC = torch.from_numpy(self.stage.images[indices_B.numpy()])
        return pixels_BHWC.pin_memory() if self.device.type == "cuda" else pixels_BHWC

    def _prepared(self, epoch: int, indices_B: Tensor, pixels_NHWC: Tensor | None) -> tuple[Batch, Batch]:
        stage, size = self.stage, len(indices_B)
        needed_N = self._mixed(epoch, indices_B)
        inputs, targets = (
            {name: self._moved(x) for name, x in side.items()} for side in stage.batch(needed_N, epoch)
        )
        if stage.images is None:
            return inputs, targets
        needed_N = self._moved(needed_N)
        if pixels_NHWC is None:
            assert self._pixels_NHWC is not None
            pixels_NHWC = self._pixels_NHWC.index_select(0, needed_N)
        config, (mean, std) = stage.config.augment, stage.normalization
        draws = Draws(stage.seed, epoch, needed_N)
        x_NCHW = normalize(augment(self._moved(pixels_NHWC), config, draws, mean), mean, std)
        if len(needed_N) > size:
            drawn = Draws(stage.seed, epoch, needed_N[:size])
            x_NCHW, share_B = mix(x_NCHW[:size], x_NCHW[size:], config, drawn)
            own, others = (
                {name: x[part] for name, x in targets.items()} for part in (slice(size), slice(size, None))
            )
            inputs, targets = {name: x[:size] for name, x in inputs.items()}, stage.mix(own, others, share_B)
        return {**inputs, "images": x_NCHW}, targets

    def _moved(self, x: Tensor) -> Tensor:
        if self.device.type == "cuda" and x.device.type == "cpu" and not x.is_pinned():
            x = x.pin_memory()
        return x.to(self.device, non_blocking=True)


def _is_resident(kind: FeedKind, size: int, device: torch.device) -> bool:
    """Say whether pictures of `size` bytes are to be on the device; raises `InputError` where they cannot be."""
    on_gpu = device.type == "cuda"
    if kind == "mapped" or (kind == "auto" and not on_gpu):  # memory that is mapped is that of the processor
        return False
    if on_gpu:
        room, _ = torch.cuda.mem_get_info(device)
    else:
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if kind == "auto":
        return size <= RESIDENT_SHARE * room
    if size > room:
        raise InputError(
            f"feed is resident, but the pictures take {size / 1e9:.1f} GB and {device.type} has {room / 1e9:.1f} GB: "
            "set feed=mapped"
        )
    return True


def _copied(images: Images, device: torch.device) -> Tensor:
    pixels_NHWC = torch.empty(images.shape, dtype=torch.uint8, device=device)
    rows = 1 + BLOCK // math.prod(images.shape[1:])
    for start in range(0, len(images), rows):
        part = images[start : start + rows]
        pixels_NHWC[start : start + rows] = torch.from_numpy(part if part.flags.writeable else part.copy())
    return pixels_NHWC
