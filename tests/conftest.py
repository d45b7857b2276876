"""Settings of the whole test run; set before anything touches a device."""

import functools
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Most of the time of these tests is compilation. `make test-all` compiles as users do:
# it sets this to nothing. Read when JAX is first used, here and in child processes.
# JAX 0.12 has no other way to compile fused loops.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false" * version("jax").startswith("0.10."),
)

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
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_threefry_partitionable", True)
if jax.default_backend() == "gpu":
    # Float32 means float32: products are rounded to TF32 there by default.
    jax.config.update("jax_default_matmul_precision", "highest")


_USERS_FILES = (
    str(Path(tempfile.gettempdir()).resolve()),
    str(Path(__file__).resolve().parents[1] / "docs" / "examples"),
)


@pytest.fixture(autouse=True)
def forget_modules_of_users():
    """Forget the files of users that a test imports: others have the same names."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and str(Path(file).resolve()).startswith(_USERS_FILES):
            del sys.modules[name]


@pytest.fixture
def x64():
    """float64 for the algebra."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def jit_as_users():
    """`jax.jit` with all optimisations: for what must hold bit for bit."""
    options = {
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
    }
    if "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:
        options["xla_cpu_use_fusion_emitters"] = True
    return functools.partial(jax.jit, compiler_options=options)
