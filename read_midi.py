"""Reads a Standard MIDI File into the article's structure, and that into pseudo-words.

    python read_midi.py data/track1.mid            # a table of its events
    python read_midi.py data/track1.mid --words    # the pseudo-words that train.py learns

    data = read_midi('data/track1.mid')
    data['header']                            # 14 bytes: MThd, 6, format, ntrks, division
    data['tracks'][0]['header']               # 8 bytes: MTrk, length
    data['tracks'][0]['chunks'][0]            # an event; list(...) of a field gives numbers:
    {'delta': b'\\x81\\x86\\x01', 'status': b'\\xff', 'meta': b'\\x01', 'length': b'\\x05',
     'body': b'hello', 'running': False}
    to_words(data, choose_track(data))        # ['00_90_4560', '8360_80_4540', ...]

Standard MIDI Files 1.0, MIDI Manufacturers Association RP-001. Nothing is lost or changed:
write_midi.py gives back every byte (of a file in an RMID or MacBinary wrapper, every byte of
the MIDI file inside).

A pseudo-word delta_status_data is one event, in the hex digits of its bytes: the time since
the event before it (the shortest variable-length quantity), the status byte with its channel,
the data bytes. 8360_80_4540 is, 480 ticks later, note off, channel 1, key 45 (69, A4),
velocity 40. All numbers in it are hexadecimal. A change of tempo is 00_ff_510307a120, the
microseconds of a quarter behind 5103.
"""

import collections
import contextlib
import dataclasses
import re
import sys

from support import terminal
from support.describe import PERCUSSION, Part, describe, track_name

# Data bytes after a status byte, by its upper half, and after the bare system messages.
DATA_BYTES = {**dict.fromkeys((0x8, 0x9, 0xA, 0xB, 0xE), 2), 0xC: 1, 0xD: 1}
SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}
END_OF_TRACK = b'\x2f'
MAX_TICKS = (1 << 28) - 1  # of a delta time

# Which messages become words, by the upper half of the status byte; of those with F, the tempo.
EVENTS = {'notes': {0x8, 0x9}, 'performance': {0x8, 0x9, 0xB, 0xC, 0xE, 0xF}}
_TEMPO = '5103(?!000000)[0-9a-f]{6}'
WORD = re.compile(
    '((?!80)(?:[89a-f][0-9a-f]){0,3}[0-7][0-9a-f])'
    f'_([89be][0-9a-f]_(?:[0-7][0-9a-f]){{2}}|c[0-9a-f]_[0-7][0-9a-f]|ff_{_TEMPO})'
)
# A tempo, a time signature or a program.
SETUP_EVENT = re.compile(
    f'ff{_TEMPO}|ff5804(?!00)[0-9a-f]{{2}}0[0-9a-f]{{5}}|c[0-9a-f][0-7][0-9a-f]'
)
# What holds before the first event of its kind: 120 quarters a minute, 4/4.
IMPLIED = {'ff51': 'ff510307a120', 'ff58': 'ff580404021808'}


class MidiError(terminal.UserError):
    """A file cannot be read as a Standard MIDI File; the message is one line.

    path (str), offset (int, bytes from the beginning of the file, or None if it
    could not be opened), reason (str).
    """

    def __init__(self, path, offset, reason):
        where = '' if offset is None else f' (byte {offset})'
        self.path, self.offset, self.reason = str(path), offset, str(reason)
        super().__init__(f'{path}: {reason}{where}')


class MusicError(terminal.UserError):
    """There is no music to learn from, or a word or a setup is impossible; one line."""


# File to structure


