"""Settings of the whole test run; set before anything touches a device."""

import os
import tempfile
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("MPLBACKEND", "Agg")

# Shapes in signatures are checked in every test; users pay nothing for them.
_HOOK = install_import_hook(
    "memzoo",
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

_CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
    Path(tempfile.gettempdir()) / "memzoo-test-compilation-cache"
)
# Child processes of the tests share the cache.
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_threefry_partitionable", True)


@pytest.fixture
def x64():
    """float64 for the algebra."""
    with jax.enable_x64(True):
        yield
