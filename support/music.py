"""Many MIDI files as pieces to learn, and words of music to begin with.

collection = read(['data/track1.mid'])
collection.pieces[0]        # the pseudo-words of a file, ['00_90_4560', '8360_80_4540', ...]
collection.setup            # what they do not tell; read_midi.py says what both are
"""

import collections
import contextlib
import dataclasses
import itertools
import os
import re

from read_midi import MAX_TICKS, WORD, MidiError, MusicError, Setup, choose_channel, choose_track
from read_midi import from_bytes, in_ticks, in_time, parse_word, parts, quarter_of, read_midi
from read_midi import resolution, setup_of, to_words, track_numbers, with_deltas
from support import terminal
from support.describe import PERCUSSION
from support.notes import PEDAL, notes_of
from support.source import CorpusError, documents, files_in, find, is_folder, passed_over
from support.text import EOS

# Types per token above which music is learnt by heart: recordings of a piano have 0.17 to 0.55,
# half of them over 0.29; folk tunes below 0.11.
MAX_TYPES_PER_TOKEN = 0.2
ENDINGS = ('.mid', '.midi', '.kar', '.rmi', '.smf')
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


@dataclasses.dataclass
class _File:
    """A MIDI file, and what is learned of it."""

    name: str
    raw: bytes | None  # None: not read yet
    is_named: bool  # by the user, and not only found in a folder or zip
    words: list | None = None  # of str
    setup: Setup | None = None


def read(sources, track=None, events='notes', setup=None, channel=None, grid=0):
    """The Collection of the pieces in files, folders, zips and http(s) addresses (of str).

    track, channel: see choose_track and choose_channel of read_midi.py. events: a key of its
    EVENTS. grid: steps of a quarter to which times are rounded (see `on_grid`); 0: they are not.
    setup: a Setup to go on with, or None. All pieces count time in its division or, without one, in
    that which most of them have. Tempo, metre and programs are those of one piece, the first of
    that resolution. What it does not say, the others say, and then the Setup. A file in a folder or
    zip that cannot be used becomes a remark; one that is named itself is an error: MusicError.
    """
    sources = [*map(str, sources)]
    (files, remarks), found, left_out = _files(sources), [], []
    sizes = [os.path.getsize(f.name) if f.raw is None else len(f.raw) for f in files]
    with terminal.doing('reading music', sum(sizes)) as advance:
        for file, size in zip(files, sizes):
            with _left_out(file, files, left_out):
                data = read_midi(file.name) if file.raw is None else from_bytes(file.raw, file.name)
                chosen = choose_track(data, track, channel)
                chosen = chosen, choose_channel(data, chosen, channel)
                file.words, file.setup = _learned(data, *chosen, events, grid)
                found.append(file)
                remarks += _remarks(file.name, data, *chosen, is_alone=len(files) == 1)
            advance(size)
    counts = collections.Counter(resolution(piece.setup.division) for piece in found)
    most = max(counts, key=lambda ticks: (counts[ticks], ticks), default=0)  # or the finest
    ticks = resolution(setup.division) if setup else most
    pieces, converted = [], 0
    for piece in found:
        with _left_out(piece, files, left_out):
            old = resolution(piece.setup.division)
            pieces.append(piece.words if old == ticks else rescale(piece.words, old, ticks))
            converted += old != ticks
    remarks += [f'left out: {reason}' for reason in left_out]
    if not pieces:
        reasons = '; '.join(left_out[:3]) + '; ...' * (len(left_out) > 3)
        raise MusicError(f'{sources[0]}: no MIDI file in it can be used: {reasons}')
    if converted:
        counted = f'{converted} of {len(pieces)} pieces counted time in other units'
        remarks.append(f'{counted}: converted')
    shared = _shared_setup(found, ticks)
    setup = setup or shared
    # without any end of a note, a quarter: a note of no length could not be heard
    longest = min(max(map(longest_note, pieces)) or quarter_of(setup.division), MAX_TICKS)
    setup = Setup(setup.division, {**setup.events, **shared.events}, longest)
    return Collection(pieces, setup, remarks)


