"""generate.py --why: the network's own probabilities, as a table that lines up and as a page."""

import html.parser
import pathlib
import re
import shutil

import numpy
import pytest

from support import checkpoint, why
from support.text import EOS, tokenize
from support.source import DATA
import generate
import train
from conftest import TINY, arrays, run


def expected(path, words):
    """(N, n_vocab) float64: the softmax before each word but the first, computed from the arrays.

    Written down from the equations of the LSTM, two layers of it, with NumPy alone.
    """
    W = {name: array.astype('d') for name, array in arrays(path).items() if array.dtype == 'f'}
    vocabulary = checkpoint.load(path).vocabulary
    n = W['model/l1_h/W'].shape[1]
    c, h, rows = numpy.zeros((3, n)), numpy.zeros((3, n)), []
    for word in words[:-1]:
        x = W['model/l0/W'][vocabulary.index(word)]
        for k in (1, 2):
            gates = W[f'model/l{k}_x/W'] @ x + W[f'model/l{k}_x/b']
            gates += W[f'model/l{k}_h/W'] @ h[k] + W[f'model/l{k}_h/b']
            a, i, f, o = (gates[gate::4] for gate in range(4))
            c[k] = numpy.tanh(a) / (1 + numpy.exp(-i)) + c[k] / (1 + numpy.exp(-f))
            x = h[k] = numpy.tanh(c[k]) / (1 + numpy.exp(-o))
        y = numpy.exp(W['model/l3/W'] @ x + W['model/l3/b'])
        rows.append(y / y.sum())
    return numpy.array(rows)


def rows_of(table):
    """[[word, probability, rival, probability, ...], ...] of a printed table, without its header.

    Probabilities are shares of 1 (float), None where there is none.
    """
    rows = [line.split() for line in table.splitlines() if not line.startswith('* ')]
    assert rows[0] == ['word', 'probability', 'rivals']
    return [
        [cell if n % 2 == 0 else share_of(cell) for n, cell in enumerate(row)] for row in rows[1:]
    ]


def share_of(cell):
    return None if cell == '-' else float(cell.removeprefix('<').removesuffix('%')) / 100


@pytest.fixture
def said(capsys):
    """said(*argv): what generate.py prints."""

    def call(*argv):
        capsys.readouterr()
        assert run(generate, *argv) == 0
        return capsys.readouterr().out

    return call


# Probabilities


def test_the_table_has_the_probabilities_of_the_network(trained, said):
    """At temperature 1 and without top-k, whatever the words were drawn with."""
    argv = ['--start', 'the cat sat', '--length', 30, '--seed', 3, '--temperature', 3, '--top-k', 6]
    table = said(*argv, '--why')
    assert table.endswith('\n* drawn with --temperature 3 --top-k 6\n')
    rows = rows_of(table)
    assert [row[0].endswith('*') for row in rows] == [False] * 3 + [True] * 30
    words = [row[0].removesuffix('*').replace('⏎', EOS) for row in rows]
    assert words[:3] == ['the', 'cat', 'sat'] and len(set(words)) > 5
    vocabulary = checkpoint.load(trained / 'last.npz').vocabulary
    for row, word, p in zip(rows, words, expected(trained / 'last.npz', [EOS, *words])):
        others = sorted(set(vocabulary) - {word}, key=lambda other: -p[vocabulary.index(other)])
        names = [word, *others[:3]]
        assert row[1::2] == pytest.approx([p[vocabulary.index(name)] for name in names], abs=6e-5)
        assert sum(row[1::2]) <= 1.0002 and row[3::2] == sorted(row[3::2], reverse=True)
        assert set(row[2::2]) == {name.replace(EOS, '⏎') for name in names[1:]}


def test_the_explained_text_is_the_one_that_would_be_written(trained, said, folder):
    argv = ['--length', 25, '--seed', 5, '--num', 2]
    text = said(*argv)
    assert said(*argv, '--why', '--out', 'story.txt') == (table := said(*argv, '--why'))
    assert (folder / 'story.txt').read_text() == text
    assert said(*argv, '--why', 'page.html') == text
    tables = table.split('\n\n')
    assert len(tables) == 2
    for table, written in zip(tables, text.split('\n\n')):
        words = [row[0].replace('⏎', EOS) for row in rows_of(table)]
        assert len(words) == 25 and tokenize(written, 'space')[:24] == words[:24]
        p = expected(trained / 'last.npz', [EOS, *words])  # it began a line
        vocabulary = checkpoint.load(trained / 'last.npz').vocabulary
        chosen = [row[vocabulary.index(word)] for row, word in zip(p, words)]
        assert [row[1] for row in rows_of(table)] == pytest.approx(chosen, abs=6e-5)


