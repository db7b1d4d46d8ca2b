"""Reading and writing MIDI files against mido, on the same files, in turn, in one process.

    python bench/midi.py FOLDER [--rounds 7]

All .mid below FOLDER that mido can read and write again. Files are read from and written
to memory, so that no disk is measured; each program writes what it has read itself. Best and
median of the rounds.
"""

import argparse
import gc
import io
import pathlib
import platform
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import mido

import read_midi
import write_midi


def mido_read(raw):
    return mido.MidiFile(file=io.BytesIO(raw))


def mido_write(song):
    file = io.BytesIO()
    song.save(file=file)
    return file.getvalue()


def seconds(function, arguments):
    gc.collect()
    start = time.perf_counter()
    for argument in arguments:
        function(argument)
    return time.perf_counter() - start


def measure(folder, rounds):
    """{'read' and 'write': {'this' and 'mido': [seconds of each round], 'files', 'events'}}."""
    raws, datas, songs = [], [], []
    for path in sorted(pathlib.Path(folder).rglob('*.mid')):
        raw = path.read_bytes()
        try:
            song = mido_read(raw)
            mido_write(song)
        except (OSError, EOFError, ValueError):
            continue
        raws.append(raw)
        songs.append(song)
        datas.append(read_midi.from_bytes(raw))
    events = sum(len(track['chunks']) for data in datas for track in data['tracks'])
    result = {
        kind: {'this': [], 'mido': [], 'files': len(raws), 'events': events}
        for kind in ('read', 'write')
    }
    for _ in range(rounds):
        result['read']['this'].append(seconds(read_midi.from_bytes, raws))
        result['read']['mido'].append(seconds(mido_read, raws))
        result['write']['this'].append(seconds(write_midi.to_bytes, datas))
        result['write']['mido'].append(seconds(mido_write, songs))
    return result


def main():
    parser = argparse.ArgumentParser(description='Reading and writing MIDI files against mido.')
    parser.add_argument('folder', type=pathlib.Path)
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    result = measure(args.folder, args.rounds)
    print(
        f'{result["read"]["files"]} files, {result["read"]["events"]:,} events; mido '
        f'{mido.version_info}, Python {platform.python_version()}'
    )
    print(f'{"":6} {"this, s":>16} {"mido, s":>16} {"mido / this":>16}   (best, median)')
    for name, times in result.items():
        columns = [(min(times[who]), statistics.median(times[who])) for who in ('this', 'mido')]
        columns.append([b / a for a, b in zip(*columns)])
        print(f'{name:6} ' + ' '.join(f'{best:7.3f} {median:8.3f}' for best, median in columns))


if __name__ == '__main__':
    main()
