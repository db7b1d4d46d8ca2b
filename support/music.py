"""Many MIDI files as pieces to learn, and words of music to begin with.

collection = read(['data/track1.mid'])
collection.pieces[0]        # the pseudo-words of a file, ['00_90_4560', '8360_80_4540', ...]
collection.setup            # what they do not tell; read_midi.py says what both are
"""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
import re

from read_midi import MidiError, MusicError, Setup, choose_track, note_counts, parse_word, read_midi
from read_midi import WORD, resolution, setup_of, to_words, track_name, with_deltas
from support.text import EOS

# Types per token above which music is learnt by heart: recordings of a piano have 0.17 to 0.55,
# half of them over 0.29; folk tunes below 0.11.
MAX_TYPES_PER_TOKEN = 0.2
SUFFIXES = {'.mid', '.midi', '.kar', '.rmi', '.smf'}
PITCHES = ['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B']


@dataclasses.dataclass(frozen=True)
class Collection:
    """What `read` found.

    pieces: the words (list of str) of each piece; setup: the Setup that they share, `longest`
    the ticks of their longest note; remarks: lines (list of str) for the user.
    """

    pieces: list
    setup: Setup
    remarks: list


def read(paths, track=None, events='notes', setup=None):
    """The Collection of the pieces in files and folders (list of paths).

    track: an int, 'all', or None, the track with most notes of each file. events: a key of
    read_midi.EVENTS. setup: a Setup to go on with; or None: that of the first piece, with the
    programs of channels that only later ones use. All pieces count time as the setup does or,
    without one, as most of them do. A file in a folder that cannot be used becomes a remark;
    one that is named itself is an error: MusicError.
    """
    files = _files(paths)
    found, pieces, remarks, converted = [], [], [], 0
    for path, named in files:
        with _left_out(path, named, remarks):
            data = read_midi(path)
            chosen = choose_track(data, track)
            words, own = to_words(data, chosen, events), setup_of(data, chosen)
            found.append((path, named, words, own))
            if data['warnings']:
                _, offset, reason = data['warnings'][0]
                count = len(data['warnings'])
                remarks.append(f'{path}: {reason} (byte {offset}); warnings: {count}')
            if len(files) == 1:
                remarks += [*_tracks(data), f'learning track {chosen}']
    if found and not setup:
        setup = _most_frequent([own for *_, own in found])
    for path, named, words, own in found:
        with _left_out(path, named, remarks):
            old, new = resolution(own.division), resolution(setup.division)
            pieces.append(words if old == new else rescale(words, old, new))
            converted += old != new
            setup = dataclasses.replace(setup, events={**own.events, **setup.events})
    if not pieces:
        raise MusicError(f'{files[0][0].parent}: no MIDI file in it can be used')
    if converted:
        counted = f'{converted} of {len(pieces)} pieces counted time in other units'
        remarks.append(f'{counted}: converted')
    longest = max([1, *map(longest_note, pieces)])
    return Collection(pieces, dataclasses.replace(setup, longest=longest), remarks)


def _files(paths):
    """[(path of a file, is it named itself?), ...] for files and folders."""
    files = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            inside = [p for p in sorted(path.rglob('*')) if p.suffix.lower() in SUFFIXES]
            inside = [p for p in inside if p.is_file() and not p.name.startswith('.')]
            if not inside:
                raise MusicError(f'{path}: no MIDI file in this folder')
            files += [(file, False) for file in inside]
        else:
            files.append((path, True))
    return files


@contextlib.contextmanager
def _left_out(path, named, remarks):
    """An error in a file becomes a remark or, if the file is named itself, a MusicError."""
    try:
        yield
    except (MidiError, MusicError) as error:
        message = str(error) if isinstance(error, MidiError) else f'{path}: {error}'
        if named:
            raise MusicError(message) from None
        remarks.append(f'left out: {message}')


def _tracks(data):
    """The tracks that have notes, in lines (list of str)."""
    return [
        f'  track {number} {track_name(track)!r}: {count:,} notes'
        for number, (track, count) in enumerate(zip(data['tracks'], note_counts(data)))
        if count
    ]