def test_a_given_text_is_read_and_stop_ends_one(trained, said):
    table = said('--start', 'the cat\nate fish', '--length', 0, '--why')
    assert [row[0] for row in rows_of(table)] == ['the', 'cat', '⏎', 'ate', 'fish']
    rows = rows_of(said('--start', '<eos>', 'cat', '--length', 0, '--why'))
    assert rows[0] == ['⏎', None] and rows[1][0] == 'cat'  # nothing stands before that line end
    rows = rows_of(said('--stop', 'cat', '--length', 500, '--seed', 0, '--why'))
    assert [row[0] for row in rows].index('cat') == len(rows) - 1


def test_hello(folder, said):
    """The letter l has two answers: the network remembers what came before."""
    options = ['--cell', 'rnn', '--layer', 1, '--unit', 16, '--dropout', 0, '--lr', 0.01]
    argv = ['--corpus', 'hello.txt', '--level', 'char', *options, '--sample-every', 0]
    assert run(train, *argv) == 0
    rows = rows_of(said('--start', 'hello', '--length', 0, '--why'))
    assert [row[0] for row in rows] == ['h', 'e', 'l', 'l', 'o']
    assert all(row[1] > 0.9 for row in rows[1:])
    given_hell = rows_of(said('--start', 'hell', '--length', 1, '--temperature', 0, '--why'))
    assert given_hell[4][0] == 'o*' and given_hell[4][1] > 0.9


def test_a_network_that_says_no_numbers(trained, capsys):
    """An old page stays as it was."""
    saved = checkpoint.load(trained / 'last.npz')
    saved.model.l2_x.b.array[...] = 100
    saved.model.l3.W.array[...] = 3e38
    checkpoint.save('large.npz', saved)
    pathlib.Path('page.html').write_text('old', encoding='utf-8')
    for argv in (['--length', 0, '--start', 'cat', '--why', 'page.html'], ['--why']):
        capsys.readouterr()
        assert run(generate, '--model', 'large.npz', *argv) in (0, 1)
    assert pathlib.Path('page.html').read_text(encoding='utf-8') == 'old'
    assert not [path for path in pathlib.Path().iterdir() if path.name.endswith('.part')]


# What is seen


@pytest.fixture
def japanese(folder):
    """A model of a text in Japanese that has spaces of both kinds, and half-width letters."""
    text = '\u3000ホームズはA Studyを見た。\n「ｶﾞﾗｽ」と言った、緋の研究。\n' * 20
    (folder / 'j.txt').write_text(text, encoding='utf-8')
    assert run(train, '--corpus', 'j.txt', *TINY) == 0


def test_columns_line_up_where_kanji_take_two(japanese, said):
    """In Shift_JIS a character has as many bytes as it takes columns; the signs take one."""
    table = said('--length', 300, '--seed', 1, '--why')
    assert 'ホームズ' in table and 'ﾗｽ' in table and '⏎' in table
    lines = [re.sub('[⏎␣□]', '^', line).encode('cp932') for line in table.splitlines()]
    ends = [[match.end() for match in re.finditer(b'%', line)] for line in lines[1:]]
    assert len(ends[0]) == 4 and all(end == ends[0] for end in ends)
    assert lines[0].index(b'probability') + len(b'probability') == ends[0][0]


def test_what_no_eye_sees(japanese, said):
    assert why.visible('a\tb\x1b[2J\u200b') == 'a\\tb\\x1b[2J\\u200b'
    assert [why.visible(word) for word in (EOS, ' ', '\u3000', '緋')] == ['⏎', '␣', '□', '緋']
    words = [row[0] for row in rows_of(said('--start', '\u3000A Study', '--length', 0, '--why'))]
    assert words == ['□', 'A', '␣', 'Study']


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its paragraphs, their words, what pointing shows."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.texts, self.words, self.shown = [], [], [], [], []
        self.feed(pathlib.Path(path).read_text(encoding='utf-8'))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ('meta', 'br'):
            self.open.append(tag)
        if tag == 'p':
            self.texts.append('')
        elif self.open[-2:] == ['p', 'span']:
            self.words.append('')
            self.shown.append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-2:] == ['span', 'small']:
            self.shown[-1] += data
        elif self.open and self.open[-1] in ('p', 'span') and 'p' in self.open:
            self.texts[-1] += data
            if self.open[-1] == 'span':
                self.words[-1] += data


def test_the_page_has_every_word_once_and_escaped(folder, said):
    text = 'Holmes & Watson <b>said</b> "it\'s <unk> &amp; gone"\n' * 30 + 'rare words\n'
    (folder / 'odd.txt').write_text(text)
    assert run(train, '--corpus', 'odd.txt', '--min-count', 2, *TINY) == 0
    start = text.splitlines()[0].replace('<unk>', '')
    written = said('--start', start, '--length', 0, '--why', 'page.html')
    page = Page('page.html')
    assert page.words == tokenize(written, 'space')[:-1] and '&' in page.words
    assert page.texts == [written.rstrip('\n')]
    table = [
        re.split(' {2,}', line)
        for line in said('--start', start, '--length', 0, '--why').splitlines()
    ]
    for (name, share, *rivals), word, shown in zip(table[1:], page.words, page.shown):
        assert name == word and shown.startswith(f'{word} {share.strip()}')
        assert all(f'{rival} {p}' in shown for rival, p in zip(rivals[::2], rivals[1::2]))
    assert any('<unk>' in shown for shown in page.shown)  # it is a rival, though never written


