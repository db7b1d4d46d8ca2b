"""Reads a Standard MIDI File into the article's structure; nothing is lost.

    python read_midi.py data/track1.mid            # a table of its events
    python read_midi.py data/track1.mid --words    # the pseudo-words that train.py learns

    data = read_midi('data/track1.mid')
    data['header']                            # 14 bytes: MThd, 6, format, ntrks, division
    data['tracks'][0]['header']               # 8 bytes: MTrk, length
    data['tracks'][0]['chunks'][0]            # an event; list(...) of a field gives numbers:
    {'delta': b'\\x81\\x86\\x01', 'status': b'\\xff', 'meta': b'\\x01', 'length': b'\\x05',
     'body': b'hello', 'running': False}

Standard MIDI Files 1.0, MIDI Manufacturers Association RP-001. What stands in
the file stays as it stands there: write_midi.py gives back every byte.
"""

import argparse
import sys

from support import terminal

CHANNEL_NAMES = {
    0x80: 'note off',
    0x90: 'note on',
    0xA0: 'key pressure',
    0xB0: 'controller',
    0xC0: 'program',
    0xD0: 'channel pressure',
    0xE0: 'pitch bend',
}
META_NAMES = {
    0x00: 'sequence number',
    0x01: 'text',
    0x02: 'copyright',
    0x03: 'name',
    0x04: 'instrument',
    0x05: 'lyric',
    0x06: 'marker',
    0x07: 'cue point',
    0x20: 'channel prefix',
    0x21: 'port',
    0x2F: 'end of track',
    0x51: 'tempo',
    0x54: 'SMPTE offset',
    0x58: 'time signature',
    0x59: 'key signature',
    0x7F: 'sequencer specific',
}

# Data bytes after a status byte, by its upper half, and after the bare system messages.
DATA_BYTES = {**dict.fromkeys((0x8, 0x9, 0xA, 0xB, 0xE), 2), 0xC: 1, 0xD: 1}
SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}