def read_midi(path, strict=False):
    """Reads a file (.mid, or one wrapped in RMID or MacBinary); returns a dict.

    'header'        14 bytes of MThd; 'header_extra': what its length announces beyond
    'tracks'        list of {'header': 8 bytes, 'chunks': list of events, 'rest': bytes
                    after End of Track, or the event that a cut has left incomplete}
    an event        {'delta', 'status', 'meta', 'length', 'body'}: bytes as they stand in
                    the file, b'' where the event has no such field; 'status' is the byte
                    in force, and 'running' (bool) says that it was not written
    'alien'         list of {'track', 'header', 'body'}: chunks of other types, each
                    before the track with that number; without header: stray bytes
    'rest'          bytes after the last chunk
    'missing'       in a track: bytes that its header announces but the file has not;
                    in the dict: tracks that MThd announces but the file has not
                    (negative: there are more)
    'warnings'      list of (number of the track or None, byte offset, reason)

    strict=True: the first warning is an error instead. MidiError, and nothing
    else, if it is no such file or damaged so that its events cannot be told apart.
    """
    try:
        with terminal.opened(path) as file:
            raw = file.read()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        near = terminal.files_like(path) if isinstance(error, FileNotFoundError) else ''
        raise MidiError(path, None, f'{getattr(error, "strerror", None) or error}{near}') from None
    return from_bytes(raw, path, strict)


def from_bytes(raw, path='MIDI', strict=False):
    """Reads the bytes of a file; returns and raises what `read_midi` does.

    path: what an error calls them.
    """
    warnings = []

    def warn(track, offset, reason, is_fatal=strict):
        if is_fatal:
            raise MidiError(path, offset, reason)
        warnings.append((track, offset, reason))

    begin, end = _unwrap(raw)
    data = _read_header(raw, begin, end, warn)
    tracks = data['tracks']
    at = begin + 14 + len(data['header_extra'])
    while end - at >= 8:
        kind, length = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], 'big')
        body, after = at + 8, at + 8 + length
        if kind == b'MTrk':
            missing, after = max(after - end, 0), min(after, end)
            if missing:
                reason = f'the file ends {missing} bytes before this track does'
                warn(len(tracks), at + 4, reason)
            track = _read_track(raw[body:after], body, len(tracks), warn)
            tracks.append({'header': raw[at:body], **track, 'missing': missing})
        else:
            if after > end or not (kind.isascii() and kind.decode().isprintable()):
                body, after = at, raw.find(b'MTrk', at, end)
                if after < 0:
                    break
                warn(len(tracks), at, f'{after - at} stray bytes before the next track')
            alien = {'track': len(tracks), 'header': raw[at:body], 'body': raw[body:after]}
            data['alien'].append(alien)
        at = after

    data['rest'] = raw[at:end]
    if data['rest']:
        warn(None, at, f'{end - at} bytes after the last chunk')
    announced = int.from_bytes(data['header'][10:12], 'big')
    data['missing'] = announced - len(tracks)
    if data['missing']:
        warn(None, begin + 10, f'MThd announces {announced} tracks, there are {len(tracks)}')
    data['warnings'] = warnings
    return data


def _unwrap(raw):
    """Where the Standard MIDI File in the bytes `raw` begins and ends."""
    if raw[:4] == b'RIFF' and raw[8:12] == b'RMID':  # MMA RP-029; its numbers are little-endian
        at = 12
        while len(raw) - at >= 8:
            length = int.from_bytes(raw[at + 4 : at + 8], 'little')
            if raw[at : at + 4] == b'data':
                return at + 8, min(at + 8 + length, len(raw))
            at += 8 + length + length % 2
    if raw[:1] == b'\0' and raw[128:132] == b'MThd':  # MacBinary: 128 bytes, data, resources
        length = int.from_bytes(raw[83:87], 'big')
        return 128, 128 + length if 14 <= length <= len(raw) - 128 else len(raw)
    return 0, len(raw)


def _read_header(raw, begin, end, warn):
    """The dict that `read_midi` returns, with the header and no track yet."""
    header = raw[begin : begin + 14]
    if header[:4] != b'MThd':
        warn(None, begin, 'not a Standard MIDI File: no MThd', is_fatal=True)
    if end - begin < 14:
        warn(None, end, 'the file ends inside MThd', is_fatal=True)
    length = int.from_bytes(header[4:8], 'big')
    if length < 6:
        warn(None, begin + 4, f'MThd of {length} bytes instead of 6')
    extra = raw[begin + 14 : min(begin + 8 + max(length, 6), end)]
    return {'header': header, 'header_extra': extra, 'tracks': [], 'alien': []}


