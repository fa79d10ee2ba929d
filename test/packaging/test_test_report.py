# SPDX-License-Identifier: Apache-2.0
"""The page that `make test-all` writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'test_report.py'
XML = """<testsuites><testsuite name="pytest" time="605.2">
<testcase classname="test.core.test_a" name="one" time="1"/>
<testcase classname="test.core.test_a" name="two" time="1"/>
<testcase classname="test.core.test_a" name="three" time="1"><failure message="x"/></testcase>
<testcase classname="test.launch.test_b" name="four" time="1">
  <skipped type="pytest.skip" message="launch_testing is not installed"/></testcase>
<testcase classname="test.launch.test_b" name="five" time="1">
  <skipped type="pytest.skip" message="launch_testing is not installed"/></testcase>
<testcase classname="" name="test.launch.test_c" time="0"><skipped message="collection skipped">
('/somewhere/test/launch/test_c.py', 17, 'Skipped: no launch')</skipped></testcase>
</testsuite></testsuites>"""
FILES = {
    'vljepa_ros/core/types.py': (100, 90),
    'vljepa_ros/core/text.py': (20, 20),
    'vljepa_ros/pipeline.py': (80, 80),
}


def test_the_page_states_counts_coverage_and_skips(tmp_path: Path) -> None:
    (tmp_path / 'tests.xml').write_text(XML)
    files = {
        name: {'summary': {'num_statements': lines, 'covered_lines': covered}}
        for name, (lines, covered) in FILES.items()
    }
    (tmp_path / 'coverage.json').write_text(json.dumps({'files': files}))
    paths = [str(tmp_path / name) for name in ('tests.xml', 'coverage.json', 'tests.md')]
    subprocess.run([sys.executable, str(TOOL), *paths], check=True, cwd=tmp_path)
    page = (tmp_path / 'tests.md').read_text()
    rows = [[cell.strip() for cell in row.split('|')[1:-1]] for row in page.splitlines()]
    assert ['tests', '2 passed, 1 failed, 3 skipped, in 10 minutes'] in rows
    assert ['line coverage', '95.0% of 200 lines'] in rows
    assert ['core/', '120', '91.7%'] in rows
    assert ['`test/launch/test_b.py`', '2', 'launch_testing is not installed'] in rows
    assert ['`test/launch/test_c.py`', '1', 'no launch'] in rows
    assert {'commit', 'run on', 'machine'} <= {row[0] for row in rows if row}
    assert '/somewhere' not in page and str(tmp_path) not in page
