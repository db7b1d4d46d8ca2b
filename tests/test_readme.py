"""The READMEs and docs/: links lead somewhere, programs and options exist, figures are measured."""

import json
import pathlib
import re
import textwrap

import pytest

import generate
import train
from bench import speed

ROOT = pathlib.Path(train.__file__).parent
PAGES = [
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob('README*.md'), ROOT / 'data/README.md', *ROOT.glob('docs/**/*.md')]
]
LANGUAGES = {  # the README and the folder of the pages it leads to
    'English': ('README.md', 'docs'),
    'Japanese': ('README.ja.md', 'docs/ja'),
}


def text_of(page):
    return (ROOT / page).read_text(encoding='utf-8')


def anchors(text):
    """The names under which GitHub lets a link point to the headings of a page."""
    headings = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES)
def test_links_and_pictures_are_there(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', text_of(page)):
        if link.startswith(('https://', 'http://')):
            continue
        name, _, anchor = link.partition('#')
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding='utf-8')), link


@pytest.mark.parametrize('readme, folder', LANGUAGES.values(), ids=LANGUAGES)
def test_the_readme_leads_to_every_page(readme, folder):
    pages = {f'{folder}/{path.name}' for path in (ROOT / folder).glob('*.md')}
    assert {path.name for path in (ROOT / 'docs').glob('*.md')} == {
        pathlib.Path(page).name for page in pages
    }
    assert pages <= set(re.findall(r'\]\(([^)\s#]+)', text_of(readme)))


@pytest.mark.parametrize('readme, folder', LANGUAGES.values(), ids=LANGUAGES)
@pytest.mark.parametrize('program', [train, generate], ids=['train', 'generate'])
def test_every_option_is_explained(program, readme, folder, capsys):
    with pytest.raises(SystemExit):
        program.main(['--help'])
    options = set(re.findall(r'(?:^  |, )(--[\w-]+)', capsys.readouterr().out, re.M))
    options -= {'--help', '--no-stepwise'}
    assert '--gpu' in options
    pages = [readme, *(path.relative_to(ROOT) for path in (ROOT / folder).glob('*.md'))]
    assert options <= set(re.findall(r'--[a-z][\w-]+', ''.join(map(text_of, pages))))


@pytest.mark.parametrize('page', ['docs/development.md', 'docs/ja/development.md'])
def test_every_file_has_its_line(page):
    files = [*ROOT.glob('*.py'), *ROOT.glob('support/[!_]*.py')]
    names = re.findall(r'^\| `([\w/]+\.py)` \|', text_of(page), re.M)
    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(names)


def table_of(text):
    """The letters (list of str) and their shares (list of float, %) in a table of --why."""
    rows = re.findall(r'^ *(\w) +([\d.]+)%  ', text, re.M)
    return [letter for letter, _ in rows], [float(share) for _, share in rows]


def test_hello(folder, capsys):
    """The commands, the program and the table, as they stand there, the same in both languages."""
    texts = [text_of(f'{folder}/training.md') for _, folder in LANGUAGES.values()]
    commands, other_commands = (
        re.findall(r'^    python (train|generate)\.py (.*hello.*)$', text, re.M) for text in texts
    )
    code, other_code = (
        re.findall(r'^    from support import checkpoint\n(?:    .*\n)+', text, re.M)
        for text in texts
    )
    assert commands == other_commands and code == other_code and len(code) == 1
    outputs = []
    for program, arguments in commands:
        assert {'train': train, 'generate': generate}[program].main(arguments.split()) == 0
        outputs.append(capsys.readouterr().out)
    assert len(outputs) == 3 and outputs[1] == 'hello\n'
    letters, shares = table_of(outputs[2])
    assert letters == list('hello') and min(shares[1:]) > 99
    for readme, folder in LANGUAGES.values():
        for page in (readme, f'{folder}/training.md'):
            assert table_of(text_of(page)) == (letters, pytest.approx(shares, abs=0.5))
    exec(textwrap.dedent(code[0]), {})
    assert capsys.readouterr().out.split() == ['e', 'l', 'l', 'o']


@pytest.mark.parametrize('page', ['docs/speed.md', 'docs/ja/speed.md'])
def test_tables_of_speed_are_what_was_measured(page):
    """Every table of the page is that of a file of results; the CPU's is among them."""
    results = {
        path.name: speed.table(json.loads(path.read_text(encoding='utf-8')))
        for path in (ROOT / 'bench/results').glob('*.json')
    }
    text = text_of(page)
    quoted = {name for name, lines in results.items() if '\n'.join(lines) in text}
    assert 'cpu.json' in quoted
    assert text.count(results['cpu.json'][2]) == len(quoted)  # the tables' first row
