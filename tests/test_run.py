"""A run of train.py: its files and its log, how it is stopped and resumed."""

import argparse
import errno
import hashlib
import subprocess
import os
import pathlib
import shutil
import signal

import matplotlib.image
import numpy
import pytest

from support import checkpoint, terminal
from support.checkpoint import FILES
from support.run import explained
import kill
import train
from conftest import (
    FILES_OF_A_RUN,
    TINY,
    arrays,
    entries,
    forge,
    run,
    started,
    untimed,
    wait_for_epoch,
    posix,
)

SMALL = pathlib.Path('result/small')
ENDLESS = ['--corpus', 'small.txt', *TINY, '--epoch', '1000000']
LINES = 'progress.LINE_EVERY = 0'


def files_in(folder):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def whole(folder):
    """Asserts that all the files of a run are whole; returns their checksums."""
    epoch = checkpoint.load(folder / 'last.npz', training=True).epoch
    checkpoint.load(folder / 'best.npz')
    assert len(entries(folder)) >= epoch  # an epoch may be logged that could not be saved
    matplotlib.image.imread(folder / 'loss.png')
    assert not list(folder.glob('.*.part'))
    return {name: hashlib.sha256((folder / name).read_bytes()).digest() for name in FILES}


# Files


def test_files_of_a_run(trained):
    assert files_in(trained) == FILES_OF_A_RUN
    assert matplotlib.image.imread(trained / 'loss.png').ndim == 3


def test_the_log_has_a_line_for_each_epoch(trained):
    log = entries(trained)
    assert [entry['epoch'] for entry in log] == [1, 2]
    assert [entry['iteration'] for entry in log] == [19, 38]
    for entry in log:
        assert entry['perplexity'] == pytest.approx(numpy.exp(entry['main/loss']))
        assert 0 <= entry['main/accuracy'] <= 1 and 0 <= entry['validation/main/accuracy'] <= 1
        assert entry['tokens/s'] > 0
    assert 0 < log[0]['elapsed_time'] < log[1]['elapsed_time']


def test_an_old_run_moves_aside(trained, capsys):
    before = {name: (trained / name).read_bytes() for name in FILES}
    (trained / 'notes.txt').write_text('mine', encoding='utf-8')
    for n in (1, 2):
        assert run(train, '--corpus', 'small.txt', *TINY, '--seed', n) == 0
        assert f'old-{n}' in capsys.readouterr().out
    for name in FILES:
        assert (trained / 'old-1' / name).read_bytes() == before[name]
    assert (trained / 'notes.txt').read_text(encoding='utf-8') == 'mine'


def test_what_a_killed_run_leaves_is_cleared(trained):
    for name in FILES:
        (trained / f'.{name}.part').write_bytes(b'half')
    assert run(train, '--resume', '--epoch', 3) == 0
    assert files_in(trained) == FILES_OF_A_RUN


def test_samples(small_text, capsys):
    argv = ['--corpus', 'small.txt', *TINY, '--sample-every', 1, '--min-count', 45]
    assert run(train, *argv) == 0
    out = capsys.readouterr().out
    assert out.count('it writes') == 2 and '\033' not in out and '\r' not in out
    words = set(small_text.read_text(encoding='utf-8').split())
    for epoch in (1, 2):
        written = out.split(f'--- after epoch {epoch} it writes ---\n')[1].split('---')[0].split()
        assert len(written) > 30 and set(written) <= words  # never <unk>


# Stop and resume


KINDS = {
    'text': ['--corpus', 'small.txt'],
    'stepwise': ['--corpus', 'small.txt', '--stepwise', '--schedule', 'linear'],
    'music': ['--midi', 'track1.mid', '--transpose', '0', '0', '--track', '2'],
}