class MidiError(ValueError):
    """A file cannot be read as a Standard MIDI File; the message is one line.

    path (str), offset (int, bytes from the beginning of the file, or None if it
    could not be opened), reason (str).
    """

    def __init__(self, path, offset, reason):
        where = '' if offset is None else f' (byte {offset})'
        self.path, self.offset, self.reason = str(path), offset, str(reason)
        super().__init__(f'{path}: {reason}{where}')


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
                    in the dict: the same for tracks (negative: there are more)
    'warnings'      list of (number of the track or None, byte offset, reason)

    strict=True: the first warning is an error instead. MidiError, and nothing
    else, if it is no such file or damaged so that its events cannot be told apart.
    """
    try:
        with terminal.opened(path) as file:
            raw = file.read()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise MidiError(path, None, getattr(error, 'strerror', None) or error) from None
    return parse(raw, path, strict)


def parse(raw, path='MIDI', strict=False):
    """The same for bytes; `path` is only what an error calls them."""
    warnings = []

    def warn(track, offset, reason):
        if strict:
            raise MidiError(path, offset, reason)
        warnings.append((track, offset, reason))

    begin, end = _unwrapped(raw)
    header = raw[begin : begin + 14]
    if header[:4] != b'MThd':
        raise MidiError(path, begin, 'not a Standard MIDI File: no MThd')
    if end - begin < 14:
        raise MidiError(path, end, 'the file ends inside MThd')
    length = int.from_bytes(header[4:8], 'big')
    if length < 6:
        warn(None, begin + 4, f'MThd of {length} bytes instead of 6')
    at = begin + 8 + max(length, 6)
    data = {
        'header': header,
        'header_extra': raw[begin + 14 : min(at, end)],
        'tracks': [],
        'alien': [],
        'rest': b'',
        'missing': 0,
        'warnings': warnings,
    }
    tracks, alien = data['tracks'], data['alien']

    while end - at >= 8:
        kind, length = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], 'big')
        body = at + 8
        if kind == b'MTrk':
            after = min(body + length, end)
            if length > end - body:
                warn(
                    len(tracks),
                    at + 4,
                    f'the file ends {length - (end - body)} bytes before this track does',
                )
            tracks.append(_track(raw, at, after, len(tracks), path, warn))
            tracks[-1]['missing'] = length - (after - body)
        elif kind.isascii() and kind.decode().isprintable() and length <= end - body:
            after = body + length
            alien.append({'track': len(tracks), 'header': raw[at:body], 'body': raw[body:after]})
        else:
            after = raw.find(b'MTrk', at, end)
            if after < 0:
                break
            warn(len(tracks), at, f'{after - at} stray bytes before the next track')
            alien.append({'track': len(tracks), 'header': b'', 'body': raw[at:after]})
        at = after

    data['rest'] = raw[at:end]
    if data['rest']:
        warn(None, at, f'{end - at} bytes after the last chunk')
    announced = int.from_bytes(header[10:12], 'big')
    data['missing'] = announced - len(tracks)
    if data['missing']:
        warn(None, begin + 10, f'MThd announces {announced} tracks, there are {len(tracks)}')
    return data


def _unwrapped(raw):
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


def _track(raw, at, end, number, path, warn):
    """The track whose header stands at `at` and whose events end before `end`."""
    base = at + 8
    track = raw[base:end]
    size = end - base
    chunks = []
    append = chunks.append
    status = None  # the status byte in force
    cancelled = True  # a meta event or sysex stood in between
    data_bytes = 0
    finished = False
    i = first = 0
    try:
        while i < size:
            first = i
            while track[i] > 0x7F:
                i += 1
            i += 1
            if i - first > 4:
                raise MidiError(path, base + first, 'a delta time of more than 4 bytes')
            delta = track[first:i]
            byte = track[i]

            if byte < 0xF0:  # a message of a channel
                running = byte < 0x80
                if not running:
                    status = track[i : i + 1]
                    data_bytes = DATA_BYTES[byte >> 4]
                    cancelled = False
                    i += 1
                elif cancelled:
                    if status is None:
                        raise MidiError(
                            path,
                            base + i,
                            f'byte {byte:02x} is no status byte, and none is in force',
                        )
                    warn(number, base + i, 'running status after a meta or system event')
                    cancelled = False
                body = track[i : i + data_bytes]
                i += data_bytes
                if i > size:
                    break
                if not body.isascii():  # some byte is over 127
                    raise MidiError(
                        path, base + i - data_bytes, f'data bytes {body.hex()}: over 7f'
                    )
                append(
                    {
                        'delta': delta,
                        'status': status,
                        'meta': b'',
                        'length': b'',
                        'body': body,
                        'running': running,
                    }
                )
                continue

            system = track[i : i + 1]
            i += 1
            cancelled = True
            meta = length = b''
            if byte in (0xFF, 0xF0, 0xF7):
                if byte == 0xFF:
                    meta = track[i : i + 1]
                    i += 1
                start = i
                while track[i] > 0x7F:
                    i += 1
                i += 1
                length = track[start:i]
                if i - start > 4:
                    raise MidiError(path, base + start, 'a length of more than 4 bytes')
                n = vlq_value(length)
            else:
                warn(number, base + i - 1, f'system message {byte:02x} must not stand in a file')
                n = SYSTEM_DATA_BYTES.get(byte, 0)
                if not track[i : i + n].isascii():
                    raise MidiError(path, base + i, f'data bytes {track[i : i + n].hex()}: over 7f')
            body = track[i : i + n]
            i += n
            if i > size:
                break
            append(
                {
                    'delta': delta,
                    'status': system,
                    'meta': meta,
                    'length': length,
                    'body': body,
                    'running': False,
                }
            )
            if meta == b'\x2f':
                finished = True
                break
    except IndexError:  # at the end of the bytes, in a delta time or a length
        i = size + 1
    if i > size:
        warn(number, base + first, 'the track ends inside this event')
        i = first
    elif finished and i < size:
        warn(number, base + i, f'{size - i} bytes after End of Track')
    elif not finished:
        warn(number, end, 'no End of Track')
    return {'header': raw[at:base], 'chunks': chunks, 'rest': track[i:]}


def vlq_value(vlq):
    """The number (int) that a variable-length quantity (bytes) stands for."""
    value = 0
    for byte in vlq:
        value = value << 7 | byte & 0x7F
    return value


def text_of(body):
    """The text (str, one line) of a meta event, whose encoding the file does not tell."""
    try:
        text = body.decode('utf-8')
    except UnicodeDecodeError:
        text = body.decode('cp932', 'replace')
    return ''.join(c if c.isprintable() else ' ' for c in text)


def describe(chunk):
    """What an event is, in words, for instance 'note on, channel 1: 60 64'."""
    status, body = chunk['status'][0], chunk['body']
    numbers = ' '.join(map(str, body))
    if status < 0xF0:
        return f'{CHANNEL_NAMES[status & 0xF0]}, channel {status % 16 + 1}: {numbers}'
    if status != 0xFF:
        return f'system {status:02x}: {body.hex(" ")}'
    kind = chunk['meta'][0]
    name = META_NAMES.get(kind, f'meta {kind:02x}')
    if 0x01 <= kind <= 0x0F:
        return f'{name}: {text_of(body)}'
    if kind == 0x51 and len(body) == 3 and any(body):
        return f'{name}: {60000000 / int.from_bytes(body, "big"):.6g} quarters per minute'
    if kind == 0x58 and len(body) == 4:
        return f'{name}: {body[0]}/{2 ** body[1]}'
    return f'{name}: {body.hex(" ")}'.removesuffix(': ')


@terminal.reporting(MidiError)
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    from support import music  # late: it imports this module

    parser = argparse.ArgumentParser(
        prog='read_midi.py', description='Shows what is in a MIDI file.'
    )
    parser.add_argument('file', help='a Standard MIDI File')
    parser.add_argument(
        '--words', action='store_true', help='the pseudo-words of a track, one a line'
    )
    parser.add_argument(
        '--track',
        type=music.track_option,
        metavar='N',
        help='a track, counted from 0, or all (default: the table: all; '
        'the words: the one with most notes)',
    )
    parser.add_argument(
        '--events',
        choices=music.EVENTS,
        default='notes',
        help='what becomes a word (default: notes)',
    )
    parser.add_argument('--strict', action='store_true', help='the first warning is an error')
    args = parser.parse_args(argv)

    data = read_midi(args.file, args.strict)
    for number, offset, reason in data['warnings']:
        where = '' if number is None else f'track {number}, '
        print(f'{args.file}: {where}{reason} (byte {offset})', file=sys.stderr)
    if args.words:
        try:
            words = music.to_words(data, music.track_of(data, args.track), args.events)
        except music.MusicError as error:
            raise MidiError(args.file, None, error) from None
        print(*words, sep='\n')
        return 0
    if args.track not in (None, 'all', *range(len(data['tracks']))):
        raise MidiError(
            args.file, None, f'no track {args.track}; it has {len(data["tracks"])}, counted from 0'
        )
    print(
        f'format {data["header"][9]}, {len(data["tracks"])} tracks, division {data["header"][12:].hex()}'
    )
    print(f'{"track":>5} {"tick":>9} {"delta":>8}  event')
    for number, track in enumerate(data['tracks']):
        if args.track not in (None, 'all', number):
            continue
        tick = 0
        for chunk in track['chunks']:
            tick += vlq_value(chunk['delta'])
            print(f'{number:5} {tick:9} {chunk["delta"].hex():>8}  {describe(chunk)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
