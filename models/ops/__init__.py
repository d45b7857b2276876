"""Mathematics of the memories: pure functions of arrays."""
