"""A piece as sound and as a picture.

data = write_midi.to_data(words, setup)
write_wav(data, 'out.wav')
write_png(data, 'out.png')
"""

import io
import wave

import matplotlib.figure
import numpy
import pretty_midi

from read_midi import MusicError, resolution
from support import terminal
from support.music import pitch_name
from write_midi import to_bytes

MAX_SECONDS = 3600  # of all instruments together: pretty_midi takes up to 2 GB for them
SAMPLE_RATE = 22050  # per second: enough for sines; FluidSynth's instruments get twice that


def _player(data):
    """A pretty_midi.PrettyMIDI of what `to_data` gives.

    MusicError if there is no note in it or it would play for too long.
    """
    chunks, header = data['tracks'][0]['chunks'], data['header']
    if resolution(header[12:].hex()) < 0:
        # SMPTE, which pretty_midi does not know: one quarter a second instead
        frames = 256 - header[12]
        # 29 stands for 29.97
        division, tempo = (30, 1001000) if frames == 29 else (frames, 1000000)
        header = header[:12] + (division * header[13]).to_bytes(2, 'big')
        chunks = [chunk for chunk in chunks if chunk['meta'] != b'\x51']
        event = {'delta': b'\0', 'status': b'\xff', 'meta': b'\x51', 'length': b'\3'}
        chunks.insert(0, {**event, 'body': tempo.to_bytes(3, 'big')})
    file = io.BytesIO(to_bytes({'header': header, 'tracks': [{'chunks': chunks}]}))
    try:
        player = pretty_midi.PrettyMIDI(file)
    except ValueError:  # more than ten million ticks
        raise MusicError('it lasts too long to be played') from None
    if not player.instruments:
        raise MusicError('there is no note in it')
    seconds, most = player.get_end_time(), MAX_SECONDS / len(player.instruments)
    if seconds > most:
        raise MusicError(
            f'it lasts {seconds:,.0f} seconds; what can be heard and drawn is up to {int(most):,}'
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
        rate = 2 * SAMPLE_RATE
        sound = player.fluidsynth(fs=rate)
    except ImportError:
        rate = SAMPLE_RATE
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
    """Writes the piano roll of what `to_data` gives; MusicError as of `piano_roll`, OSError."""
    figure = piano_roll(data)
    with terminal.replacing(path) as file:
        figure.savefig(file, format='png')


def piano_roll(data):
    """A matplotlib figure of what `to_data` gives: seconds to the right, keys upwards.

    MusicError if there is nothing to see or too much.
    """
    player = _player(data)
    keys = [note.pitch for instrument in player.instruments for note in instrument.notes]
    low, high = min(keys) - 2, max(keys) + 2
    width = min(max(8, player.get_end_time() / 5), 40)  # inches
    figure = matplotlib.figure.Figure((width, 5), layout='constrained')
    axes = figure.subplots()
    for number, instrument in enumerate(player.instruments):
        program = pretty_midi.program_to_instrument_name(instrument.program)
        axes.hlines(
            [note.pitch for note in instrument.notes],
            [note.start for note in instrument.notes],
            [note.end for note in instrument.notes],
            linewidth=250 / (high - low),
            label='drums' if instrument.is_drum else program,
            color=f'C{number % 10}',
        )
    named = {0, 2, 4, 5, 7, 9, 11} if high - low <= 26 else {0, 7}
    ticks = [key for key in range(low, high + 1) if key % 12 in named]
    axes.set_yticks(ticks, map(pitch_name, ticks))
    axes.set_ylim(low, high)
    axes.set_xlim(0, player.get_end_time())
    axes.set_xlabel('seconds')
    axes.set_ylabel('key')
    axes.grid(alpha=0.3)
    if len(player.instruments) > 1:
        figure.legend(loc='outside upper center', ncols=6)
    return figure
