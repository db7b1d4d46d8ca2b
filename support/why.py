"""What a model thought before each word of a text: --why of generate.py, a table or a web page.

It is Karpathy's picture of hello in numbers: the word that comes, and what else could have come.
"""

import dataclasses
import functools
import html
import itertools
import math
import re
import unicodedata
from fractions import Fraction

import numpy

from read_midi import WORD, Setup, parse_word, quarter_of
from support.describe import PERCUSSION, describe
from support.music import pitch_name
from support.text import EOS, detokenize_stream, encode

RIVALS = 3  # likeliest other words that are shown
SIGNS = {' ': '␣', '\u3000': '□'}  # of the spaces, as editors show them

STYLE = """
:root { color-scheme: light dark; font: 1.1em/2 sans-serif }
body { max-width: 45em; margin: auto; padding: 1em 1em 5em }
p { white-space: pre-wrap; overflow-wrap: anywhere }
span { background: rgb(213 94 0 / calc(var(--surprise) * 0.75)); padding: 0.15em 0.05em }
span { border: 1px solid rgb(128 128 128 / 0.25) }
.drawn { text-decoration: underline dotted }
.word small { display: none; position: fixed; inset: auto 0 0; padding: 0.5em 1em }
.word small { background: Canvas; border-top: 2px solid }
.word:hover, .word:focus { outline: 2px solid }
.word:hover small, .word:focus small { display: block }
.word:hover small { z-index: 1 }
"""


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a text as people read it, and what the model gave it before it came."""

    space: str  # what separates it from the word before
    name: str
    probability: float | None  # None: the model had read nothing yet
    rivals: list  # of (name, probability): the likeliest other words, the likeliest first
    is_given: bool  # to the model, and not drawn by it


def explain(saved, step, unseen, words, given, wakati=False):
    """The Words (list) of words (list of str), of which the first `given` (int) were not drawn.

    saved: the Checkpoint of the model; step(model, [id]) gives its logits of the next word,
    (1, n_vocab) float64, of which probabilities are the softmax; unseen: words (list of str) that
    it reads before; wakati: see `detokenize`. MusicError if a word of music is impossible.
    """
    vocabulary, named, explained, logits = saved.vocabulary, visible, [], None
    if saved.kind == 'music':
        quarter = quarter_of(Setup.from_dict(saved.setup).division)
        named = functools.partial(note_name, quarter=quarter)
    pieces = detokenize_stream(words, saved.tokenizer, wakati)
    saved.model.initialize_state(1)
    for n, i in enumerate(encode([*unseen, *words], vocabulary), -len(unseen)):
        if n >= 0:
            probability, rivals, piece = None, [], next(pieces)
            if logits is not None:
                p = numpy.exp(logits[0] - logits.max())
                p /= p.sum()
                order = numpy.argsort(-p, kind='stable')[: RIVALS + 1]
                rivals = [(named(vocabulary[j]), float(p[j])) for j in order if j != i][:RIVALS]
                probability = float(p[i])
            space = '\n' if n and words[n - 1] == EOS else piece[: -len(words[n])]
            explained.append(Word(space, named(words[n]), probability, rivals, n < given))
        logits = step(saved.model, [i])
    return explained


# Names


def visible(word):
    """A word (str) with signs for the line end and for spaces, and codes for control characters."""
    if word == EOS:
        return '⏎'
    return ''.join(SIGNS.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in word)


def note_name(word, quarter):
    """What a pseudo-word of music says (str): '+1/4 A4 on 96' is a note of velocity 96.

    It begins a fourth of a whole note after the event before. quarter: ticks (int) of a quarter.
    MusicError if the word is impossible.
    """
    if not WORD.fullmatch(word):  # the end of a piece
        return visible(word)
    ticks, status, body = parse_word(word)
    kind, channel = status[0] >> 4, status[0] % 16 + 1
    wait = f'+{Fraction(ticks, 4 * quarter)} ' * bool(ticks)
    if kind not in (8, 9):
        meta, body = (body[:1], body[2:]) if kind == 15 else (b'', body)
        return wait + describe({'status': status, 'meta': meta, 'body': body})
    name = f'drum {body[0]}' if channel == PERCUSSION else pitch_name(body[0])
    name += f' on {body[1]}' if kind == 9 else ' off' + f' {body[1]}' * (body[1] != 64)
    return wait + name + f', channel {channel}' * (channel not in (1, PERCUSSION))


def percent(probability):
    """A probability as people read it (str), '-' of None."""
    if probability is None:
        return '-'
    return f'{probability:.2%}' if probability >= 5e-5 else '<0.01%'


# Table


def columns(text):
    """How many columns of a terminal a text (str) takes: two each for kanji, kana and the like."""
    wide = sum(unicodedata.east_asian_width(c) in 'WF' for c in text)
    return len(text) + wide - sum(unicodedata.category(c) in ('Mn', 'Me') for c in text)


def table(words, drawn_with=''):
    """Words (a list of Word) in aligned lines (str): each with its probability and its rivals.

    drawn_with: the options with which words were drawn if not with these probabilities.
    """
    rows = [['word', 'probability', '']]  # 'rivals' comes later: it widens no column
    for word in words:
        mark = '*' * bool(drawn_with and not word.is_given)
        rows.append([word.name + mark, percent(word.probability)])
        rows[-1] += [cell for name, p in word.rivals for cell in (name, percent(p))]
    aligned = []
    for number, column in enumerate(itertools.zip_longest(*rows, fillvalue='')):
        widest = max(map(columns, column))
        pads = [' ' * (widest - columns(cell)) for cell in column]
        is_name = number % 2 == 0  # names to the left, probabilities to the right
        aligned.append([(c + pad if is_name else pad + c) for c, pad in zip(column, pads)])
    aligned[2] = ['rivals', *aligned[2][1:]]
    lines = ['  '.join(cells).rstrip() for cells in zip(*aligned)]
    return '\n'.join([*lines, *[f'* drawn with {drawn_with}'] * bool(drawn_with), ''])


# Page


def page(texts, about, n_vocab, drawn_with=''):
    """A web page (str) of texts (lists of Word), which needs no other file and no script.

    The more a word is a surprise, the deeper its colour, up to that of a blind guess among
    n_vocab (int) words. Pointing at a word, or tapping it, shows its probability and its rivals.
    about (str): what wrote the texts; drawn_with: see `table`.
    """
    body = ''
    for words in texts:
        spans = (html.escape(word.space) + _span(word, n_vocab, drawn_with) for word in words)
        body += f'<p>{"".join(spans)}</p>\n'
    scale = (n_vocab**-share for share in (0, 0.25, 0.5, 0.75, 1))
    scale = ' '.join(f'<span {_style(p, n_vocab)}>{html.escape(percent(p))}</span>' for p in scale)
    language = ' lang="ja"' * bool(re.search('[ぁ-ヺ]', body))  # its shapes of kanji
    note = f'; dotted: drawn with {drawn_with}' * bool(drawn_with)
    return (
        f'<!DOCTYPE html>\n<html{language}>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(about)}</title>\n<style>{STYLE}</style>\n'
        f'<body ontouchstart="">\n{body}'  # without it, iOS does not take a tap for :hover
        f'<footer>probability {scale}<br>{html.escape(about + note)}</footer>\n</body>\n</html>\n'
    )


def _span(word, n_vocab, drawn_with):
    """The HTML (str) of a Word: its name, and in <small> what is shown when it is pointed at."""
    rivals = ' · '.join(f'{name} {percent(p)}' for name, p in word.rivals)
    chances = f'{word.name} {percent(word.probability)}' + f'; rivals: {rivals}' * bool(rivals)
    drawn = ' drawn' * bool(drawn_with and not word.is_given)
    return (
        f'<span class="word{drawn}" tabindex="0" {_style(word.probability, n_vocab)}>'
        f'{html.escape(word.name)}<small>{html.escape(chances)}</small></span>'
    )


def _style(probability, n_vocab):
    """The attribute (str) that colours a word: its surprise, from 0 to 1."""
    p = 1 if probability is None else max(probability, 1 / n_vocab)
    return f'style="--surprise:{abs(math.log(p)) / math.log(max(n_vocab, 2)):.2f}"'
