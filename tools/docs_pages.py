# SPDX-License-Identifier: Apache-2.0
"""MkDocs hook: page sections that are generated from the code, and links into the repository.

A line `<!-- generated: NAME -->` in a page of docs/ is replaced by the result of the function
`GENERATORS[NAME]`, so that the reference cannot differ from the code. The model cards become pages
below models/. Files outside docs/ that a page links to are copied to files/, so that links work on
the site as in the repository.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r'^<!-- generated: ([\w-]+) -->$', re.MULTILINE)
LINK = re.compile(r'(?<=\]\()([^)\s#]+)(?=[)#\s])')
FIELD = re.compile(
    r'^(?P<type>[\w/\[\]<>=]+)\s+(?P<name>\w+)(?:=(?P<value>\S+))?\s+#\s(?P<text>.+)$'
)
CARD = re.compile(r'models/(\w+)/MODEL_CARD\.md')
PARTS = {
    'msg': ('fields',),
    'srv': ('request', 'response'),
    'action': ('goal', 'result', 'feedback'),
}
TYPES = {bool: 'bool', int: 'int', float: 'double', str: 'string', list: 'string[]'}
USAGE_WIDTH = 90


def on_files(files: Any, config: Any) -> Any:
    """Add the model cards, and every file of the repository that a page links to."""
    from mkdocs.structure.files import File, InclusionLevel

    for card in sorted(ROOT.glob('models/*/MODEL_CARD.md')):
        files.append(
            File.generated(config, f'models/{card.parent.name}.md', content=card.read_text())
        )
    pages = [(page.src_uri, page.content_string) for page in files.documentation_pages()]
    wanted = {
        path
        for name, text in pages
        for _, path in links(name, text)
        if not path.startswith('docs/') and path.rpartition('.')[2] != 'md'
    }
    for path in sorted(wanted):
        if (ROOT / path).is_file():
            copy = File.generated(
                config,
                f'files/{path}',
                abs_src_path=str(ROOT / path),
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
            files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Insert the generated sections, and rewrite links to their targets on the site."""
    name = page.file.src_uri
    for link, path in links(name, markdown):
        target = posixpath.relpath(site_path(path), posixpath.dirname(name) or '.')
        markdown = re.sub(rf'(?<=\]\(){re.escape(link)}(?=[)#\s])', target, markdown)
    return MARKER.sub(lambda found: GENERATORS[found[1]](), markdown)


def links(page: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the relative links of a page, each with the repository path that it points to.

    Args:
        page: Path of the page on the site, for example 'guide/robot.md' or 'models/small.md'.
        text: Markdown of the page.
    """
    card = re.fullmatch(r'models/(\w+)\.md', page)
    where = f'models/{card[1]}' if card else posixpath.dirname(f'docs/{page}')
    for link in dict.fromkeys(LINK.findall(text)):
        if '://' not in link and not link.startswith(('/', 'mailto:')):
            yield link, posixpath.normpath(posixpath.join(where, link))


def site_path(path: str) -> str:
    """Return the path on the site of a file of the repository."""
    card = CARD.fullmatch(path)
    if card:
        return f'models/{card[1]}.md'
    return path.removeprefix('docs/') if path.startswith('docs/') else f'files/{path}'


def interfaces() -> str:
    """Render every message, service and action, with its constants and fields."""
    lines: list[str] = []
    for kind, parts in PARTS.items():
        for path in sorted((ROOT / kind).glob(f'*.{kind}')):
            lines += [f'### `{kind}/{path.stem}`', '', *_interface(path, parts), '']
    return '\n'.join(lines)


def _interface(path: Path, parts: tuple[str, ...]) -> list[str]:
    head = re.match(r'(?:#.*\n)+', path.read_text())
    comment = [line.lstrip('# ').strip() for line in head[0].splitlines()] if head else []
    lines = [_cell(' '.join(comment).replace('  ', '\n\n')), '']
    for part, text in zip(parts, re.split(r'^---$', path.read_text(), flags=re.M), strict=True):
        found = [match for line in text.splitlines() if (match := FIELD.match(line))]
        for title, rows in (
            ('constants', [m for m in found if m['value']]),
            (part, [m for m in found if not m['value']]),
        ):
            if not rows:
                continue
            lines += [f'**{title.capitalize()}**', '', '| name | type | |', '| --- | --- | --- |']
            for match in rows:
                value = f' = {match["value"]}' if match['value'] else ''
                lines.append(
                    f'| `{match["name"]}`{value} | `{match["type"]}` | {_cell(match["text"])} |'
                )
            lines.append('')
    return lines


def parameters() -> str:
    """Render every parameter of every node from the records that declare them."""
    from vljepa_ros.nodes import parameters as records

    lines: list[str] = []
    nodes = {**records.TABLE, 'each camera of perception_node': records.CAMERA}
    for node, specs in nodes.items():
        title = f'`{node}`' if node in records.TABLE else node.capitalize()
        lines += [f'## {title}', '']
        lines += ['| parameter | type | default | range | read | |', '|' + ' --- |' * 6]
        for spec in specs:
            name = spec.name if node in records.TABLE else f'<camera>.{spec.name}'
            lines.append(
                f'| `{name}` | {TYPES[type(spec.default)]} | `{shown(spec.default)}` '
                f'| {_range(spec)} | {_read(spec)} | {_cell(spec.description)} |'
            )
        lines.append('')
    return '\n'.join(lines)


def shown(value: Any) -> str:
    """Return a parameter's value in YAML syntax."""
    if isinstance(value, list):
        items = (f"'{item}'" if isinstance(item, str) else shown(item) for item in value)
        return f'[{", ".join(items)}]'
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:g}' if isinstance(value, float) else str(value) or "''"


