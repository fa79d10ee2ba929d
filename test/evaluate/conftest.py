# SPDX-License-Identifier: Apache-2.0
"""What the tests of the suites share is importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
