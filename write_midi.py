"""Writes the article's structure as a Standard MIDI File: read_midi.py undone, byte for byte.

    python read_midi.py track1.mid --words > words.txt
    python write_midi.py words.txt out.mid

    write_midi(read_midi('track1.mid'), 'copy.mid')  # the same bytes
"""
import argparse
import contextlib
import sys

import command


def write_midi(data, path):
    """Writes a dict of the form that read_midi returns; OSError if it cannot be written.

    The file takes the place of an old one only when it is whole.
    """
    raw = to_bytes(data)
    with command.replacing(path) as file:
        file.write(raw)


def to_bytes(data):
    """The bytes of the file. Lengths and the number of tracks are counted, not copied.

    Needed are 'header' and 'tracks', and of these 'chunks'; the other keys that
    read_midi gives may be absent. A track that is added or an event that grows
    needs no other change.
    """
    tracks = [_track(track) for track in data['tracks']]
    ntrks = len(tracks) + data.get('missing', 0)
    header = data['header']
    parts = [header[:10], ntrks.to_bytes(2, 'big'), header[12:], data.get('header_extra', b'')]
    alien = data.get('alien', [])
    for number in range(len(tracks) + 1):
        parts += [part for chunk in alien if chunk['track'] == number
                  for part in (chunk['header'], chunk['body'])]
        parts += tracks[number:number + 1]
    return b''.join(parts) + data.get('rest', b'')


def _track(track):
    parts = []
    for chunk in track['chunks']:
        if chunk.get('running'):
            parts += chunk['delta'], chunk['body']
        else:
            parts += chunk['delta'], chunk['status'], chunk['meta'], chunk['length'], chunk['body']
    body = b''.join(parts) + track.get('rest', b'')
    return b'MTrk' + (len(body) + track.get('missing', 0)).to_bytes(4, 'big') + body


def vlq(value):
    """The shortest variable-length quantity (bytes) of an int; ValueError beyond 0fffffff."""
    if not 0 <= value < 1 << 28:
        raise ValueError(f'{value} is not from 0 to 268435455')
    quantity = [value & 0x7f]
    while value := value >> 7:
        quantity.insert(0, value & 0x7f | 0x80)
    return bytes(quantity)


@command.reporting()
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    import music  # late: it imports this module
    parser = argparse.ArgumentParser(prog='write_midi.py', description='Makes a MIDI file of pseudo-words.')
    parser.add_argument('words', help='a file of words between spaces or line ends; - is stdin')
    parser.add_argument('out', help='the .mid to write')
    parser.add_argument('--like', metavar='FILE.mid',
                        help='take division, tempo, time signature and programs from this file '
                             '(default: 480 ticks per quarter, 120 quarters per minute)')
    args = parser.parse_args(argv)
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if args.words == '-' else open(args.words, 'rb') as file:
            raw = file.read()
        # PowerShell's > writes UTF-16; what is no text becomes a word that is none
        text = raw.decode('utf-16' if raw[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig', 'replace')
        setup = music.setup_of(music.read_midi(args.like), 'all') if args.like else None
        write_midi(music.to_data(text.split(), setup), args.out)
    except (music.MusicError, music.MidiError) as error:
        print(f'write_midi.py: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
