# SPDX-License-Identifier: Apache-2.0
"""Names of the files of a bag, in a module that loads no reader."""

from __future__ import annotations

import re

METADATA = 'metadata.yaml'
# bag_0.mcap, bag.db3, bag_0.db3.zstd -> name of the recording
PART = re.compile(r'(.*?)(_\d+)?\.(mcap|db3)(\.zstd)?')
