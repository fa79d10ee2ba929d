# SPDX-License-Identifier: Apache-2.0
"""What a file held when it was opened outlives stamps that are older: of a clock that is not set
yet, or of an old bag.
"""

from __future__ import annotations

from collections.abc import Mapping


class Held:
    """The newest stamp of each camera in a file that was there before."""

    def __init__(self, newest_ns: Mapping[str, int]) -> None:
        self._newest_ns = newest_ns

    def refusal(self, source: str, stamp_ns: int) -> str:
        """Why something of that stamp must not be kept; '' where it may be."""
        newest_ns = self._newest_ns.get(source, stamp_ns)
        if stamp_ns >= newest_ns:
            return ''
        behind_s = (newest_ns - stamp_ns) / 1e9
        return f"'{source}' is {behind_s:,.0f} s behind what the file holds: nothing is kept"
