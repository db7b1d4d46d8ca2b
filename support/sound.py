"""A piece as sound, as a picture and as a line to read.

data = write_midi.to_data(words, setup)
write_audio(data, 'out.mp3')
write_png(data, 'out.png')
print(line_of(data))
"""

import collections
import io
import itertools
import pathlib
import subprocess
import sys
import textwrap
from fractions import Fraction

import matplotlib.figure
import numpy
import pretty_midi
import soundfile

from read_midi import MAX_TICKS, MusicError, resolution, vlq
from support import terminal
from support.describe import PERCUSSION
from support.music import pitch_name
from support.notes import metre, notes, seconds
from write_midi import to_bytes

try:
    import midirenderer
except ImportError:  # there is none for Linux on ARM
    midirenderer = None

SOUNDFONT = pathlib.Path(pretty_midi.__file__).with_name('TimGM6mb.sf2')  # General MIDI, 6 MB
FORMATS = {'.flac': 'FLAC', '.ogg': 'OGG', '.mp3': 'MP3'}  # others are .wav
MAX_SECONDS = 3600  # an hour of sound takes 2 GB of memory
SYNTHESIZER = """
import sys, midirenderer
with open(sys.argv[1], 'rb') as instruments:
    wav = midirenderer.render_wave_from(instruments.read(), sys.stdin.buffer.read())
sys.stdout.buffer.write(wav)
"""
PEAK = 0.9  # of the loudest sample: .mp3 and .ogg may exceed what they are given
# Of a whole note: from a thirty-second to two whole notes, with dots and triplets.
LENGTHS = sorted(Fraction(n, d) for d in (1, 2, 4, 8, 16, 32) for n in (1, Fraction(3, 2)))
LENGTHS += [Fraction(2), *(Fraction(1, d) for d in (3, 6, 12, 24))]


def playable(data):
    """The notes of what `to_data` gives; MusicError if there is none or they last too long."""
    played = notes(data)
    if not played:
        raise MusicError('there is no note in it')
    last = seconds(data, [max(note.end for note in played)])[0]
    if last > MAX_SECONDS:
        raise MusicError(
            f'it lasts {last:,.0f} seconds; what can be heard and drawn is up to {MAX_SECONDS:,}'
        )
    return played


# Sound


def write_audio(data, path, soundfont=None):
    """Writes the sound of what `to_data` gives, stereo; the format is that of the name's ending.

    soundfont: the path of an .sf2 with the instruments (default: SOUNDFONT). MusicError if there
    is nothing to hear or too much, or if the SoundFont is none; OSError if a file cannot be read
    or written.
    """
    rate, samples = _render(data, soundfont or SOUNDFONT)
    file_format = FORMATS.get(pathlib.Path(path).suffix.lower(), 'WAV')
    buffer = io.BytesIO()
    scale = numpy.float32(PEAK / max(int(samples.max()), -int(samples.min())))
    with soundfile.SoundFile(buffer, 'w', rate, channels=2, format=file_format) as file:
        for start in range(0, len(samples), rate):  # libsndfile's Vorbis cannot take all at once
            file.write(samples[start : start + rate] * scale)
    with terminal.replacing(path) as file:
        file.write(buffer.getbuffer())


def _render(data, soundfont):
    """(samples per second, (N, 2) int16) of the sound of a piece."""
    played = playable(data)
    if midirenderer is None:
        raise MusicError(
            'no sound: midirenderer is not installed, or there is none for this machine; '
            'other programs play what --midi writes'
        )
    with terminal.opened(soundfont):
        pass  # it can be read
    for softer in (1, 2, 4, 8):
        wav = _synthesized(to_bytes(_for_synthesizer(data, softer)), soundfont)
        samples, rate = soundfile.read(io.BytesIO(wav), dtype='int16', always_2d=True)
        if samples.max() < 32767 and samples.min() > -32768:  # else it is cut off
            break
    if not samples.any():
        strongest = max(note.velocity for note in played)
        raise MusicError(f'nothing of it can be heard; its strongest velocity is {strongest}')
    return rate, samples


