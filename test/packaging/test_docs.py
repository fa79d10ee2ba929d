# SPDX-License-Identifier: Apache-2.0
"""README and docs/: documented commands, options, names and figures exist as they are written."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools'))

import docs_pages

README = ROOT / 'README.md'
PAGES = sorted((ROOT / 'docs').rglob('*.md'))
CARDS = sorted((ROOT / 'models').glob('*/MODEL_CARD.md'))
TEXTS = [README, ROOT / 'CONTRIBUTING.md', *PAGES, *CARDS]
MADE = (
    'build/',
    'data/',
    'runs/',
    'run7',
    'docs/results/selective.png',
    'mine',
    'own',
    'bench.npz',
)
ROS_VERBS = {'launch', 'topic', 'service', 'action', 'param', 'lifecycle', 'bag', 'pkg'}


def name(path: Path) -> str:
    """Name a page by its path in the repository."""
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```', path.read_text(), re.DOTALL | re.MULTILINE)


def commands(path: Path) -> Iterator[list[str]]:
    """Yield every documented shell command as words, without comments and redirections."""
    for block in blocks(path, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            for part in re.split(r'\s&&\s', line):
                words = shlex.split(part, comments=True)
                if words and '>' in words:
                    words = words[: words.index('>')]
                if words and 'import' not in part.split('numpy')[0]:
                    yield words


def all_commands(program: str) -> list[tuple[str, list[str]]]:
    """Return each command of a program with the page that documents it."""
    found = []
    for path in TEXTS:
        for words in commands(path):
            if Path(words[0]).name == program:
                found.append((name(path), words[1:]))
    return found


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 180


@pytest.mark.parametrize('path', TEXTS, ids=name)
def test_links_point_to_files_and_headings_of_the_repository(path: Path) -> None:
    for link in re.findall(r'\]\(([^)\s]+)\)', path.read_text()):
        target, _, anchor = link.partition('#')
        if '://' in link:
            continue
        found = (path.parent / target).resolve() if target else path
        assert found.is_file(), f'{link}: no such file'
        if anchor and found.suffix == '.md':
            heads = re.findall(r'^#+ (.+)$', found.read_text(), re.MULTILINE)
            slugs = {
                re.sub(r'\s+', '-', re.sub(r'[^\w\s-]', '', h).strip().lower()) for h in heads
            }
            assert anchor in slugs, f'{link}: no such heading'


def test_pages_cited_in_code_exist() -> None:
    cited = set()
    files = [
        p
        for f in ('vljepa_ros', 'test', 'benchmarks', 'config', 'samples', 'models')
        for p in (ROOT / f).rglob('*')
        if p.suffix in ('.py', '.yaml')
    ]
    for path in files:
        cited |= set(re.findall(r'docs/[\w/]+\.md', path.read_text()))
        foreign = {'DESIGN', 'BENCHMARK', 'ENGLISH', 'HOUSE', 'PEERS', 'REAL', 'STYLE'}
        assert not foreign & set(re.findall(r'\b([A-Z]+)\.md\b', path.read_text())), path
    assert 'docs/design.md' in cited
    assert [page for page in sorted(cited) if not (ROOT / page).is_file()] == []


def test_every_documented_vljepa_command_is_accepted_by_the_parser() -> None:
    from vljepa_ros.cli.main import COMMANDS, make_parser

    documented = all_commands('vljepa')
    assert len(documented) > 25
    for page, words in documented:
        try:
            make_parser().parse_args([word for word in words if word != '...'])
        except SystemExit as error:
            if words[-1] not in ('--help',):
                pytest.fail(f'{page}: vljepa {shlex.join(words)}: exit status {error.code}')
    text = ''.join(path.read_text() for path in TEXTS)
    assert [command for command in COMMANDS if f'vljepa {command}' not in text] == []


def test_files_in_documented_commands_exist() -> None:
    folders = ('samples/', 'models/', 'requirements/', 'config/', 'benchmarks/', 'tools/', 'test/')
    for path in TEXTS:
        for words in commands(path):
            for word in words:
                word = word.removeprefix('src/vljepa_ros/')
                if word.startswith(folders) and not word.startswith(MADE):
                    assert (ROOT / word).exists(), f'{name(path)}: {word}'


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    for path in TEXTS:
        for target in re.findall(r'`make ([a-z]+)', path.read_text()):
            assert target in targets, f'{name(path)}: make {target}'
    assert {words[0] for _, words in all_commands('make')} <= targets


def launch_arguments(file: str) -> set[str]:
    """Return the names that a launch file declares: the keys of its dictionaries."""
    tree = ast.parse((ROOT / 'launch' / file).read_text())
    return {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }


def test_documented_launch_arguments_are_declared() -> None:
    declared = launch_arguments('vljepa.launch.py')
    declared_replay = declared | launch_arguments('replay.launch.py')
    launches = [words for _, words in all_commands('ros2') if words[0] == 'launch']
    assert len(launches) >= 4
    for words in launches:
        known = declared if words[2] == 'vljepa.launch.py' else declared_replay
        given = {word.partition(':=')[0] for word in words[3:] if ':=' in word}
        assert given <= known, words
    table = (ROOT / 'docs' / 'guide' / 'robot.md').read_text().partition('## Cameras')[0]
    listed = {
        n for row in re.findall(r'^\| (`.+?`) \|', table, re.M) for n in row.split('`')[1::2]
    }
    assert listed == declared


def test_documented_requests_have_existing_fields() -> None:
    kinds = {'service': 'srv', 'action': 'action'}
    requests = [
        w for _, w in all_commands('ros2') if w[0] in kinds and w[1] in ('call', 'send_goal')
    ]
    assert len(requests) >= 7
    for words in requests:
        kind = kinds[words[0]]
        place = next(i for i, word in enumerate(words) if word.startswith('vljepa_ros/'))
        path = ROOT / kind / f'{words[place].rpartition("/")[2]}.{kind}'
        fields = re.findall(r'^[\w/\[\]]+ +(\w+) +#', path.read_text().split('---')[0], re.M)
        assert set(yaml.safe_load(words[place + 1])) <= set(fields), words
        assert words[place - 1].startswith('/vljepa/'), words


def test_documented_ros2_verbs_exist() -> None:
    assert {words[0] for _, words in all_commands('ros2')} <= ROS_VERBS


@pytest.mark.parametrize('path', TEXTS, ids=name)
def test_python_examples_import_existing_names(path: Path) -> None:
    for block in blocks(path, 'python'):
        for node in ast.walk(ast.parse(block)):
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith('vljepa'):
                continue
            if '.nodes' in str(node.module):
                pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')
            module = importlib.import_module(str(node.module))
            assert [a.name for a in node.names if not hasattr(module, a.name)] == []


def registered_names() -> set[str]:
    """Return every topic, service and action name that a node's source registers."""
    found: set[str] = set()
    for path in (ROOT / 'vljepa_ros' / 'nodes').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            texts = node.args if isinstance(node, ast.Call) else getattr(node, 'elts', [])
            found |= {
                t.value for t in texts if isinstance(t, ast.Constant) and isinstance(t.value, str)
            }
    return found