@posix
@pytest.mark.parametrize('kind', KINDS)
def test_a_run_that_was_stopped_ends_as_an_unbroken_one(small_text, kind):
    """Stopped somewhere in its third epoch, or soon after."""
    argv = [*KINDS[kind], *TINY, '--epoch', '6', '--lr', '0.05']
    with started(*argv, '--out', 'split') as process:
        wait_for_epoch(process, 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert '--resume' in err.splitlines()[-1] and 'split' in err.splitlines()[-1]
    assert 2 <= len(entries('split')) < 6
    assert run(train, '--resume', 'split') == 0
    assert run(train, *argv, '--out', 'unbroken') == 0
    for name in ('last.npz', 'best.npz'):
        split, unbroken = pathlib.Path('split', name), pathlib.Path('unbroken', name)
        assert split.read_bytes() == unbroken.read_bytes(), name
    split, unbroken = entries('split'), entries('unbroken')
    assert len(split) == 6 and untimed(split) == untimed(unbroken)
    elapsed = [entry['elapsed_time'] for entry in split]
    assert elapsed == sorted(elapsed) and all(entry['tokens/s'] > 0 for entry in split)


def test_killed_runs_resume_to_the_same_end(small_text, monkeypatch):
    argv = ['--corpus', str(small_text), *TINY, '--epoch', '5']
    monkeypatch.setattr(kill, 'RUNS', {'text': argv})
    assert kill.main(['3']) == 0


@pytest.mark.parametrize(
    'options',
    [
        ['--cell', 'gru', '--layer', 1],
        ['--cell', 'rnn', '--layer', 3, '--optimizer', 'sgd'],
        ['--layer', 3, '--optimizer', 'rmsprop', '--weight-decay', 0.1],
    ],
)
def test_cells_layers_and_optimizers_are_resumed(small_text, failed, options):
    """Two epochs and two more are four; what the run is made of cannot change."""
    argv = ['--corpus', 'small.txt', *TINY, *options, '--lr', 0.1]
    assert run(train, *argv, '--epoch', 4, '--out', 'four') == 0
    assert run(train, *argv, '--out', 'two') == 0
    assert run(train, '--resume', 'two', '--epoch', 4) == 0
    one, other = arrays('four/last.npz'), arrays('two/last.npz')
    for name in one:
        numpy.testing.assert_array_equal(one[name], other[name], err_msg=name)
    for option in ('--layer=2', '--cell=lstm', '--optimizer=adam'):
        if option.split('=')[0] in options:
            assert 'cannot change' in failed(2, train, '--resume', 'two', option)
    assert '--unit is 8' in failed(2, train, '--resume', 'two', '--unit', 9)


def test_resume_with_more_epochs(trained, capsys):
    before = (trained / 'last.npz').read_bytes()
    assert run(train, '--corpus', 'small.txt', '--resume') == 0
    assert '2 epochs are done already' in capsys.readouterr().out
    assert (trained / 'last.npz').read_bytes() == before
    assert run(train, '--resume', '--epoch', 4, '--sample-every', 1) == 0
    assert 'after epoch 2' in capsys.readouterr().out
    assert [entry['epoch'] for entry in entries(trained)] == [1, 2, 3, 4]
    assert checkpoint.load(trained / 'last.npz').epoch == 4
    assert not (trained / 'old-1').exists()


def test_a_run_that_goes_on_elsewhere_takes_its_epochs_along(trained):
    before = {name: (trained / name).read_bytes() for name in FILES}
    assert run(train, '--resume', trained, '--out', 'other') == 0  # nothing left to do
    assert not pathlib.Path('other').exists()
    argv = ['--resume', trained, '--out', 'other', '--epoch', 3, '--lr', 1e-30]
    assert run(train, *argv) == 0
    assert pathlib.Path('other/best.npz').read_bytes() == before['best.npz']
    log = entries('other')
    assert log[:2] == entries(trained) and [entry['epoch'] for entry in log] == [1, 2, 3]
    assert log[1]['elapsed_time'] < log[2]['elapsed_time']
    assert {name: (trained / name).read_bytes() for name in FILES} == before
    # another name of its own folder is not elsewhere
    assert run(train, '--resume', trained, '--out', 'result/../result/small', '--epoch', 3) == 0
    assert not (trained / 'old-1').exists() and len(entries(trained)) == 3


BOGUS = '{"epoch": 3, "iteration": 57, "main/loss": 99.0}\n'


@pytest.mark.parametrize(
    'kept, added',
    [
        (2, BOGUS),  # an epoch that was logged before a kill, and never saved
        (2, BOGUS + '{"epoch": 4, "main/lo'),
        (2, '{"epoch": 3, "main/lo'),
        (1, '{"epoch": 2, "main/loss": "x"}\n'),
        (1, '{"main/loss": 99.0}\n'),
        (0, BOGUS),  # somebody has deleted the log meanwhile
        (0, ''),
        (0, '[\n'),
        (0, '[1, 2]\n'),
        (0, '[' * 100000),
        (0, 'ÿ\n'),
    ],
)
def test_the_log_is_cut_to_the_epochs_of_the_checkpoint(trained, kept, added):
    log = entries(trained)
    lines = (trained / 'log.jsonl').read_text(encoding='utf-8').splitlines(keepends=True)
    (trained / 'log.jsonl').write_text(''.join(lines[:kept]) + added, encoding='latin-1')
    assert run(train, '--resume', '--epoch', 3) == 0
    found = entries(trained)
    assert found[:kept] == log[:kept] and [entry['epoch'] for entry in found[kept:]] == [3]
    assert found[-1]['main/loss'] < 99
    matplotlib.image.imread(trained / 'loss.png')


@posix
@pytest.mark.parametrize('name, code', [('SIGTERM', 143), ('SIGHUP', 129), ('SIGINT', 130)])
def test_a_signal_stops_inside_an_epoch(small_text, name, code):
    """Of a million words, of which some windows are read; the run goes on from there."""
    small_text.write_text(small_text.read_text(encoding='utf-8') * 500, encoding='utf-8')
    with started(*ENDLESS, constants=LINES) as process:
        assert any(line.startswith('epoch 1 of ') for line in process.stdout)
        process.send_signal(getattr(signal, name))
        process.communicate()
        assert process.returncode == code
    saved = checkpoint.load(SMALL / 'last.npz', training=True)
    assert saved.epoch == 0 and saved.training['optimizer/t'] >= 1 and entries(SMALL) == []
    with started('--resume', constants=LINES) as process:
        assert any(line.startswith('epoch 1 of ') for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    more = checkpoint.load(SMALL / 'last.npz', training=True)
    assert more.epoch == 0 and more.training['optimizer/t'] > saved.training['optimizer/t']


@posix
@pytest.mark.parametrize('name, code', [('SIGINT', 130), ('SIGHUP', 129)])
def test_a_second_signal(small_text, name, code):
    """Ctrl-C twice stops at once; a closed terminal says so twice, and the window is saved."""
    small_text.write_text(small_text.read_text(encoding='utf-8') * 4, encoding='utf-8')
    argv = ['--corpus', 'small.txt', *TINY, '--bproplen', 800, '--batchsize', 1, '--epoch', 1]
    with started(*argv, '--stepwise', constants=LINES) as process:
        assert any(line.startswith('epoch 1 of ') for line in process.stdout)
        process.send_signal(getattr(signal, name))
        assert any(line.startswith('finishing this window') for line in process.stderr)
        process.send_signal(getattr(signal, name))
        _, err = process.communicate()
    assert process.returncode == code
    if name == 'SIGINT':
        assert err == 'stopped at once; nothing was saved yet\n'
        assert files_in(SMALL) == ['.lock', 'log.jsonl'] and entries(SMALL) == []
    else:
        saved = checkpoint.load(SMALL / 'last.npz', training=True)
        assert saved.training['optimizer/t'] in (1, 2)  # the signal's window, or the next


@posix
def test_a_background_job_ignores_ctrl_c(small_text):
    shell = ['/bin/sh', '-c', 'trap "" INT; exec "$@"', 'sh']  # as a shell does for "command &"
    with started(*ENDLESS, before=shell) as process:
        for epoch in (1, 2, 3):
            wait_for_epoch(process, epoch)
            process.send_signal(signal.SIGINT)
        wait_for_epoch(process, 4)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 143


@pytest.mark.parametrize('seconds, is_saved', [(0, True), (600, False)])
def test_autosave_inside_an_epoch(small_text, seconds, is_saved):
    """A run that is killed in its first epoch leaves what was saved there."""
    small_text.write_text(small_text.read_text(encoding='utf-8') * 500, encoding='utf-8')
    with started(*ENDLESS, constants=f'{LINES}; progress.AUTOSAVE = {seconds}') as process:
        lines = 0
        while lines < 3:
            lines += process.stdout.readline().startswith('epoch 1 of ')
        process.kill()
        process.communicate()
    assert (SMALL / 'last.npz').exists() == is_saved
    if is_saved:
        saved = checkpoint.load(SMALL / 'last.npz', training=True)
        assert saved.epoch == 0 and saved.training['optimizer/t'] >= 2


@pytest.mark.parametrize('both', [False, True])
def test_a_reader_that_goes_away_does_not_end_the_training(trained, both):
    """| head, and 2>&1 | head with something to say on stderr."""
    argv = ['--resume', '--epoch', '5', '--sample-every', '1', '--lr', '20']
    with started(*argv, stderr=subprocess.STDOUT if both else subprocess.PIPE) as process:
        process.stdout.close()
        assert both or 'the loss jumped' in process.stderr.read()
        assert process.wait() == 0
    assert checkpoint.load(trained / 'last.npz').epoch == 5


def test_two_runs_in_one_folder(failed, small_text):
    """The second is refused, resumed or new, until the first is gone, however it went."""
    with started(*ENDLESS) as process:
        wait_for_epoch(process, 2)  # the first is saved
        for argv in (['--corpus', 'small.txt', *TINY], ['--resume']):
            assert 'another training is going on' in failed(1, train, *argv)
    assert not (SMALL / 'old-1').exists()
    assert run(train, '--corpus', 'small.txt', *TINY, '--out', 'other') == 0
    assert run(train, '--corpus', 'small.txt', *TINY) == 0
    assert (SMALL / 'old-1').exists()


def test_bad_resumes(failed, trained, folder):
    (folder / 'foreign.npz').write_bytes(b'PK\x03\x04')
    assert 'damaged' in failed(1, train, '--resume', 'foreign.npz')
    assert 'no such file' in failed(1, train, '--resume', 'nowhere.npz')
    assert 'best.npz' in failed(1, train, '--resume', trained / 'best.npz')
    (folder / 'small.txt').write_text('quite another text\n' * 60, encoding='utf-8')
    assert 'not what' in failed(1, train, '--resume', trained)


def test_a_stranger_does_not_choose_where_files_go(trained):
    options = checkpoint.load(trained / 'last.npz').options
    forge(trained / 'last.npz', {'options': {**options, 'out': 'elsewhere', 'gpu': 3}})
    assert run(train, '--resume', '--epoch', 3) == 0
    assert checkpoint.load(trained / 'last.npz').epoch == 3
    assert not pathlib.Path('elsewhere').exists()


@pytest.mark.parametrize(
    'changed, reason',
    [
        ({'batchsize': 0}, '--batchsize'),
        ({'batchsize': None}, '--batchsize'),
        ({'bproplen': [6, 7]}, ''),
        ({'epoch': True}, '--epoch'),
        ({'optimizer': {'adam': 1}}, '--optimizer'),
        ({'level': 'sentence'}, '--level'),
        ({'dropout': float('nan')}, '--dropout'),
        ({'lr': '0.1.2'}, '--lr'),
        ({'stepwise': 'no'}, '--stepwise'),
        ({'corpus': []}, '--corpus'),
        ({'corpus': None}, 'none of this program'),
        ({'of-nobody': 1}, ''),
        ({'help': True}, ''),
    ],
)
def test_a_stranger_has_impossible_options(trained, failed, changed, reason):
    options = checkpoint.load(trained / 'last.npz').options
    forge(trained / 'last.npz', {'options': {**options, **changed}})
    line = failed(1, train, '--resume', '--epoch', 3)
    assert 'last.npz: ' in line and 'options' in line and reason in line


def test_a_run_from_before_schedule_goes_on(trained, failed):
    """It has another option, --lr-decay, which was off."""
    options = checkpoint.load(trained / 'last.npz').options
    del options['schedule'], options['known']
    forge(trained / 'last.npz', {'options': {**options, 'lr_decay': 0.5}})
    assert 'options' in failed(1, train, '--resume', '--epoch', 3)
    forge(trained / 'last.npz', {'options': {**options, 'lr_decay': 1.0}})
    assert run(train, '--resume', '--epoch', 3) == 0
    assert checkpoint.load(trained / 'last.npz').epoch == 3


def test_options_go_on_as_they_were(small_text):
    """Of every type: lists, numbers, words, switches, and some that are not given."""
    argv = ['--corpus', 'small.txt', 'small.txt', '--lr', 0.00123456789, '--no-stepwise']
    assert run(train, *argv, *TINY, '--out', 'result/small') == 0
    before = checkpoint.load(SMALL / 'last.npz').options
    assert run(train, '--resume', SMALL, '--epoch', 3) == 0
    assert checkpoint.load(SMALL / 'last.npz').options == {**before, 'epoch': 3}


def test_a_full_disk_says_what_to_do(trained):
    """What a disk says that has become full; the folder has a checkpoint."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError) as caught, explained(argparse.Namespace(out=trained, lr=0.002)):
        raise full
    line = terminal.message_of(caught.value)
    assert line.startswith(f'{trained}: No space left') and f'--resume {trained} goes on' in line


# Numbers that are none


@pytest.mark.parametrize('options', [[], ['--stepwise']])
def test_a_loss_that_is_no_number_stops(failed, trained, options):
    before = {name: (trained / name).read_bytes() for name in FILES}
    line = failed(1, train, '--resume', '--epoch', 9, '--lr', 1e38, *options)
    # 38 windows were read; the 39th makes the weights infinite, the 40th shows it
    assert 'the loss is nan at step 40 (epoch 2.' in line and '--resume' in line
    for name in ('last.npz', 'best.npz', 'log.jsonl'):
        assert (trained / name).read_bytes() == before[name]
    matplotlib.image.imread(trained / 'loss.png')
    assert run(train, '--resume', '--epoch', 3) == 0
    line = failed(1, train, '--corpus', 'small.txt', *TINY, '--lr', 1e38)
    assert 'nothing was saved yet' in line


@pytest.mark.parametrize('val_frac', [0, 0.05])
def test_weights_that_are_no_numbers_are_not_saved(failed, small_text, val_frac):
    """One window is an epoch, so that no later loss shows what its update has done."""
    options = ['--corpus', 'small.txt', *TINY, '--bproplen', 480, '--val-frac', val_frac]
    assert run(train, *options, '--epoch', 1) == 0
    before = (SMALL / 'last.npz').read_bytes()
    line = failed(1, train, '--resume', '--epoch', 2, '--lr', 1e300)
    assert 'after step 2' in line and '--resume' in line
    assert (SMALL / 'last.npz').read_bytes() == before
    assert [entry['epoch'] for entry in entries(SMALL)] == [1]


def test_what_is_saved_can_be_loaded(small_text):
    """A loss of hundreds of nats gives a perplexity near the largest float."""
    assert run(train, '--corpus', 'small.txt', *TINY, '--lr', 300) == 0
    assert max(entry['main/loss'] for entry in entries(SMALL)) > 700
    assert run(train, '--resume', '--epoch', 3, '--lr', 1e-30) == 0
    assert len(entries(SMALL)) == 3


# Where it cannot write


@pytest.mark.skipif(not hasattr(signal, 'SIGXFSZ'), reason='no file size limit here')
def test_full_disk(failed, trained, folder):
    """Limits on the size of a file, from none of a run to all of them fit below.

    What does not fit leaves the old one.
    """
    import resource

    sizes = {name: (trained / name).stat().st_size for name in FILES}
    before = whole(trained)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    failing = []
    for limit in [0, 100, *range(1000, max(sizes.values()) + 4000, 2500)]:
        shutil.copytree(trained, folder / str(limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            code = run(train, '--resume', limit, '--epoch', 3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        after = whole(folder / str(limit))
        if code:
            failing.append(limit)
            if limit < sizes['last.npz']:
                assert after['last.npz'] == before['last.npz']
        else:
            assert all(after[name] != before[name] for name in FILES if name != 'best.npz')
    assert len(failing) > 6 and failing[-1] >= max(sizes['last.npz'], sizes['loss.png']) - 2500
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes['last.npz'] - 1000, unlimited[1]))
    try:
        line = failed(1, train, '--resume', '--epoch', 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert 'File too large' in line and '.npz' in line
    assert run(train, '--resume', '--epoch', 3) == 0  # there is room again


@pytest.fixture
def unprivileged():
    """What stands before a command whose process permissions bind, root's too."""
    if not hasattr(os, 'geteuid') or not os.geteuid() and not shutil.which('setpriv'):
        pytest.skip('permissions bind nobody here')
    return [] if os.geteuid() else ['setpriv', '--bounding-set=-all', '--inh-caps=-all']


def test_a_run_that_cannot_be_read_is_named(small_text, unprivileged):
    assert run(train, '--corpus', 'small.txt', *TINY) == 0
    secret = pathlib.Path('result/secret')
    secret.mkdir(mode=0)
    with started('--resume', '--epoch', 3, before=unprivileged) as process:
        out, err = process.communicate()
    secret.chmod(0o700)
    assert process.returncode == 0 and 'epoch 3 of 3 done' in out
    assert f'left out: {secret}: Permission denied' in err


def test_a_folder_that_cannot_be_written(small_text, unprivileged):
    """It becomes so while a run is going on; neither resumed nor new ones begin there then."""

    def refused(process):
        _, err = process.communicate()
        assert process.returncode == 1 and err.count('\n') == 1
        assert err.startswith('-c: ') or err.startswith('train.py: ')
        assert 'Permission denied' in err

    with started(*ENDLESS, '--out', 'run', before=unprivileged) as process:
        wait_for_epoch(process, 2)
        os.chmod('run', 0o555)
        refused(process)
    os.chmod('run', 0o755)
    for part in pathlib.Path('run').glob('.*.part'):  # it was just being written, and had to stay
        part.unlink()
    os.chmod('run', 0o555)
    before = whole(pathlib.Path('run'))
    assert checkpoint.load('run/last.npz').epoch >= 1
    for argv in (['--resume', 'run'], [*ENDLESS, '--out', 'run']):
        with started(*argv, before=unprivileged) as process:
            refused(process)
    assert whole(pathlib.Path('run')) == before
    os.chmod('run', 0o755)
    os.chmod('.', 0o555)
    with started(*ENDLESS, '--out', 'new', before=unprivileged) as process:
        refused(process)
    os.chmod('.', 0o755)
    assert not pathlib.Path('new').exists()


def test_bad_places(failed, small_text, folder):
    (folder / 'file').write_text('', encoding='utf-8')
    for out in ('file', 'file/deeper', 'file/deeper/still'):
        line = failed(2, train, '--corpus', 'small.txt', *TINY, '--out', out)
        assert 'file' in line
