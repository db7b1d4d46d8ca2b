"""The words that a text or a piece begins with: what --start and --primer of generate.py mean."""

import sys

from read_midi import EVENTS, WORD, MusicError, Setup
from support import music
from support.terminal import WrongUse
from support.text import EOS, UNK, is_spaced, near_words, tokenize

PRIMER = 16  # words of a --primer that are read


def start_words(given, primer, saved):
    """The words (list of str) to begin with, all of them known to a model (Checkpoint).

    given: --start, a list of str; primer: the path of a .mid, or None. WrongUse if the model
    does not know a word; MidiError, MusicError if the .mid cannot be used.
    """
    if saved.kind == 'music':
        return _primer(primer, saved) if primer else _notes(given, saved.vocabulary)
    vocabulary, words = set(saved.vocabulary), []
    for argument in given:
        found = [argument] if argument in vocabulary else tokenize(argument, saved.tokenizer)
        found = found[:-1] if found[-1:] == [EOS] and argument != EOS else found
        apart = words and words[-1] != EOS and found and is_spaced(words[-1], found[0])
        if apart and ' ' in vocabulary:  # as in a text, where it is a word between Latin ones
            words.append(' ')
        words += found
    for word in words:
        if word not in vocabulary or word == UNK:
            raise unknown_word(word, saved.vocabulary)
    return words


def unknown_word(word, vocabulary):
    """The WrongUse for a word that is not in the vocabulary: it offers some that are."""
    near = near_words(word, vocabulary)
    known = [word for word in vocabulary if word.isalpha() and len(word) > 1] or vocabulary
    offered = ' '.join(near) if near else f'other words, such as {" ".join(known[:5])}'
    return WrongUse(f'the model does not know {word!r}; it knows {offered}')


def _notes(given, vocabulary):
    """The pseudo-words (list of str) of --start, given as words or as pitches (C4)."""
    words = ' '.join(given).split()
    for n, word in enumerate(words):
        if word not in vocabulary or word in (EOS, UNK):
            pitches = music.pitch_words(vocabulary)
            words[n] = pitches.get(music.pitch_key(word))
            if words[n] is None:
                names = ' '.join(map(music.pitch_name, pitches))
                example = [*pitches.values(), *filter(WORD.fullmatch, vocabulary), EOS][0]
                raise WrongUse(
                    f'the model knows no {word!r}; its notes are {names or "percussion"}, '
                    f'and its words such as {example}'
                )
    return words


def _primer(path, saved):
    """The first words (list of str) of a .mid, made like those that the model learned."""
    track, events, channel, grid = map(saved.options.get, ('track', 'events', 'channel', 'grid'))
    track = track if type(track) is int or track == 'all' else None
    events = events if events in (*EVENTS,) else 'notes'
    channel = channel if channel in range(1, 17) else None
    grid = grid if type(grid) is int and 0 < grid < 1 << 15 else 0
    setup = Setup.from_dict(saved.setup)
    try:
        pieces = music.read([path], track, events, setup, channel, grid).pieces
    except MusicError:  # a file without that track has another one
        pieces = music.read([path], None, events, setup, None, grid).pieces
    words = pieces[0][:PRIMER]
    unknown = [n for n, word in enumerate(words) if word not in saved.vocabulary]
    for n in unknown:
        words[n] = music.nearest_word(words[n], saved.vocabulary)
    if unknown:
        print(
            f'{len(unknown)} of the first {len(words)} words of {path} are new to the '
            'model: the nearest that it knows stand for them',
            file=sys.stderr,
        )
    return words
