"""notebook.ipynb, from a clean kernel: its text, its music, its pictures."""

import json
import pathlib
import shutil
import signal
import sys

import pytest

import generate
import train
from conftest import TINY

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / 'notebook.ipynb'


def test_it_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    code = [cell for cell in cells if cell['cell_type'] == 'code']
    assert code and all(not cell['outputs'] and cell['execution_count'] is None for cell in code)


def surroundings():
    """What a command could leave changed behind it."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return sys.stdout, sys.stderr, handlers


def test_commands_can_be_called_again(small_text):
    before = surroundings()
    for _ in range(2):
        assert train.main(['--corpus', 'small.txt', *TINY]) == 0
        assert generate.main(['--length', '5']) == 0
        with pytest.raises(SystemExit):
            train.main(['--epoch', 'many'])
        assert surroundings() == before
    assert (
        small_text.parent / 'result/small/old-1/last.npz'
    ).exists()  # the first one's lock is free


@pytest.mark.slow
def test_it_runs(tmp_path):
    """Five epochs instead of forty; its first cell, which installs, is left out."""
    nbclient = pytest.importorskip('nbclient')
    nbformat = pytest.importorskip('nbformat')
    folder = tmp_path / 'project'
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns('.*', 'result', '__pycache__'))
    text = NOTEBOOK.read_text(encoding='utf-8')
    assert text.count("EPOCHS = '40'") == 1
    notebook = nbformat.reads(text.replace("EPOCHS = '40'", "EPOCHS = '5'"), as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id != 'install']
    nbclient.NotebookClient(notebook, resources={'metadata': {'path': folder}}).execute()

    outputs = {cell.id: cell.get('outputs', []) for cell in notebook.cells}
    written = ''.join(output.get('text', '') for output in outputs['write'])
    assert 'ホームズ' in written
    for cell, kind in (('loss', 'image/png'), ('see', 'image/png'), ('hear', 'text/html')):
        assert kind in outputs[cell][0]['data']
    assert (folder / 'result/piece.mid').read_bytes()[:4] == b'MThd'
    for output in outputs['text'] + outputs['music']:
        assert output['output_type'] == 'stream'  # no "Out: 0", no error