def _files(sources):
    """The _Files (list) of sources, and remarks on what is none in them (list of str).

    MusicError if one cannot be had or holds no MIDI file.
    """
    files, remarks = [], []
    try:
        for source in sources:
            if is_folder(source):
                paths, others = files_in(find(source), ENDINGS)
                files += [_File(str(path), None, False) for path in paths]
                remarks += passed_over(source, others, ENDINGS)
            else:
                inside = list(documents(source, ENDINGS))
                files += [_File(name, raw, len(inside) == 1) for name, raw in inside]
    except CorpusError as error:
        raise MusicError(str(error)) from None
    return files, remarks


def is_music(source):
    """True if a file, folder, zip or http(s) address (str) holds a MIDI file."""
    try:
        first = next(documents(source, ENDINGS))[1]
    except CorpusError:
        return False
    return first[:4] in (b'MThd', b'RIFF') or first[128:132] == b'MThd'


@contextlib.contextmanager
def _left_out(file, files, reasons):
    """An error in a file becomes one of the reasons or, if it is named itself, a MusicError."""
    try:
        yield
    except (MidiError, MusicError) as error:
        message = str(error) if isinstance(error, MidiError) else f'{file.name}: {error}'
        if file.is_named:
            others = '; a folder would go on without this file' * (len(files) > 1)
            raise MusicError(message + others) from None
        reasons.append(message)


def _learned(data, track, channel, events, grid):
    """The words (list of str) and the Setup of a piece."""
    setup = setup_of(data, track, channel)
    if not grid:
        return to_words(data, track, events, channel), setup
    kept = setup.events
    if resolution(setup.division) < 0:  # half a second becomes a quarter, whatever it says
        kept = {kind: event for kind, event in kept.items() if kind != 'ff51'}
    return on_grid(data, track, channel, events, grid), Setup(f'{grid:04x}', kept)


def _remarks(name, data, track, channel, is_alone):
    """What a user should know of a file and of what is learned of it: lines (list of str)."""
    remarks = []
    if data['warnings']:
        _, offset, reason = data['warnings'][0]
        remarks.append(f'{name}: {reason} (byte {offset}); warnings: {len(data["warnings"])}')
    if is_alone:
        found = parts(data)
        remarks += [f'  {part}' for part in found]
        several = sum(part.track == track for part in found) > 1
        what = 'all tracks' if track == 'all' else f'track {track}'
        remarks.append(f'learning {what}' + f', channel {channel}' * several)
    if channel == PERCUSSION:
        remarks.append(f'{name}: only percussion is learned')
    return remarks


def _shared_setup(found, ticks):
    """The Setup of the first of some _Files that has this resolution (int).

    Channels that only others use have the programs of those.
    """
    found = sorted(found, key=lambda file: resolution(file.setup.division) != ticks)
    events = {kind: event for kind, event in found[0].setup.events.items() if kind[0] != 'c'}
    known = set()
    for file in found:
        used = {'c' + word.split('_')[1][1] for word in file.words if '_ff_' not in word}
        programs = file.setup.events.items()
        events |= {kind: event for kind, event in programs if kind in used - known}
        known |= used
    return Setup(found[0].setup.division, events)


# Changing a piece


