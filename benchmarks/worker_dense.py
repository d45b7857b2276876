"""The dense form of a mixture as a contestant of its own."""

from functools import partial

from .mixture import dense
from .serving import serve
from .worker_jax import prepare, versions

if __name__ == "__main__":
    serve(partial(prepare, contestants={"mixture": dense}), versions)
