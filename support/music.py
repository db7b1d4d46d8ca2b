"""Music as words and back; a piece as sound and as a picture.

    pieces, setup, remarks = read(['data/track1.mid'])  # files ► lists of pseudo-words
    pieces[0]                                          # ['00_90_4560', '8360_80_4540', ...]
    data = to_data(pieces[0], setup)                   # ► the structure of read_midi.py
    write_wav(data, 'out.wav'); write_png(data, 'out.png')

A pseudo-word delta_status_data is one event in the hex digits of its bytes in the
file: the time since the event before as the shortest variable-length quantity, the
status byte with its channel, the data bytes. 8360_80_4540 is 480 ticks later, note
off, channel 1, key 45 (A4), velocity 40; all numbers are hexadecimal.
"""

import collections
import io
import math
import pathlib
import re
import wave

import numpy

from support import terminal
from read_midi import MidiError, read_midi, text_of, vlq_value
from write_midi import to_bytes, vlq

# Which messages become words, by the upper half of the status byte.
EVENTS = {'notes': {0x8, 0x9}, 'performance': {0x8, 0x9, 0xB, 0xC, 0xE}}
# Distinct words per word: piano recordings have 0.17 to 0.55, half of them over 0.29; folk tunes below 0.11.
IRREGULAR = 0.2
ENDINGS = {'.mid', '.midi', '.kar', '.rmi', '.smf'}
MAX_SECONDS = 3600  # of all instruments together: pretty_midi takes up to 2 GB for them
RATE = 22050  # samples per second: enough for sines; FluidSynth's instruments get twice that

_NOTES = ['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B']
_WORD = re.compile(
    '((?:[89a-f][0-9a-f]){0,3}[0-7][0-9a-f])'
    '_([89be][0-9a-f]_(?:[0-7][0-9a-f]){2}|c[0-9a-f]_[0-7][0-9a-f])'
)
_SETUP = re.compile(
    'ff5103(?!000000)[0-9a-f]{6}|ff5804(?!00)[0-9a-f]{2}0[0-9a-f]{5}|c[0-9a-f][0-7][0-9a-f]'
)


class MusicError(ValueError):
    """A file has no music to learn from, or a word is none; the message is one line."""


# Music to words


def note_counts(data):
    """The number of notes of each track (list of int)."""
    return [
        sum(chunk['status'][0] >> 4 == 9 and chunk['body'][1] > 0 for chunk in track['chunks'])
        for track in data['tracks']
    ]


def track_option(text):
    """'all' or the number (int) of a track, from an option (str); ValueError if it is neither."""
    return text if text == 'all' else int(text)


track_option.__name__ = 'track number'  # argparse names it in "invalid track number value"


def track_of(data, track=None):
    """The track to learn, itself or, for None, the one with most notes; MusicError if there is none."""
    counts = note_counts(data)
    if track == 'all' and data['header'][9] == 2:
        raise MusicError('its tracks are not meant to sound together (format 2): choose one')
    if track not in (None, 'all', *range(len(counts))):
        raise MusicError(f'no track {track}; it has {len(counts)}, counted from 0')
    if not any(counts if track in (None, 'all') else [counts[track]]):
        raise MusicError('no notes in it' if track is None else f'no notes in track {track}')
    return counts.index(max(counts)) if track is None else track


def track_name(track):
    """The name that a track gives itself (str), or ''."""
    for chunk in track['chunks']:
        if chunk['meta'] == b'\x03':
            return text_of(chunk['body'])
    return ''


def to_words(data, track, events='notes'):
    """The pseudo-words (list of str) of one track (int) or of all in the order of time ('all').

    events: 'notes' or 'performance', a key of EVENTS; the time of what is left out is added
    to the next event that is kept. MusicError if that is longer than a word can tell.
    """
    kept = []
    for chosen in data['tracks'] if track == 'all' else [data['tracks'][track]]:
        tick = 0
        for chunk in chosen['chunks']:
            tick += vlq_value(chunk['delta'])
            if chunk['status'][0] >> 4 in EVENTS[events]:
                kept.append((tick, chunk))
    kept.sort(key=lambda pair: pair[0])  # events of one tick stay in the order of the tracks
    return _in_time(
        (tick, f'{chunk["status"].hex()}_{chunk["body"].hex()}') for tick, chunk in kept
    )


def _in_time(events):
    """The words of (tick, status_data) pairs in the order of time."""
    words = []
    last = 0
    for tick, event in events:
        try:
            words.append(f'{vlq(tick - last).hex()}_{event}')
        except ValueError:
            raise MusicError(
                f'a rest of {tick - last} ticks is longer than a MIDI file can hold'
            ) from None
        last = tick
    return words