def rescale(words, old, new):
    """The words of a piece whose resolution is `old`, counted in `new` (both int).

    Times are rounded, not the distances between them. MusicError if only one of the two
    counts SMPTE frames.
    """
    if (old < 0) != (new < 0):
        raise MusicError('it counts time in SMPTE frames, others in quarters, or the reverse')
    return with_deltas(
        ((2 * tick * new + old) // (2 * old), status, body)
        for tick, status, body in in_ticks(words)
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

    EOS stands between the pieces. A piece that has only percussion is not repeated. A last
    piece that is cut (the rest of it is for validation) is cut in its transpositions, too.
    """
    pieces = [list(piece) for end, piece in itertools.groupby(words, EOS.__eq__) if not end]
    steps = range(min(low, high), max(low, high) + 1)
    copies = []
    with terminal.doing('transposing', len(steps)) as advance:
        for step in steps:
            moved = ((piece, transpose(piece, step)) for piece in pieces)
            copies += [copy for piece, copy in moved if copy and copy != piece]
            advance(1)
    return [word for copy in copies for word in (EOS, *copy)] + words


def at_tempo(words, setup, bpm):
    """The words and the Setup of a piece in one tempo: bpm (float) quarters per minute.

    Changes of tempo are left out, with their time kept. MusicError if the piece counts SMPTE
    frames, which no tempo changes.
    """
    if resolution(setup.division) < 0:
        raise MusicError('the model counts time in SMPTE frames, which no tempo changes')
    tempo = {'ff51': f'ff5103{round(60000000 / bpm):06x}'}
    kept = with_deltas(message for message in in_ticks(words) if message[1] != b'\xff')
    return kept, dataclasses.replace(setup, events={**setup.events, **tempo})


def longest_note(words):
    """Ticks (int) of the longest note that both begins and ends; 0 if there is none."""
    found = notes_of(in_ticks(words))
    return max((note.end - note.start for note in found if note.end is not None), default=0)


def on_grid(data, track, channel, events, grid):
    """The pseudo-words of a recording, with times rounded to `grid` steps of a quarter.

    data to events are those of to_words. Ticks are steps then. What no player repeats is taken
    away: velocities have eight levels, events of one step a fixed order. The sustain pedal
    lengthens notes, also from another track of their channel, and is left out. A note lasts a
    step at least and ends where its key is struck again.
    """
    quarter = quarter_of(data['header'][12:].hex())

    def step(tick):
        return (2 * tick * grid + quarter) // (2 * quarter)

    own, messages = track_numbers(data, track), []
    for tick, number, chunk in in_time(data, track):
        status = chunk['status']
        if status < b'\xf0' and channel in (None, status[0] % 16 + 1):
            if number in own or status[0] >> 4 == 0xB:
                messages.append((step(tick), status, chunk['body']))
    struck = {(n.channel - 1, n.key, n.start): n for n in notes_of(messages, with_pedal=True)}
    order = sorted(struck)
    steps = []  # (step, place in it, status, body)
    for (c, key, start), after in zip(order, [*order[1:], ()]):
        note = struck[c, key, start]
        end = start + grid if note.end is None else max(note.end, start + 1)
        end = min(end, after[2]) if after[:2] == (c, key) else end
        steps.append((start, 2, bytes([0x90 | c]), bytes([key, note.velocity & 0x70 | 8])))
        steps.append((end, 0, bytes([0x80 | c]), bytes([key, 0x40])))
    for tick, status, body in in_ticks(to_words(data, track, events, channel)):
        if status[0] >> 4 > 9 and (status[0] >> 4, body[0]) != (0xB, PEDAL):
            steps.append((step(tick), 1, status, body))
    return with_deltas((at, status, body) for at, _, status, body in sorted(steps))


# Words to begin with


def pitch_words(vocabulary):
    """What starts each note that the vocabulary knows: dict of key (int) to word (str), by key.

    Of several words for one key the one with the shortest delta, the first of these. Percussion
    is left out: its keys are no pitches.
    """
    starts = {}
    for word in filter(WORD.fullmatch, vocabulary):
        ticks, status, body = parse_word(word)
        key = body[0]
        is_start = status[0] >> 4 == 9 and body[1] and status[0] % 16 + 1 != PERCUSSION
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
    """The word of the vocabulary that is most like `word`: channel, kind, key, time, the rest.

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
            abs(int.from_bytes(other_body[1:], 'big') - int.from_bytes(body[1:], 'big')),
        )

    near = min(filter(WORD.fullmatch, vocabulary), key=distance, default=None)
    if near is None:
        raise MusicError('the model knows no music word')
    return near