def _range(spec: Any) -> str:
    if spec.choices:
        return ', '.join(f'`{shown(choice)}`' for choice in spec.choices)
    return str(spec.range_text())


def _read(spec: Any) -> str:
    if spec.runtime:
        return 'at run time'
    return 'at start' if spec.read_only else 'on configure'


def commands() -> str:
    """Render every command of `vljepa` with its arguments, from the argument parser itself."""
    from vljepa_ros.cli.main import make_parser

    return '\n'.join(line for parser in _parsers(make_parser()) for line in _command(parser))


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from _parsers(command)


def _command(parser: argparse.ArgumentParser) -> list[str]:
    level = '#' * (len(parser.prog.split()))
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=USAGE_WIDTH)
    usage = parser.format_usage().removeprefix('usage: ').rstrip()
    text = str(parser.description or '')
    text = text[:1].upper() + text[1:]
    lines = [f'{level} `{parser.prog}`', '', text, '', '```text', usage, '```', '']
    rows = [action for action in parser._actions if _is_shown(action)]
    if rows:
        lines += ['| argument | default | |', '| --- | --- | --- |']
        for action in rows:
            lines.append(f'| {_names(action)} | {_default(action)} | {_help(parser, action)} |')
        lines.append('')
    return lines


def _is_shown(action: argparse.Action) -> bool:
    hidden = (argparse._HelpAction, argparse._SubParsersAction)
    return not isinstance(action, hidden) and action.help is not argparse.SUPPRESS


def _names(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else '')
    if not action.option_strings:
        return f'`{value}`'
    shown_value = '' if action.nargs == 0 else f' {value}'
    return f'`{", ".join(action.option_strings)}{shown_value}`'


def _default(action: argparse.Action) -> str:
    if action.default in (None, False, [], '', argparse.SUPPRESS):
        return 'required' if action.required and action.option_strings else ''
    return f'`{action.default}`'


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    values = {**vars(action), 'prog': parser.prog}
    text = _cell((action.help or '') % values)
    choices = [str(choice) for choice in action.choices or ()]
    if choices and choices[0] not in text:
        text = f'{text} (one of {", ".join(choices)})'
    return text


def _cell(text: str) -> str:
    return text.replace('|', '\\|').replace('<', '&lt;').strip()


GENERATORS: dict[str, Callable[[], str]] = {
    'interfaces': interfaces,
    'parameters': parameters,
    'commands': commands,
}


if __name__ == '__main__':  # print one section, to check it without building the site
    print(GENERATORS[sys.argv[1]]())