def rescale(words, own, division):
    """The words of a piece that counts `own` ticks per quarter, counted in `division` (both int)."""

    def events():
        tick = 0
        for word in words:
            tick += parse_word(word)[0]
            yield (2 * tick * division + own) // (2 * own), word.split('_', 1)[1]

    return _in_time(events())


def division_of(data):
    """Ticks per quarter (int > 0), or per second negated, if the file counts in SMPTE frames."""
    high, low = data['header'][12:]
    if high < 0x80:
        division = high << 8 | low
    else:
        division = (high - 256) * low
    if not division:
        raise MusicError('its division is 0: no event has a time')
    return division


def setup_of(data, track):
    """What the words of a track ('all' or int) do not tell, a dict of hex digits (str).

    'division': the 16 bits of the header; 'events': the first tempo and time
    signature of the file and the first program of each channel of the track, by
    their status, {'ff51': 'ff510307a120', 'ff58': ..., 'c0': 'c018'}.
    """
    tracks = data['tracks']
    chosen = list(range(len(tracks))) if track == 'all' else [track]
    together = chosen if data['header'][9] == 2 else range(len(tracks))  # format 2: other pieces
    channels = {
        chunk['status'][0] % 16
        for number in chosen
        for chunk in tracks[number]['chunks']
        if chunk['status'][0] < 0xF0
    }
    found = {}
    for number in together:
        tick = 0
        for chunk in tracks[number]['chunks']:
            tick += vlq_value(chunk['delta'])
            status, meta, body = chunk['status'], chunk['meta'], chunk['body']
            event = (status + meta + (vlq(len(body)) if meta else b'') + body).hex()
            if _SETUP.fullmatch(event) and (meta or status[0] % 16 in channels):
                # a program may stand in another track, but the own one knows better
                order = not meta and number not in chosen, tick
                kind = event[:4] if meta else event[:2]
                found[kind] = min(
                    found.get(kind, (order, event)), (order, event), key=lambda pair: pair[0]
                )
    return {
        'division': data['header'][12:].hex(),
        'events': {kind: found[kind][1] for kind in sorted(found, reverse=True)},
    }


def check_setup(setup):
    """The division, as of `division_of`, and the events, as bytes, of a setup; MusicError if it is none.

    A setup may come from a stranger's checkpoint.
    """
    try:
        events = list(setup['events'].values())
        longest = setup.get('longest', 1)
        if (
            not all(map(_SETUP.fullmatch, events))
            or type(longest) is not int
            or not 0 < longest < 1 << 28
        ):
            raise ValueError
        return (
            division_of({'header': bytes(12) + bytes.fromhex(setup['division'])}),
            [bytes.fromhex(event) for event in events],
        )
    except (AttributeError, KeyError, TypeError, ValueError):  # MusicError is a ValueError
        raise MusicError(
            f'impossible division, tempo, time signature or program: {setup}'
        ) from None


def read(paths, track=None, events='notes', setup=None):
    """The pieces in files and folders: (list of lists of words, setup, list of remarks).

    To the setup comes 'longest', the ticks of their longest note.
    track: an int, 'all', or None, the track with most notes of each file. setup: one to
    go on with; or None: that of the first piece, with the programs of channels that only later
    ones use. All pieces count time as the setup does or, without one, as most of them do.
    A file in a folder that cannot be used becomes a remark; one that is named itself is an
    error: MusicError.
    """
    files = _files(paths)
    found, remarks = [], []  # of found: path, may it be left out, words, division, setup

    def leave_out(path, may, error):
        message = str(error) if isinstance(error, MidiError) else f'{path}: {error}'
        if not may:
            raise MusicError(message) from None
        remarks.append(f'left out: {message}')

    for path, may in files:
        try:
            data = read_midi(path)
            chosen = track_of(data, track)
            found.append(
                (
                    path,
                    may,
                    to_words(data, chosen, events),
                    division_of(data),
                    setup_of(data, chosen),
                )
            )
        except (MidiError, MusicError) as error:
            leave_out(path, may, error)
            continue
        if data['warnings']:
            _, offset, reason = data['warnings'][0]
            remarks.append(f'{path}: {reason} (byte {offset}); warnings: {len(data["warnings"])}')
        if len(files) == 1:
            remarks += _which(data, chosen)
    if setup:
        division = check_setup(setup)[0]
    elif found:
        counts = collections.Counter(own for _, _, _, own, _ in found)
        division = max(counts, key=lambda own: (counts[own], own))
        setup = next({**other, 'events': {}} for _, _, _, own, other in found if own == division)
    pieces, converted = [], 0
    for path, may, words, own, other in found:
        try:
            if (own < 0) != (division < 0):
                raise MusicError(
                    'it counts time in SMPTE frames, others in quarters, or the reverse'
                )
            if own != division:
                words = rescale(words, own, division)
                converted += 1
        except MusicError as error:
            leave_out(path, may, error)
            continue
        pieces.append(words)
        setup = {**setup, 'events': {**other['events'], **setup['events']}}
    if not pieces:
        raise MusicError(f'{files[0][0].parent}: no MIDI file in it can be used')
    setup['longest'] = max([1, *map(longest_note, pieces)])
    if converted:
        remarks.append(
            f'{converted} of {len(pieces)} pieces counted time in other units: converted'
        )
    return pieces, setup, remarks