def _synthesized(midi, soundfont):
    """The sound of a MIDI file (bytes), as a WAV file (bytes); MusicError as of `write_audio`.

    In a process of its own: midirenderer does not let go of the interpreter, so that nothing could
    be shown meanwhile, and Ctrl-C would not be heard.
    """
    command = [sys.executable, '-c', SYNTHESIZER, soundfont]
    done = subprocess.run(command, input=midi, capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors='replace').strip().split('\n')[-1]
        if reason.startswith('RuntimeError: '):
            reason = f'not a SoundFont (.sf2): {reason.removeprefix("RuntimeError: ")}'
        raise MusicError(
            f'{soundfont}: {reason or f"the synthesizer ended with {done.returncode}"}'
        )
    return done.stdout


def _for_synthesizer(data, softer):
    """A copy of a piece that the synthesizer plays right, its velocities divided by `softer`.

    It has a second more to fade away. To a synthesizer, a note-off ends all notes of its key. So
    only the last one of notes that overlap is kept; for the others stands a key pressure, which
    does nothing. SMPTE frames, which it does not know, become quarters of one second.
    """
    header, tempo, chunks = data['header'], None, []
    if resolution(header[12:].hex()) < 0:
        frames, tempo = 256 - header[12], 1000000
        if frames == 29:  # it stands for 29.97
            frames, tempo = 30, 1001000
        header = header[:12] + (frames * header[13]).to_bytes(2, 'big')
        chunks.append({'delta': b'\0', 'status': b'\xff', 'meta': b'\x51', 'length': b'\3'})
        chunks[0]['body'] = tempo.to_bytes(3, 'big')
    sounding = collections.Counter()
    end = max(note.end for note in notes(data))
    for chunk in data['tracks'][0]['chunks']:
        (kind, channel), body = divmod(chunk['status'][0], 16), chunk['body']
        if kind == 9 and body[1]:
            sounding[channel, body[0]] += 1
            chunk = {**chunk, 'body': bytes([body[0], -(-body[1] // softer)])}
        elif kind in (8, 9):
            sounding[channel, body[0]] -= 1
            if sounding[channel, body[0]] > 0:
                chunk = {**chunk, 'status': bytes([0xA0 | channel])}
        elif tempo and chunk['meta'] == b'\x51':
            chunk = {**chunk, 'body': tempo.to_bytes(3, 'big')}
        chunks.append(chunk)
    second = 1 / numpy.diff(seconds(data, [end, end + 1]))[0]  # in ticks
    chunks[-1] = {**chunks[-1], 'delta': vlq(min(round(second), MAX_TICKS))}  # End of Track
    return {'header': header, 'tracks': [{'chunks': chunks}]}


# Picture


def write_png(data, path):
    """Writes the piano roll of what `to_data` gives; MusicError as of `piano_roll`, OSError."""
    figure = piano_roll(data)
    with terminal.replacing(path) as file:
        figure.savefig(file, format='png')


def piano_roll(data):
    """A matplotlib figure of what `to_data` gives: time to the right, keys upwards.

    Percussion has a staff of its own, below. Time is counted in bars or, if no time signature is
    known, in seconds. MusicError if there is nothing to see or too much.
    """
    played = playable(data)
    pitched = [note for note in played if note.channel != PERCUSSION]
    drums = [note for note in played if note.channel == PERCUSSION]
    kinds = sorted({note.key for note in drums})
    end = seconds(data, [max(note.end for note in played)])[0]
    width = min(max(8, end / 5), 40)  # inches
    heights = [5] * bool(pitched) + [0.6 + 0.25 * len(kinds)] * bool(drums)
    figure = matplotlib.figure.Figure((width, sum(heights)), layout='constrained')
    staves = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    if pitched:
        _draw_pitched(staves[0], data, pitched)
        if len(staves[0].collections) > 1:
            figure.legend(loc='outside upper center', ncols=6)
    if drums:
        rows = [kinds.index(note.key) for note in drums]
        starts = seconds(data, [note.start for note in drums])
        staves[-1].plot(starts, rows, '|', color='black', markersize=9)
        staves[-1].set_yticks(range(len(kinds)), map(drum_name, kinds))
        staves[-1].set_ylim(-0.7, len(kinds) - 0.3)
    for staff in staves:
        staff.grid(alpha=0.3)
    _draw_bars(staves, data, end, width)
    staves[-1].set_xlim(0, end)
    return figure


def _draw_pitched(axes, data, played):
    """Draws notes that have a pitch, each instrument in a colour of its own."""
    keys = [note.key for note in played]
    low, high = min(keys) - 2, max(keys) + 2
    instruments = dict.fromkeys((note.channel, note.program) for note in played)
    for number, (channel, program) in enumerate(instruments):
        own = [note for note in played if (note.channel, note.program) == (channel, program)]
        axes.hlines(
            [note.key for note in own],
            seconds(data, [note.start for note in own]),
            seconds(data, [note.end for note in own]),
            linewidth=250 / (high - low),
            label=pretty_midi.program_to_instrument_name(program),
            color=f'C{number % 10}',
        )
    named = {0, 2, 4, 5, 7, 9, 11} if high - low <= 26 else {0, 7}
    ticks = [key for key in range(low, high + 1) if key % 12 in named]
    axes.set_yticks(ticks, map(pitch_name, ticks))
    axes.set_ylim(low, high)
    axes.set_ylabel('key')


def _draw_bars(staves, data, end, width):
    """Draws bars and beats, as many as `width` inches have room for, and what they are."""
    axes, known = staves[-1], metre(data)
    axes.set_xlabel('seconds')
    if not known:
        return
    beat = 4 * resolution(data['header'][12:].hex()) / known[1]
    last = max(note.end for note in notes(data))
    bars, beats = (-(-last // ticks) + 1 for ticks in (beat * known[0], beat))
    step = next((step for step in (1, 2, 4, 8, 16, 32, 64) if bars <= 2.5 * width * step), None)
    if not step:
        return
    numbers = numpy.arange(0, bars, step, 'i')
    axes.set_xticks(seconds(data, numbers * beat * known[0]), numbers + 1)
    if beats <= 12 * width:
        axes.set_xticks(seconds(data, numpy.arange(beats) * beat), minor=True)
    for staff in staves:
        staff.grid(which='minor', axis='x', alpha=0.15)
        staff.grid(which='major', axis='x', alpha=0.6)
    axes.set_xlabel(f'bars of {known[0]}/{known[1]}; {end:.0f} seconds')


def drum_name(key):
    """The instrument (str) of a key (int) of channel 10 in General MIDI, or the key's pitch."""
    return pretty_midi.note_number_to_drum_name(key) or pitch_name(key)


# Line


def line_of(data):
    """Note names and lengths (str, two lines at most) of what `to_data` gives: A4 1/8, C5 1/4.

    Lengths are those of notation that are nearest, as parts of a whole note; of SMPTE, seconds.
    What begins together is joined by +, and drums have no length. A line has 79 columns at most.
    """
    words, whole = [], 4 * resolution(data['header'][12:].hex())
    for start, chord in itertools.groupby(notes(data), lambda note: note.start):
        chord = [*chord]
        pitched = [note for note in chord if note.channel != PERCUSSION]
        names = [pitch_name(note.key) for note in pitched]
        names += [drum_name(note.key) for note in chord if note.channel == PERCUSSION]
        words.append('+'.join(dict.fromkeys(names)))
        if pitched and whole > 0:
            part = max(pitched[0].end - start, 1) / whole
            near = min(LENGTHS, key=lambda length: max(length / part, part / length))
            words[-1] += f' {near.numerator}/{near.denominator}'
        elif pitched:
            begin, end = seconds(data, [start, pitched[0].end])
            words[-1] += f' {end - begin:.2f} s'
    return '\n'.join(textwrap.wrap(', '.join(words), 79, max_lines=2, placeholder=' ...'))