def test_documented_topics_equal_the_registered_topics() -> None:
    page = (ROOT / 'docs' / 'reference' / 'ros_api.md').read_text()
    listed = re.findall(r'^\| `([\w/]+)` \|', page, re.MULTILINE)
    assert {'text_event', 'query', 'watch', 'predict', 'frame_processed'} <= set(listed)
    assert [topic for topic in listed if topic not in registered_names()] == []
    used = set()
    for path in TEXTS:
        used |= set(re.findall(r'/vljepa/(\w+)', path.read_text()))
    nodes = {'perception_node', 'change_detection_node', 'decoder_node', 'query_node'}
    nodes.add('view')  # the namespace of view_node's topics
    assert used <= set(listed) | nodes


def test_the_interface_section_has_every_field() -> None:
    text = docs_pages.interfaces()
    for kind in ('msg', 'srv', 'action'):
        for path in (ROOT / kind).iterdir():
            section = text.partition(f'### `{kind}/{path.stem}`')[2].partition('\n### ')[0]
            fields = re.findall(
                r'^[\w/\[\]]+\s+(\w+)(?:=\d+)?\s+#', path.read_text(), re.MULTILINE
            )
            assert fields and [f for f in fields if f'`{f}`' not in section] == [], path.name


@pytest.mark.ros
def test_the_parameter_section_has_every_key_of_the_parameter_file_with_its_value() -> None:
    text = docs_pages.parameters()
    given = yaml.safe_load((ROOT / 'config' / 'vljepa.yaml').read_text())
    for key, group in given.items():
        node = key.rpartition('/')[2]
        section = text.partition(f'## `{node}`')[2].partition('\n## ')[0]
        rows = {
            line.split('`')[1]: line for line in section.splitlines() if line.startswith('| `')
        }
        for parameter, value in group['ros__parameters'].items():
            if isinstance(value, dict):
                continue  # a camera, whose parameters have a section of their own
            assert f'`{docs_pages.shown(value)}`' in rows[parameter], f'{node}: {parameter}'


