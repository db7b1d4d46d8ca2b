"""Writes the article's structure as a Standard MIDI File: read_midi.py undone, byte for byte.

python read_midi.py data/track1.mid --words > words.txt
python write_midi.py words.txt out.mid

write_midi(read_midi('data/track1.mid'), 'copy.mid')  # the same bytes
"""

import argparse
import contextlib
import sys

from support import terminal
from read_midi import vlq_value


def write_midi(data, path):
    """Writes a dict of the form that read_midi returns; OSError if it cannot be written.

    The file takes the place of an old one only when it is whole.
    """
    raw = to_bytes(data)
    with terminal.replacing(path) as file:
        file.write(raw)


def to_bytes(data):
    """The bytes of the file.

    Needed are 'header' and 'tracks', of these 'chunks', and of a chunk its five fields;
    what else read_midi gives may be absent. Lengths of tracks and events and the number of tracks are counted,
    and 'running' is heeded only where it can be, so events and tracks may be added, changed and
    taken away.
    """
    ntrks = len(data['tracks']) + data.get('missing', 0)
    header = data['header']
    alien = {}
    for chunk in data.get('alien', []):
        alien.setdefault(chunk['track'], []).extend((chunk['header'], chunk['body']))
    parts = [header[:10], ntrks.to_bytes(2, 'big'), header[12:], data.get('header_extra', b'')]
    for number, track in enumerate(data['tracks']):
        parts += alien.get(number, [])
        parts.append(_track(track))
    parts += alien.get(len(data['tracks']), [])
    return b''.join(parts) + data.get('rest', b'')


def _track(track):
    parts = []
    last = None  # the status byte that running status would repeat
    for chunk in track['chunks']:
        status, length, body = chunk['status'], chunk['length'], chunk['body']
        if status < b'\xf0':
            if chunk.get('running') and status == last:
                parts += chunk['delta'], body
            else:
                parts += chunk['delta'], status, body
            last = status
        else:
            if length and vlq_value(length) != len(body):
                length = vlq(len(body))
            parts += chunk['delta'], status, chunk['meta'], length, body
    body = b''.join(parts) + track.get('rest', b'')
    return b'MTrk' + (len(body) + track.get('missing', 0)).to_bytes(4, 'big') + body


def vlq(value):
    """The shortest variable-length quantity (bytes) of an int; ValueError beyond 0fffffff."""
    if not 0 <= value < 1 << 28:
        raise ValueError(f'{value} is not from 0 to 268435455')
    quantity = [value & 0x7F]
    while value := value >> 7:
        quantity.insert(0, value & 0x7F | 0x80)
    return bytes(quantity)


@terminal.reporting()
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    from support import music  # late: it imports this module

    parser = argparse.ArgumentParser(
        prog='write_midi.py', description='Makes a MIDI file of pseudo-words.'
    )
    parser.add_argument('words', help='a file of words between spaces or line ends; - is stdin')
    parser.add_argument('out', help='the .mid to write')
    parser.add_argument(
        '--like',
        metavar='FILE.mid',
        help='take division, tempo, time signature and programs from this file '
        '(default: 480 ticks per quarter, 120 quarters per minute)',
    )
    args = parser.parse_args(argv)
    try:
        with (
            contextlib.nullcontext(sys.stdin.buffer)
            if args.words == '-'
            else terminal.opened(args.words) as file
        ):
            raw = file.read()
        # PowerShell's > writes UTF-16; what is no text becomes a word that is none
        text = raw.decode(
            'utf-16' if raw[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig', 'replace'
        )
        setup = music.setup_of(music.read_midi(args.like), 'all') if args.like else None
        if not text.split():
            raise music.MusicError(f'{args.words}: no words in it')
        write_midi(music.to_data(text.split(), setup), args.out)
    except (music.MusicError, music.MidiError) as error:
        print(f'write_midi.py: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