def _read_track(track, begin, number, warn):
    """The events of a track (bytes after its header, from byte `begin` of the file), and the rest.

    A dict of its 'chunks' and 'rest'.
    """

    def warn_at(i, reason, **more):
        warn(number, begin + i, reason, **more)

    chunks, i = _read_events(track, warn_at)
    if chunks and chunks[-1]['meta'] == END_OF_TRACK:
        if i < len(track):
            warn_at(i, f'{len(track) - i} bytes after End of Track')
    else:
        warn_at(i, 'the track ends inside this event' if i < len(track) else 'no End of Track')
    return {'chunks': chunks, 'rest': track[i:]}


def _read_events(track, warn_at):
    """(list of events, index behind the last whole one) of the bytes of a track.

    Channel messages are read here and not in a function of their own, which would be called
    a million times.
    """
    size, chunks = len(track), []
    append = chunks.append
    status, data_bytes = None, 0  # in force, and how many follow it
    cancelled = True  # a meta event or sysex stood in between
    i = first = 0
    try:
        while i < size:
            first = i
            while track[i] > 0x7F:
                i += 1
            i += 1
            if i - first > 4:
                warn_at(first, 'a delta time of more than 4 bytes', is_fatal=True)
            delta = track[first:i]
            byte = track[i]
            if byte >= 0xF0:
                cancelled = True
                event, i = _read_system_event(track, i, delta, warn_at)
                if i > size:
                    break
                append(event)
                if event['meta'] == END_OF_TRACK:
                    return chunks, i
                continue
            running = byte < 0x80
            if not running:
                status, data_bytes, cancelled = track[i : i + 1], DATA_BYTES[byte >> 4], False
                i += 1
            elif cancelled:
                if status is None:
                    reason = f'byte {byte:02x} is no status byte, and none is in force'
                    warn_at(i, reason, is_fatal=True)
                warn_at(i, 'running status after a meta or system event')
                cancelled = False
            body = track[i : i + data_bytes]
            i += data_bytes
            if i > size:
                break
            if not body.isascii():  # some byte is over 127
                warn_at(i - data_bytes, f'data bytes {body.hex()}: over 7f', is_fatal=True)
            event = {
                'delta': delta,
                'status': status,
                'meta': b'',
                'length': b'',
                'body': body,
                'running': running,
            }
            append(event)
        else:
            return chunks, i
    except IndexError:  # at the end of the bytes, in a delta time or a length
        pass
    return chunks, first


def _read_system_event(track, i, delta, warn_at):
    """(event, index behind it) of the meta event, sysex or system message at i; IndexError."""
    kind, status, meta, length = track[i], track[i : i + 1], b'', b''
    i += 1
    if kind in (0xFF, 0xF0, 0xF7):
        if kind == 0xFF:
            meta = track[i : i + 1]
            i += 1
        start = i
        while track[i] > 0x7F:
            i += 1
        i += 1
        length = track[start:i]
        if len(length) > 4:
            warn_at(start, 'a length of more than 4 bytes', is_fatal=True)
        end = i + vlq_value(length)
    else:
        warn_at(i - 1, f'system message {kind:02x} must not stand in a file')
        end = i + SYSTEM_DATA_BYTES.get(kind, 0)
        if not track[i:end].isascii():
            warn_at(i, f'data bytes {track[i:end].hex()}: over 7f', is_fatal=True)
    event = {'delta': delta, 'status': status, 'meta': meta, 'length': length}
    return {**event, 'body': track[i:end], 'running': False}, end


def vlq(value):
    """The shortest variable-length quantity (bytes) of an int; ValueError beyond 0fffffff."""
    if not 0 <= value < 1 << 28:
        raise ValueError(f'{value} is not from 0 to 268435455')
    quantity = [value & 0x7F]
    while value := value >> 7:
        quantity.insert(0, value & 0x7F | 0x80)
    return bytes(quantity)


def vlq_value(quantity):
    """The number (int) that a variable-length quantity (bytes) stands for."""
    value = 0
    for byte in quantity:
        value = value << 7 | byte & 0x7F
    return value


# Structure to pseudo-words


