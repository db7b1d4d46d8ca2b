"""Both READMEs name every option, and quote the speed that was measured."""

import json
import pathlib
import re
import textwrap

import pytest

import generate
import train
from bench import speed

ROOT = pathlib.Path(train.__file__).parent


@pytest.mark.parametrize('name', ['README.md', 'README.ja.md'])
def test_every_option_is_in_the_table(name, capsys):
    programs = []
    for program in (train, generate):
        with pytest.raises(SystemExit):
            program.main(['--help'])
        help = capsys.readouterr().out
        programs.append(set(re.findall(r'^  (?:-\w[^,]*, )?(--[\w-]+)|, (--[\w-]+)', help, re.M)))
    real = {option for found in programs for pair in found for option in pair if option} - {
        '--help',
        '--no-stepwise',
    }
    table = set(re.findall(r'^\| `(--[\w-]+)`', (ROOT / name).read_text(encoding='utf-8'), re.M))
    assert table == real


def test_hello(folder, capsys):
    """The two commands and the program, as they stand there, the same in both."""
    texts = [(ROOT / name).read_text(encoding='utf-8') for name in ('README.md', 'README.ja.md')]
    commands, other_commands = (
        re.findall(r'^    python (train|generate)\.py (.*hello.*)$', text, re.M) for text in texts
    )
    code, other_code = (
        re.findall(r'^    from support import checkpoint\n(?:    .*\n)+', text, re.M)
        for text in texts
    )
    assert commands == other_commands and code == other_code and len(code) == 1
    for program, arguments in commands:
        assert {'train': train, 'generate': generate}[program].main(arguments.split()) == 0
    assert capsys.readouterr().out.endswith('\nhello\n')
    exec(textwrap.dedent(code[0]), {})
    assert capsys.readouterr().out.split() == ['e', 'l', 'l', 'o']


@pytest.mark.parametrize('name', ['README.md', 'README.ja.md'])
def test_the_table_of_speed_is_what_was_measured(name):
    result = json.loads((ROOT / 'bench' / 'results' / 'cpu.json').read_text())
    assert '\n'.join(speed.table(result)) in (ROOT / name).read_text(encoding='utf-8')
