"""The state of a stack of blocks, indexed by a block's name."""

import operator
from collections.abc import Iterator
from typing import Any, SupportsIndex, overload

import jax

from memzoo.errors import InputError


@jax.tree_util.register_pytree_with_keys_class
class StackState(tuple):
    """States of all layers: a tuple over groups of tuples over a group's blocks.

    Each array has the group's repeats as its first axis and the batch as its second.
    `state["layers.3"]` is the state of the stack's fourth layer, without the axis of
    repeats; `state.names()` lists the names.
    """

    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> "StackState": ...
    def __getitem__(self, key: Any, /) -> Any:
        """Return the state of one layer by its name, or of a group by its index.

        Raises:
            InputError: no layer has the name.
        """
        if isinstance(key, slice):
            return StackState(super().__getitem__(key))
        if not isinstance(key, str):
            return super().__getitem__(key)
        for name, states, repeat in self._layers():
            if name == key:
                return jax.tree.map(operator.itemgetter(repeat), states)
        names = self.names()
        raise InputError(
            f"the state has no {key!r}; choose a layer from {names[0]} to {names[-1]}"
        )

    def names(self) -> list[str]:
        """Return the names of the layers, first to last."""
        return [name for name, _, _ in self._layers()]

    def _layers(self) -> Iterator[tuple[str, Any, int]]:
        """Yield every layer's name, the states of its repeats, and its repeat."""
        number = 0
        for group in self:
            for repeat in range(jax.tree.leaves(group)[0].shape[0]):
                for states in group:
                    yield f"layers.{number}", states, repeat
                    number += 1

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], None]:
        keys = map(jax.tree_util.SequenceKey, range(len(self)))
        return list(zip(keys, self, strict=True)), None

    @classmethod
    def tree_unflatten(cls, _: None, groups: Any) -> "StackState":
        return cls(groups)