def parts(data):
    """The Parts (list) of a file, in the order of tracks and channels."""
    counts, programs = collections.Counter(), collections.defaultdict(dict)
    for track in range(len(data['tracks'])) if data['header'][9] == 2 else ['all']:
        program = collections.Counter()  # of each channel; 0 until something else is said
        for _, number, chunk in in_time(data, track):
            kind, channel = chunk['status'][0] >> 4, chunk['status'][0] % 16
            if kind == 0xC:
                program[channel] = chunk['body'][0]
            elif kind == 9 and chunk['body'][1]:
                counts[number, channel] += 1
                programs[number, channel][program[channel]] = True
    names = [track_name(track) for track in data['tracks']]
    return [
        Part(number, names[number], channel + 1, [*programs[number, channel]], count)
        for (number, channel), count in sorted(counts.items())
    ]


def track_option(text):
    """An argparse type: 'all' or the number (int) of a track; ValueError if it is neither."""
    return text if text == 'all' else int(text)


track_option.__name__ = 'track number'  # argparse names it in "invalid track number value"


def choose_track(data, track=None, channel=None):
    """`track` (int or 'all') itself or, for None, the number of the track with most notes.

    Percussion counts only if there is nothing else. channel: count only its notes (1 to 16).
    MusicError if there is no such track or no note in it.
    """
    if track == 'all' and data['header'][9] == 2:
        raise MusicError(
            'its tracks are not meant to sound together (format 2): --track 0 takes one'
        )
    counts = collections.Counter()
    for part in _candidates(data, track, channel):
        counts[part.track] += part.notes
    return max(counts, key=counts.get) if track is None else track


def choose_channel(data, track, channel=None):
    """`channel` (1 to 16) itself or, for None, the one with most notes in the track (int).

    Percussion counts only if there is nothing else. None, for all channels, if track is 'all'
    and no channel is chosen. MusicError if there is no such note.
    """
    found = _candidates(data, track, channel)
    return channel if track == 'all' else max(found, key=lambda part: part.notes).channel


def _candidates(data, track, channel):
    """The Parts (list) to choose from; percussion only if it is all. MusicError if none."""
    numbers = track_numbers(data, track)
    found = [part for part in parts(data) if part.track in numbers]
    found = [part for part in found if channel in (None, part.channel)]
    if not found:
        where = [] if track in (None, 'all') else [f'track {track}']
        where += [f'channel {channel}'] if channel else []
        raise MusicError(f'no notes in {", ".join(where) or "it"}')
    return [part for part in found if part.channel != PERCUSSION] or found


def track_numbers(data, track):
    """The number itself of one track (int), or the numbers of all (None or 'all'), to loop over.

    MusicError if there is no such track.
    """
    numbers = range(len(data['tracks']))
    if track in (None, 'all'):
        return numbers
    if track not in numbers:
        raise MusicError(f'no track {track}; it has {len(numbers)}, counted from 0')
    return [track]


def to_words(data, track, events='notes', channel=None):
    """The pseudo-words (list of str) of one track (int) or of all in the order of time ('all').

    events: 'notes' or 'performance', a key of EVENTS; the time of what is left out is added
    to the next event that is kept. channel: 1 to 16, or None for all. Changes of tempo usually
    stand in another track; those to the end of the own events are kept. MusicError if a time
    is longer than a word can tell.
    """
    own, kept, last = track_numbers(data, track), [], 0
    for tick, number, chunk in in_time(data, track):
        status = chunk['status'][0]
        if status >> 4 not in EVENTS[events]:
            continue
        event = _setup_event(chunk) if chunk['meta'] == b'\x51' else ''
        if SETUP_EVENT.fullmatch(event):
            kept.append((tick, chunk['status'], bytes.fromhex(event[2:])))
        elif status < 0xF0 and number in own and channel in (None, status % 16 + 1):
            kept.append((tick, chunk['status'], chunk['body']))
        else:
            continue
        last = tick if number in own else last
    return with_deltas(message for message in kept if message[0] <= last)


def in_time(data, track):
    """(tick, number of the track, event) of a piece, a list in the order of time, then of tracks.

    The piece is all tracks that sound together with `track` (int or 'all').
    """
    numbers = track_numbers(data, track if data['header'][9] == 2 else None)
    events = [(tick, n, chunk) for n in numbers for tick, chunk in timed(data['tracks'][n])]
    return sorted(events, key=lambda event: event[0])


def timed(track):
    """Yields (tick, event) for each event of a track; tick: int, counted from its beginning."""
    tick = 0
    for chunk in track['chunks']:
        tick += vlq_value(chunk['delta'])
        yield tick, chunk