def test_the_command_section_has_every_option() -> None:
    from vljepa_ros.cli.main import COMMANDS

    text = docs_pages.commands()
    assert [command for command in COMMANDS if f'## `vljepa {command}`' not in text] == []
    for option in ('--candidate', '--lossless', '--accept-licenses', '--plot', '--first-seed'):
        assert f'`{option}' in text


def test_readme_metrics_equal_the_model_card() -> None:
    card = (ROOT / 'models' / 'small' / 'MODEL_CARD.md').read_text()
    table = README.read_text().partition('## Results')[2].partition('\n## ')[0]
    rows = [line for line in table.splitlines() if line.startswith('| ')][1:]
    assert len(rows) >= 5
    for row in rows:
        suite = row.partition(':')[0]  # '| classify', as the card's rows begin
        measured = ' '.join(line for line in card.splitlines() if line.startswith(f'{suite}:'))
        figures = re.findall(r'\d+\.\d+%?', row)
        assert figures and [figure for figure in figures if figure not in measured] == [], row


def test_the_documented_demo_output_matches_the_code() -> None:
    source = (ROOT / 'vljepa_ros' / 'cli' / 'demo.py').read_text()
    for label in ('starting the stack', 'playing', 'all nodes are active', 'precision', 'PASSED'):
        for page in (README, ROOT / 'docs' / 'quickstart.md'):
            assert label in page.read_text() and label in source


def test_layouts_use_existing_topics() -> None:
    layout = (ROOT / 'config' / 'foxglove.json').read_text()
    used = set(re.findall(r'"/vljepa/(\w+)', json.dumps(json.loads(layout))))
    assert used and used <= registered_names()


def constants(prefix: str) -> set[str]:
    """Return the names of Query's constants of a type and prefix."""
    text = (ROOT / 'srv' / 'Query.srv').read_text()
    return set(re.findall(rf'^{prefix}(\w+)=\d+', text, re.MULTILINE))


def test_documented_error_codes_and_abstention_reasons_equal_the_interface() -> None:
    page = (ROOT / 'docs' / 'guide' / 'planners.md').read_text()
    codes = page.partition('| `error_code` |')[2].partition('\n\n')[0]
    cells = [row.split('|')[1] for row in codes.splitlines() if row.startswith('| `')]
    listed = {code for cell in cells for code in re.findall(r'`([A-Z_]+)`', cell)}
    assert listed | {'OK'} == constants('uint16 ')
    reasons = page.partition('| `abstain_reason` |')[2].partition('\n\n')[0]
    listed = set(re.findall(r'^\| `([A-Z_]+)`', reasons, re.MULTILINE))
    assert listed | {'NONE'} == constants('uint8 ABSTAIN_')


def test_documented_abstention_numbers_equal_the_code() -> None:
    from vljepa_ros.core.types import AbstainReason

    page = (ROOT / 'docs' / 'reference' / 'python_api.md').read_text()
    rows = re.findall(r'^\| (\d+) \| `([A-Z_]+)` \|', page, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [
        (r.value, r.name) for r in AbstainReason
    ]


def table(page: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose header line begins with `header`."""
    text = (ROOT / 'docs' / page).read_text()
    rows = text.partition(f'\n{header}')[2].partition('\n\n')[0].splitlines()[2:]
    return [[cell.strip(' `') for cell in row.strip('|').split('|')] for row in rows]


def test_the_documented_state_machine_equals_the_segmenter() -> None:
    from vljepa_ros.stream.segmenter import TRANSITIONS

    expected = [
        [
            phase.value,
            signal.value,
            step.compared.value if step.compared else '-',
            step.reason.name if step.reason is not None else '-',
            step.phase.value,
        ]
        for (phase, signal), step in TRANSITIONS.items()
    ]
    assert table('guide/change_detection.md', '| stream | signal |') == expected


def test_documented_effects_of_a_hop_equal_the_watch_condition() -> None:
    from vljepa_ros.query.watch_condition import EFFECTS, HopVerdict

    expected = [[v.value, *(EFFECTS[goal, v].value for goal in (False, True))] for v in HopVerdict]
    assert table('guide/planners.md', '| hop | without') == expected


def test_documented_exit_statuses_equal_the_code() -> None:
    from vljepa_ros.core.exit_status import ExitStatus

    page = (ROOT / 'docs' / 'reference' / 'cli.md').read_text()
    listed = re.findall(r'^\| (\d+) \|', page, re.MULTILINE)
    assert [int(status) for status in listed] == sorted(ExitStatus)


def test_every_suite_is_documented() -> None:
    from vljepa_ros.cli.evaluate import NAMES, SLOW

    page = (ROOT / 'docs' / 'guide' / 'training.md').read_text()
    assert [suite for suite in (*NAMES, *SLOW) if f'`{suite}`' not in page] == []
