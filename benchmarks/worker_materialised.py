"""Ours with all weights formed, as a contestant; run by this interpreter."""

from functools import partial

from .materialised import CONTESTANTS
from .serving import serve
from .worker_jax import prepare, versions

if __name__ == "__main__":
    serve(partial(prepare, contestants=CONTESTANTS), versions)