def with_deltas(messages):
    """The words (list of str) of messages, (tick, status, body) in the order of time; MusicError.

    `in_ticks` is the reverse.
    """
    words, last = [], 0
    for tick, status, body in messages:
        words.append(f'{delta_time(tick - last).hex()}_{status.hex()}_{body.hex()}')
        last = tick
    return words


def in_ticks(words):
    """Yields (tick, status, body) of each word: int, from the beginning, one byte, data bytes.

    MusicError, with the word's number, if one is none.
    """
    tick = 0
    for number, word in enumerate(words, 1):
        try:
            ticks, status, body = parse_word(word)
        except MusicError as error:
            raise MusicError(f'word {number}: {error}') from None
        tick += ticks
        yield tick, status, body


def delta_time(ticks):
    """The shortest delta time (bytes) of ticks (int); MusicError if no file can hold it."""
    if ticks > MAX_TICKS:
        raise MusicError(f'a rest of {ticks} ticks is longer than a MIDI file can hold')
    return vlq(ticks)


def parse_word(word):
    """(ticks, status, body) of a pseudo-word: int, one byte, data bytes; MusicError if none."""
    match = WORD.fullmatch(word)
    if match:
        status, body = match[2].split('_')
        return vlq_value(bytes.fromhex(match[1])), bytes.fromhex(status), bytes.fromhex(body)
    raise MusicError(
        f'{word[:40]!r} is not a music word; such a word is 00_90_4560: delta, status '
        '8n 9n Bn Cn or En, data bytes below 80, in lower-case hex; or a tempo, 00_ff_510307a120'
    )


# What the words do not tell


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the words of a piece do not tell: units of time, tempo, metre, instruments.

    division: the 16 bits of the header, 4 hex digits (str). events: the tempo and the time
    signature that hold longest, and the first program of each channel, in hex digits by their
    first bytes, {'ff51': 'ff510307a120', 'ff58': ..., 'c0': 'c018'}. longest: ticks (int) of
    the longest note, or None if no limit is known. `dataclasses.asdict` makes JSON of it.
    """

    division: str
    events: dict
    longest: int | None = None

    @classmethod
    def from_dict(cls, fields):
        """The Setup that `asdict` made a dict of; MusicError if it cannot be one: a stranger's."""
        with contextlib.suppress(AttributeError, TypeError):
            setup = cls(**fields)
            longest = 1 if setup.longest is None else setup.longest
            known = re.fullmatch('[0-9a-f]{4}', setup.division) and resolution(setup.division)
            known = known and all(map(SETUP_EVENT.fullmatch, setup.events.values()))
            if known and type(longest) is int and 0 < longest <= MAX_TICKS:
                return setup
        raise MusicError(f'impossible division, tempo, time signature or program: {fields}')


def resolution(division):
    """Ticks per quarter (int > 0), or per second negated, if a file counts in SMPTE frames.

    division: the 16 bits of the header, 4 hex digits (str); 0 if no event has a time.
    """
    value = int(division, 16)
    return value if value < 0x8000 else ((value >> 8) - 256) * (value & 0xFF)