def _most_frequent(setups):
    """The first setup, without events, of the resolution that most have; of several the finest."""
    counts = collections.Counter(resolution(setup.division) for setup in setups)
    most = max(counts, key=lambda ticks: (counts[ticks], ticks))
    division = next(setup.division for setup in setups if resolution(setup.division) == most)
    return Setup(division, {})


# Changing a piece


def rescale(words, old, new):
    """The words of a piece whose resolution is `old`, counted in `new` (both int).

    Times are rounded, not the distances between them. MusicError if only one of the two
    counts SMPTE frames.
    """
    if (old < 0) != (new < 0):
        raise MusicError('it counts time in SMPTE frames, others in quarters, or the reverse')
    ticks = itertools.accumulate(parse_word(word)[0] for word in words)
    return with_deltas(
        ((2 * tick * new + old) // (2 * old), word.split('_', 1)[1])
        for tick, word in zip(ticks, words)
    )


def transpose(words, semitones):
    """The words with all keys moved; [] if one would leave 0 to 127. Drums (channel 10) stay."""
    moved = []
    for word in words:
        delta, status, body = word.split('_')
        if status[0] in '89' and status[1] != '9':
            key = int(body[:2], 16) + semitones
            if not 0 <= key < 128:
                return []
            word = f'{delta}_{status}_{key:02x}{body[2:]}'
        moved.append(word)
    return moved


def also_transposed(words, low, high):
    """The words of pieces after all their transpositions by low to high semitones.

    EOS stands between the pieces. A last piece that is cut (the rest of it is for validation)
    is cut in its transpositions, too.
    """
    pieces = [list(piece) for end, piece in itertools.groupby(words, EOS.__eq__) if not end]
    steps = [step for step in range(min(low, high), max(low, high) + 1) if step]
    moved = [transpose(piece, step) for step in steps for piece in pieces]
    return [word for piece in moved if piece for word in (EOS, *piece)] + words


def longest_note(words):
    """Ticks (int) of the longest note that both begins and ends; 0 if there is none."""
    longest = tick = 0
    sounding = collections.defaultdict(collections.deque)
    for word in words:
        ticks, status, body = parse_word(word)
        tick += ticks
        starts = sounding[status[0] % 16, body[0]]
        if status[0] >> 4 == 9 and body[1]:
            starts.append(tick)
        elif status[0] >> 4 in (8, 9) and starts:
            longest = max(longest, tick - starts.popleft())
    return longest


# Words to begin with


def pitch_words(vocabulary):
    """What starts each note that the vocabulary knows: dict of key (int) to word (str), by key.

    Of several words for one key the one with the shortest delta, the first of these.
    """
    starts = {}
    for word in filter(WORD.fullmatch, vocabulary):
        ticks, status, body = parse_word(word)
        key = body[0]
        is_start = status[0] >> 4 == 9 and body[1]
        if is_start and (key not in starts or ticks < starts[key][0]):
            starts[key] = ticks, word
    return {key: word for key, (_, word) in sorted(starts.items())}


def pitch_key(name):
    """The key (int) of the pitch called `name`, C4 (60) or F#3 or Bb5; None if that is no name."""
    match = re.fullmatch('([A-Ga-g])([#b]?)(-?[0-9])', name)
    if not match:
        return None
    accidental = {'': 0, '#': 1, 'b': -1}[match[2]]
    return PITCHES.index(match[1].upper()) + accidental + 12 * (int(match[3]) + 1)


def pitch_name(key):
    """The name (str) of a key (int), 'C4' for 60."""
    return f'{PITCHES[key % 12]}{key // 12 - 1}'


def nearest_word(word, vocabulary):
    """The word of the vocabulary that is most like `word`: channel, kind, key, time, velocity.

    MusicError if the vocabulary has no music word at all.
    """
    ticks, status, body = parse_word(word)

    def distance(other):
        other_ticks, other_status, other_body = parse_word(other)
        return (
            other_status[0] % 16 != status[0] % 16,
            other_status[0] >> 4 != status[0] >> 4,
            abs(other_body[0] - body[0]),
            abs(other_ticks - ticks),
            abs(other_body[-1] - body[-1]),
        )

    near = min(filter(WORD.fullmatch, vocabulary), key=distance, default=None)
    if near is None:
        raise MusicError('the model knows no music word')
    return near
