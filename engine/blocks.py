"""KV memory of one tier, handed out in blocks of a fixed number of tokens. Ids only, no tensors."""

from apexbench.errors import InvariantError


class BlockPool:
    """Free list of block ids. Never grows; who frees a block must have owned it."""

    __slots__ = ("_free", "_is_free", "block_tokens", "num_blocks")

    def __init__(self, num_blocks: int, block_tokens: int) -> None:
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        # Popped from the end, so that a fresh pool hands out 0, 1, 2: long physical runs.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._is_free = bytearray(b"\x01") * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that can be allocated now."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks owned by sequences."""
        return self.num_blocks - len(self._free)

    def is_free(self, block: int) -> bool:
        """True when nobody owns the block."""
        return bool(self._is_free[block])

    @property
    def num_tokens(self) -> int:
        """Tokens the whole pool can hold."""
        return self.num_blocks * self.block_tokens

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold `tokens` tokens of one sequence."""
        return -(-tokens // self.block_tokens)

    def allocate(self, count: int) -> list[int]:
        """`count` block ids; asking for more than `num_free` is a scheduler bug."""
        if count > len(self._free):
            raise InvariantError(f"asked for {count} KV blocks, {len(self._free)} are free")
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._is_free[block] = 0
        return taken

    def release(self, blocks: list[int]) -> None:
        """Take `blocks` back and empty the list, so that they cannot be released twice."""
        for block in reversed(blocks):
            if self._is_free[block]:
                raise InvariantError(f"KV block {block} was freed twice")
            self._is_free[block] = 1
            self._free.append(block)
        blocks.clear()
