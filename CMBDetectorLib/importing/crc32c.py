"""CRC-32C of bytes, as TensorFlow's checkpoints carry it, fast enough for weights.

The remainder is linear in the data: lanes of equal length are worked through side by side, and
then joined two by two.

References
----------
RFC 3720, appendix B.4 (polynomial, test vectors); masking: RocksDB and LevelDB, ``util/crc32c.h``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_BLOCK = 2**20
_MAX_STEPS = 21


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of the data."""
    values = np.frombuffer(data, np.uint8)
    n_short = len(values) % _BLOCK
    remainder = _advanced(np.array([0xFFFFFFFF], np.uint32), n_short) ^ _remainder(values[:n_short])
    for start in range(n_short, len(values), _BLOCK):
        block = _remainder(values[start : start + _BLOCK])
        remainder = _advanced(remainder, _BLOCK) ^ block
    return int(remainder[0]) ^ 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """The checksum that is stored turned and shifted, so that it may lie in checked data."""
    turned = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF


def _table() -> Words:
    """What eight bits at the end of a remainder become."""
    table = np.arange(256, dtype=np.uint32)
    one = np.uint32(1)
    for _ in range(8):
        table = (table >> one) ^ (table & one) * np.uint32(_POLYNOMIAL)
    return table


_TABLE = _table()


def _with_zero_byte(remainders: Words) -> Words:
    shifted: Words = _TABLE[remainders & np.uint32(0xFF)] ^ (remainders >> np.uint32(8))
    return shifted


def _steps() -> Words:
    """By n, what each bit of a remainder becomes when 2**n zero bytes follow."""
    steps = [_with_zero_byte(np.uint32(1) << np.arange(32, dtype=np.uint32))]
    while len(steps) < _MAX_STEPS:
        steps.append(_applied(steps[-1], steps[-1]))
    return np.array(steps)


def _applied(step: Words, remainders: Words) -> Words:
    """A linear map, given by what it makes of each bit, of every remainder."""
    bits = (remainders[:, np.newaxis] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    result: Words = np.bitwise_xor.reduce(bits * step, axis=1)
    return result


_STEPS = _steps()


def _remainder(values: npt.NDArray[np.uint8]) -> Words:
    """Of at most a block, beginning with 0; zeros in front of the data change nothing."""
    power = max(len(values).bit_length() // 2 - 2, 1)
    n_lanes = 1 << max((len(values) - 1).bit_length() - power, 0)
    lanes = np.zeros(n_lanes << power, np.uint8)
    lanes[len(lanes) - len(values) :] = values
    remainders = np.zeros(n_lanes, np.uint32)
    for column in np.ascontiguousarray(lanes.reshape(n_lanes, -1).T):
        remainders = _with_zero_byte(remainders ^ column)
    while len(remainders) > 1:
        remainders = _applied(_STEPS[power], remainders[::2]) ^ remainders[1::2]
        power += 1
    return remainders


def _advanced(remainders: Words, n_bytes: int) -> Words:
    """What remainders become when ``n_bytes`` zeros follow."""
    for number, step in enumerate(_STEPS):
        if n_bytes >> number & 1:
            remainders = _applied(step, remainders)
    return remainders