def quarter_of(division):
    """Ticks (int), at least 1, of a quarter or, of SMPTE, of half a second: one at tempo 120."""
    ticks = resolution(division)
    return ticks if ticks > 0 else max(1, -ticks // 2)


def setup_of(data, track, channel=None):
    """The Setup of a track (int) or of all ('all'), or of one channel (1 to 16) in it.

    Tempo and time signature are those that hold for most ticks; before the first of the file
    they are IMPLIED. Programs are the first of each channel; of several at one tick the last,
    which sounds. `longest` is None. MusicError if the division is 0.
    """
    division = data['header'][12:].hex()
    if not resolution(division):
        raise MusicError('its division is 0: no event has a time')
    own = track_numbers(data, track)
    events = in_time(data, track)
    end = max((tick for tick, _, chunk in events if chunk['meta'] != END_OF_TRACK), default=0)
    used = {chunk['status'][0] for _, number, chunk in events if number in own}
    channels = {channel - 1} if channel else {status % 16 for status in used if status < 0xF0}
    found = collections.defaultdict(list)
    for tick, number, chunk in events:
        status, meta = chunk['status'][0], chunk['meta']
        if meta in (b'\x51', b'\x58') or status >> 4 == 0xC and status % 16 in channels:
            event = _setup_event(chunk)
            if SETUP_EVENT.fullmatch(event):
                # a program may stand in another track, but the own one knows better
                is_foreign = not meta and number not in own
                found[event[: 4 if meta else 2]].append((is_foreign, tick, event))
    for kind, changes in found.items():
        if kind in IMPLIED:
            found[kind] = _longest_held(changes, end, kind)
        else:
            found[kind] = min(reversed(changes), key=lambda change: change[:2])[-1]
    kinds = sorted(filter(found.get, found), reverse=True)
    return Setup(division, {kind: found[kind] for kind in kinds})


def _setup_event(chunk):
    """The hex digits (str) of an event, its length in the shortest form: as in Setup.events."""
    length = vlq(len(chunk['body'])) if chunk['meta'] else b''
    return (chunk['status'] + chunk['meta'] + length + chunk['body']).hex()


def _longest_held(changes, end, kind):
    """The event that is in force for most ticks until `end`, of some of one kind, in hex digits.

    changes: list of (_, tick, event). '' if it is the implied one and none says so.
    """
    ticks = [tick for _, tick, _ in changes]
    held = collections.Counter()
    for (_, tick, event), until in zip(changes, [*ticks[1:], end]):
        held[event] += max(until - tick, 0)
    longest, implied = max(held, key=held.get), IMPLIED[kind]
    if ticks[0] + held[implied] <= held[longest]:
        return longest
    return implied if implied in held else ''


# For the reader


def print_table(data, track=None, channel=None):
    """Prints what is in a file: its parts, then its events, one a line; MusicError.

    track: int, or None or 'all' for all; channel: 1 to 16, or None for all events.
    """
    numbers = track_numbers(data, track)
    print(f'format {data["header"][9]}, {len(data["tracks"])} tracks', end=', ')
    print(f'division {data["header"][12:].hex()}')
    print(*parts(data), sep='\n')
    print(f'{"track":>5} {"tick":>9} {"delta":>8}  event')
    for number in numbers:
        for tick, chunk in timed(data['tracks'][number]):
            if channel and (chunk['status'] >= b'\xf0' or chunk['status'][0] % 16 + 1 != channel):
                continue
            print(f'{number:5} {tick:9} {chunk["delta"].hex():>8}  {describe(chunk)}')


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    # fmt: off
    parser = terminal.Parser(
        prog='read_midi.py', description='Shows what is in a MIDI file.')
    add = parser.add_argument
    add('file', help='a Standard MIDI File')
    add('--words', action='store_true', help='the pseudo-words of a track, one a line')
    add('--track', type=track_option, metavar='N', help='a track, counted from 0, or all (default: '
        'the table: all; the words: the one with most notes, percussion not counted)')
    add('--channel', type=terminal.number(int, 1, 16), metavar='N', help='one channel only, 1 to '
        '16; 10 is percussion (default: the words of a track: the one with most notes, percussion '
        'not counted; else all)')
    add('--events', choices=EVENTS, default='notes', help='what becomes a word (default: notes)')
    add('--strict', action='store_true', help='the first warning is an error')
    # fmt: on
    args = parser.parse_args(argv)

    data = read_midi(args.file, args.strict)
    for number, offset, reason in data['warnings']:
        where = '' if number is None else f'track {number}, '
        print(f'{args.file}: {where}{reason} (byte {offset})', file=sys.stderr)
    try:
        if args.words:
            track = choose_track(data, args.track, args.channel)
            channel = choose_channel(data, track, args.channel)
            others = [part for part in parts(data) if part.track == track]
            if not args.channel and (others[1:] or channel == PERCUSSION):
                print(f'{args.file}: track {track}, channel {channel} of these:', file=sys.stderr)
                print(*others, sep='\n', file=sys.stderr)
            print(*to_words(data, track, args.events, channel), sep='\n')
        else:
            print_table(data, args.track, args.channel)
    except MusicError as error:
        raise MidiError(args.file, None, error) from None
    return 0


if __name__ == '__main__':
    sys.exit(main())
