"""The pricing engine for the worker: one set of kernels, compiled once and kept on disk."""

import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from streams.worker.machine import read_engine_facts, use_one_thread

COLLECTOR_THRESHOLDS = (50_000, 20, 100)  # objects, then runs of the younger generation


def warm_kernel(cache_dir: Path | None) -> Kernel:
    """Compile the kernels, or load them from the folder of an earlier run."""
    use_one_thread()
    if cache_dir is not None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(cache_dir))
        # Ours compile in about a second each: without this JAX would not think them worth it.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    kernel = Kernel.warm(machine=read_engine_facts())
    # What is loaded by now stays. State is large and has no cycles: look at it rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    return kernel


class PricingEngines:
    """Engines of the real model, one per tape partition, all on one set of kernels."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def new(self, partition: int) -> Any:
        """An engine before the first record."""
        return PartitionEngine.new(partition, self.kernel)

    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> Any:
        """An engine as its state records say."""
        return PartitionEngine.restore(partition, records, self.kernel)