def _files(paths):
    """[(path of a file, may it be left out?), ...] for files and folders."""
    files = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob('*')
                if p.suffix.lower() in ENDINGS and p.is_file() and not p.name.startswith('.')
            )
            if not inside:
                raise MusicError(f'{path}: no MIDI file in this folder')
            files += [(file, True) for file in inside]
        else:
            files.append((path, False))
    return files


def _which(data, track):
    """Which track is learned and what there is, in lines (list of str)."""
    listed = [
        f'  track {number} {track_name(other)!r}: {count:,} notes'
        for number, (other, count) in enumerate(zip(data['tracks'], note_counts(data)))
        if count
    ]
    return listed + [f'learning track {track}']


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


# Words to music


def parse_word(word):
    """(ticks, status, body): int, one byte and data bytes of a pseudo-word; MusicError if it is none."""
    match = _WORD.fullmatch(word)
    if match and not match[1].startswith('80'):
        status, body = match[2].split('_')
        return vlq_value(bytes.fromhex(match[1])), bytes.fromhex(status), bytes.fromhex(body)
    raise MusicError(
        f'{word[:40]!r} is not a music word; such a word is 00_90_4560: delta, status '
        '8n 9n Bn Cn or En, data bytes below 80, in lower-case hex'
    )


def to_data(words, setup=None):
    """The structure of read_midi.py, format 0, of a list of pseudo-words.

    setup: as from `setup_of` (default: 480 ticks per quarter, nothing else). With 'longest'
    in it, no note sounds longer: what the model forgets to end is ended then. Notes that
    still sound after the last word end a quarter later. MusicError if a word or the setup is
    impossible.
    """
    if setup is None:
        setup = {'division': '01e0', 'events': {}}
    division, first = check_setup(setup)
    longest = setup.get('longest', math.inf)
    timed = []  # (tick, bytes from the status on)
    tick = 0
    sounding = collections.defaultdict(list)  # (channel, key): when its notes began
    begun = collections.deque()  # (tick, channel, key) of all notes, the oldest first

    def end_overdue(now):
        while begun and begun[0][0] + longest < now:
            start, channel, key = begun.popleft()
            if start in sounding[channel, key]:
                sounding[channel, key].remove(start)
                timed.append((start + longest, bytes([0x80 | channel, key, 0x40])))

    for word in words:
        ticks, status, body = parse_word(word)
        tick += ticks
        end_overdue(tick)
        timed.append((tick, status + body))
        kind, channel = status[0] >> 4, status[0] % 16
        if kind == 9 and body[1]:
            sounding[channel, body[0]].append(tick)
            begun.append((tick, channel, body[0]))
        elif kind in (8, 9):
            del sounding[channel, body[0]][:1]
    end = tick + (division if division > 0 else -division // 2)
    end_overdue(end)
    timed += [
        (end, bytes([0x80 | channel, key, 0x40]))
        for (channel, key), starts in sounding.items()
        for _ in starts
    ]

    chunks = [_event(vlq(0), event) for event in first]
    last = 0
    for tick, event in timed:
        chunks.append(_event(vlq(tick - last), event))
        last = tick
    chunks.append(_event(vlq(0), b'\xff\x2f\x00'))
    header = b'MThd' + bytes([0, 0, 0, 6, 0, 0, 0, 1]) + bytes.fromhex(setup['division'])
    return {'header': header, 'tracks': [{'chunks': chunks}]}


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


def _event(delta, raw):
    """A chunk of the bytes of an event from its status on; lengths of one byte."""
    meta, length, body = (raw[1:2], raw[2:3], raw[3:]) if raw[0] == 0xFF else (b'', b'', raw[1:])
    return {'delta': delta, 'status': raw[:1], 'meta': meta, 'length': length, 'body': body}


def pitch_words(vocabulary):
    """What starts each note that the vocabulary knows: dict of key (int) to word (str), by key.

    Of several words for one key the one with the shortest delta, the first of these.
    """
    starts = {}
    for word in filter(_WORD.fullmatch, vocabulary):
        ticks, status, body = parse_word(word)
        if (
            status[0] >> 4 == 9
            and body[1]
            and (body[0] not in starts or ticks < starts[body[0]][0])
        ):
            starts[body[0]] = ticks, word
    return {key: word for key, (_, word) in sorted(starts.items())}


def key_of(name):
    """The key (int) of the note called `name`, C4 (60) or F#3 or Bb5; None if that is no name."""
    match = re.fullmatch('([A-Ga-g])([#b]?)(-?[0-9])', name)
    return match and (
        _NOTES.index(match[1].upper())
        + {'': 0, '#': 1, 'b': -1}[match[2]]
        + 12 * (int(match[3]) + 1)
    )


def name_of(key):
    """The name (str) of a key (int), 'C4' for 60."""
    return f'{_NOTES[key % 12]}{key // 12 - 1}'


def nearest(word, vocabulary):
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

    near = min(filter(_WORD.fullmatch, vocabulary), key=distance, default=None)
    if near is None:
        raise MusicError('the model knows no music word')
    return near


# Sound and picture


def _player(data):
    """A pretty_midi.PrettyMIDI of what `to_data` gives; MusicError if it would play for too long."""
    import pretty_midi  # late: it and matplotlib take a second, and few commands need them

    chunks, header = data['tracks'][0]['chunks'], data['header']
    frames = 256 - header[12]
    if frames <= 128:  # SMPTE, which pretty_midi does not know: one quarter a second instead
        division, tempo = (
            (30, 1001000) if frames == 29 else (frames, 1000000)
        )  # 29 stands for 29.97
        header = header[:12] + (division * header[13]).to_bytes(2, 'big')
        chunks = [_event(vlq(0), b'\xff\x51\x03' + tempo.to_bytes(3, 'big'))] + [
            chunk for chunk in chunks if chunk['meta'] != b'\x51'
        ]
    try:
        player = pretty_midi.PrettyMIDI(
            io.BytesIO(to_bytes({'header': header, 'tracks': [{'chunks': chunks}]}))
        )
    except ValueError:  # more than ten million ticks
        raise MusicError('it lasts too long to be played') from None
    if not player.instruments:
        raise MusicError('there is no note in it')
    if player.get_end_time() * len(player.instruments) > MAX_SECONDS:
        raise MusicError(
            f'it lasts {player.get_end_time():,.0f} seconds; what can be heard and drawn is up to '
            f'{MAX_SECONDS // len(player.instruments):,}'
        )
    return player


def write_wav(data, path):
    """Writes the sound of what `to_data` gives, 16 bits, mono.

    With FluidSynth's instruments where it and pyfluidsynth are installed, else with
    pretty_midi's sines, which leave out the drums. MusicError if there is nothing to
    hear or too much; OSError if it cannot be written.
    """
    player = _player(data)
    try:
        rate = 2 * RATE
        sound = player.fluidsynth(fs=rate)
    except ImportError:
        rate = RATE
        with numpy.errstate(invalid='ignore'):  # drums alone: 0 / 0
            sound = numpy.nan_to_num(player.synthesize(fs=rate))
    buffer = io.BytesIO()
    with wave.open(buffer, 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype('<i2').tobytes())
    with terminal.replacing(path) as file:
        file.write(buffer.getvalue())


def write_png(data, path):
    """Writes the piano roll of what `to_data` gives; OSError if it cannot be written."""
    figure = piano_roll(data)
    with terminal.replacing(path) as file:
        figure.savefig(file, format='png')


def piano_roll(data):
    """A matplotlib figure of what `to_data` gives: seconds to the right, keys upwards.

    MusicError if there is nothing to see or too much.
    """
    import matplotlib.figure
    import pretty_midi

    player = _player(data)
    keys = [note.pitch for instrument in player.instruments for note in instrument.notes]
    low, high = min(keys) - 2, max(keys) + 2
    figure = matplotlib.figure.Figure(
        (min(max(8, player.get_end_time() / 5), 40), 5), layout='constrained'
    )
    axes = figure.subplots()
    for instrument in player.instruments:
        name = (
            'drums'
            if instrument.is_drum
            else pretty_midi.program_to_instrument_name(instrument.program)
        )
        axes.hlines(
            [note.pitch for note in instrument.notes],
            [note.start for note in instrument.notes],
            [note.end for note in instrument.notes],
            linewidth=250 / (high - low),
            label=name,
            color=f'C{player.instruments.index(instrument) % 10}',
        )
    named = {0, 2, 4, 5, 7, 9, 11} if high - low <= 26 else {0, 7}
    ticks = [key for key in range(low, high + 1) if key % 12 in named]
    axes.set_yticks(ticks, map(name_of, ticks))
    axes.set_ylim(low, high)
    axes.set_xlim(0, player.get_end_time())
    axes.set_xlabel('seconds')
    axes.set_ylabel('key')
    axes.grid(alpha=0.3)
    if len(player.instruments) > 1:
        figure.legend(loc='outside upper center', ncols=6)
    return figure