def test_the_page_needs_nothing_else(trained, said):
    said('--why', 'page.html', '--num', 3, '--length', 40, '--seed', 1, '--temperature', 0.5)
    page = Page('page.html')
    assert not page.open and len(page.texts) == 3 and len(page.words) == 120
    assert not {'script', 'img', 'link', 'a', 'iframe'} & {tag for tag, _ in page.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a in ('src', 'href')]
    source = pathlib.Path('page.html').read_text(encoding='utf-8')
    assert 'http' not in source and 'url(' not in source and '@import' not in source
    words = [attributes for tag, attributes in page.tags if 'tabindex' in attributes]
    assert len(words) == 120 and all(' drawn' in word['class'] for word in words)
    assert '--temperature 0.5' in source
    said('--why', 'page.html', '--start', 'the cat', '--length', 40)
    assert (
        'dotted' not in pathlib.Path('page.html').read_text(encoding='utf-8').split('</style>')[1]
    )


def test_the_deeper_the_colour_the_greater_the_surprise(trained, said):
    said('--why', 'page.html', '--length', 80, '--seed', 2)
    page = Page('page.html')
    depths = [
        float(attributes['style'].split(':')[1])
        for _, attributes in page.tags
        if 'tabindex' in attributes
    ]
    shares = [share_of(shown.split(';')[0].split()[1]) for shown in page.shown]
    n_vocab = len(checkpoint.load(trained / 'last.npz').vocabulary)
    bits = numpy.minimum(1, -numpy.log(shares) / numpy.log(n_vocab))
    assert depths == pytest.approx(list(bits), abs=0.02) and len(set(depths)) > 5
    never = why.Word('', 'x', 0.0, [], is_given=True)
    assert why.page([[never]], '', 2).count('--surprise:1.00') == 2  # one is that of the scale


# Music


@pytest.mark.parametrize(
    'word, name',
    [
        ('00_90_4560', 'A4 on 96'),
        ('8360_80_4540', '+1/4 A4 off'),
        ('8170_82_3c30', '+1/8 C4 off 48, channel 3'),
        ('00_99_2450', 'drum 36 on 80'),
        ('01_b0_407f', '+1/1920 controller, channel 1: 64 127'),
        ('00_ff_510307a120', 'tempo: 120 quarters per minute'),
        ('<eos>', '⏎'),
        ('<unk>', '<unk>'),
    ],
)
def test_notes_have_names(word, name):
    assert why.note_name(word, quarter=480) == name


def test_a_piece(folder, said):
    assert run(train, '--midi', 'track1.mid', *TINY, '--epoch', 1) == 0
    argv = ['--start', 'A4', '--length', 20, '--seed', 1, '--midi', 'out.mid']
    table = said(*argv, '--why')
    assert 2 <= table.count('\n') <= 22 and table.splitlines()[1].startswith('A4 on ')
    assert (folder / 'out.mid').exists()
    first = (folder / 'out.mid').read_bytes()
    assert said(*argv, '--why', 'page.html') == '' and Page('page.html').words[0] in table
    assert (folder / 'out.mid').read_bytes() == first
    primer = ['--primer', DATA / 'track1.mid', '--length', 0, '--midi', 'out.mid', '--why']
    assert said(*primer).count('\n') == 17
    argv = ['--length', 20, *primer[:2], '--no-primer', '--temperature', 0, '--midi', 'out.mid']
    rows = said(*argv, '--why').splitlines()[1:-1]
    assert rows and not any(' - ' in row for row in rows)  # read, but not shown


# Wrong use


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--why', 'ホームズ'], 'its name should end in .html'),
        (['--why', 'page.txt'], 'its name should end in .html'),
        (['--why', ''], 'not the name of a file'),
        (['--why', 'absent/page.html'], 'there is no folder absent'),
        (['--why', 'page.html', '--out', './page.html'], 'file of its own'),
        (['--why', '--near', 'cat'], '--near lists words'),
        (['--why', '--length', '0'], '--start'),
    ],
)
def test_wrong_use(trained, failed, argv, message):
    assert message in failed(2, generate, *argv)


def test_no_page_replaces_a_text_that_was_learned(small_text, failed):
    shutil.copy(small_text, 'page.html')
    assert run(train, '--corpus', 'page.html', *TINY) == 0
    assert 'has learned this file' in failed(2, generate, '--why', './page.html')
    assert pathlib.Path('page.html').read_bytes() == small_text.read_bytes()
