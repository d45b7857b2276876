"""A zoo of memory architectures for sequence models in JAX."""

from importlib.metadata import version

__version__ = version("memzoo")
