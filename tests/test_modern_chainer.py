"""The ground: an unchanged Chainer 7.8.1 imports and computes on today's Python."""

import json
import os
import pathlib
import subprocess
import sys

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import chainer.functions as F
import chainer.links as L
import numpy
import PIL.Image
import pytest
from chainer import training
from chainer.training import extensions

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / 'support'


def python(code, *options):
    return subprocess.run(
        [sys.executable, *options, '-c', code],
        cwd=SUPPORT,
        text=True,
        capture_output=True,
        encoding='utf-8',
    )


@pytest.mark.parametrize(
    'options',
    [
        pytest.param(['-W', 'error'], id='warnings are errors'),
        # nothing compiled before: the compiler's warnings count as well
        pytest.param(['-W', 'error', '-X', f'pycache_prefix={os.devnull}'], id='and no .pyc'),
    ],
)
def test_import_is_silent(options):
    done = python(
        'import modern_chainer, chainer, chainer.training.extensions;print(chainer.__version__)',
        *options,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('7.8.1\n', '', 0)


def test_import_after_chainer_says_so():
    done = python(
        'import sys, types; sys.modules["chainer"] = types.ModuleType("chainer");'
        'import modern_chainer'
    )
    assert done.returncode == 1
    assert 'ImportError: import modern_chainer before chainer' in done.stderr


# What old programs use most of Chainer, each once. Its own tests are not part of its package.

RANDOM = numpy.random.RandomState(0)
IMAGE = RANDOM.uniform(-1, 1, (2, 3, 5, 5))
ROWS = RANDOM.uniform(-1, 1, (4, 3))
IDS = numpy.array([0, 2, 1, 2], 'i')

FUNCTIONS = {  # of arrays whose gradients are checked
    'relu': (F.relu, ROWS),
    'leaky_relu': (F.leaky_relu, ROWS),
    'elu': (F.elu, ROWS),
    'sigmoid': (F.sigmoid, ROWS),
    'tanh': (F.tanh, ROWS),
    'softplus': (F.softplus, ROWS),
    'softmax': (F.softmax, ROWS),
    'log_softmax': (F.log_softmax, ROWS),
    'maxout': (lambda x: F.maxout(x, 3), ROWS),
    'softmax_cross_entropy': (lambda x: F.softmax_cross_entropy(x, IDS), ROWS),
    'sigmoid_cross_entropy': (lambda x: F.sigmoid_cross_entropy(x, ROWS.astype('i')), ROWS),
    'mean_squared_error': (F.mean_squared_error, ROWS, ROWS[::-1].copy()),
    'mean_absolute_error': (F.mean_absolute_error, ROWS, ROWS + 1),
    'huber_loss': (lambda x: F.huber_loss(x, ROWS + 0.3, 1, reduce='no'), ROWS),
    'hinge': (lambda x: F.hinge(x, IDS), ROWS),
    'contrastive': (lambda x: F.contrastive(x, ROWS[::-1].copy(), IDS % 2), ROWS),
    'connectionist_temporal_classification': (
        lambda x: F.connectionist_temporal_classification([x, x, x], IDS[1:3, None], 0),
        ROWS[:2],
    ),
    'lstm': (lambda c, x: F.lstm(c, x)[1], ROWS, numpy.tile(ROWS, 4)),
    'linear': (F.linear, ROWS, ROWS[:2] * 2),
    'embed_id': (lambda w: F.embed_id(IDS, w), ROWS),
    'convolution_2d': (F.convolution_2d, IMAGE, IMAGE[:, :, :3, :3] * 2),
    'deconvolution_2d': (F.deconvolution_2d, IMAGE[:1, :2], IMAGE[:, :, :2, :2] * 2),
    'dilated_convolution_2d': (
        lambda x, w: F.dilated_convolution_2d(x, w, dilate=2),
        IMAGE,
        IMAGE[:, :, :2, :2] * 2,
    ),
    'max_pooling_2d': (lambda x: F.max_pooling_2d(x, 2), IMAGE),
    'average_pooling_2d': (lambda x: F.average_pooling_2d(x, 2), IMAGE),
    'spatial_pyramid_pooling_2d': (lambda x: F.spatial_pyramid_pooling_2d(x, 2, 'max'), IMAGE),
    'unpooling_2d': (lambda x: F.unpooling_2d(x, 2), IMAGE),
    'local_response_normalization': (F.local_response_normalization, IMAGE),
    'batch_normalization': (F.batch_normalization, ROWS, ROWS[0] + 2, ROWS[1]),
    'layer_normalization': (F.layer_normalization, ROWS, ROWS[0] + 2, ROWS[1]),
    'normalize': (F.normalize, ROWS),
    'as_strided': (lambda x: F.as_strided(x, (2, 3), (1, 1), 1), ROWS.ravel()),
    'depth2space': (lambda x: F.depth2space(x, 2), IMAGE[:1, [0, 1, 2, 0]]),
    'im2col': (lambda x: F.im2col(x, 2), IMAGE),
    'spatial_transformer_sampler': (
        lambda x: F.spatial_transformer_sampler(x, IMAGE[:, :2] * 0.9),
        IMAGE,
    ),
    'concat': (lambda *xs: F.concat(xs), ROWS, ROWS + 1),
    'stack': (lambda *xs: F.stack(xs), ROWS, ROWS + 1),
    'split_axis': (lambda x: F.split_axis(x, 2, 0)[1], ROWS),
    'reshape': (lambda x: F.reshape(x, (3, 4)), ROWS),
    'transpose': (F.transpose, ROWS),
    'swapaxes': (lambda x: F.swapaxes(x, 0, 1), ROWS),
    'rollaxis': (lambda x: F.rollaxis(x, 2), IMAGE),
    'expand_dims': (lambda x: F.expand_dims(x, 1), ROWS),
    'squeeze': (F.squeeze, ROWS[:1]),
    'broadcast_to': (lambda x: F.broadcast_to(x, (2, 4, 3)), ROWS),
    'tile': (lambda x: F.tile(x, 2), ROWS),
    'pad': (lambda x: F.pad(x, 1, 'constant'), ROWS),
    'pad_sequence': (lambda *xs: F.pad_sequence(xs), ROWS[0], ROWS[1, :2]),
    'get_item': (lambda x: F.get_item(x, (slice(1, 3), [0, 2])), ROWS),
    'select_item': (lambda x: F.select_item(x, IDS), ROWS),
    'where': (lambda x, y: F.where(ROWS > 0, x, y), ROWS, ROWS + 1),
    'clip': (lambda x: F.clip(x, -0.5, 0.5), ROWS),
    'sum': (lambda x: F.sum(x, axis=1), ROWS),
    'mean': (F.mean, ROWS),
    'max': (lambda x: F.max(x, axis=1), ROWS),
    'logsumexp': (F.logsumexp, ROWS),
    'exp': (F.exp, ROWS),
    'log': (F.log, ROWS + 2),
    'sqrt': (F.sqrt, ROWS + 2),
    'matmul': (F.matmul, ROWS, ROWS.T.copy()),
    'batch_matmul': (F.matmul, IMAGE, IMAGE + 1),
    'einsum': (lambda x, y: F.einsum('ij,kj->ik', x, y), ROWS, ROWS + 1),
    'inv': (F.inv, ROWS[:3] + 2 * numpy.eye(3)),
    'gaussian_kl_divergence': (F.gaussian_kl_divergence, ROWS, ROWS + 1),
}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_functions(name):
    """Backward is the slope of forward, in a direction drawn at random (float64)."""
    function, *arrays = FUNCTIONS[name]
    random = numpy.random.RandomState(1)
    directions = [random.uniform(-1, 1, array.shape) for array in arrays]
    weights = random.uniform(-1, 1, function(*arrays).shape)

    def loss(step):
        variables = [chainer.Variable(x + step * d) for x, d in zip(arrays, directions)]
        return F.sum(function(*variables) * weights), variables

    y, variables = loss(0)
    y.backward()
    slope = (loss(1e-4)[0].array - loss(-1e-4)[0].array) / 2e-4
    found = sum((x.grad * d).sum() for x, d in zip(variables, directions))
    assert found == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_resize_images():
    """The corners stay, what lies between is interpolated, and the gradient goes back."""
    x = chainer.Variable(numpy.array([[[[0, 2]]]], 'f'))
    y = F.resize_images(x, (2, 3))
    F.sum(y).backward()
    assert y.array.tolist() == [[[[0, 1, 2], [0, 1, 2]]]] and x.grad.tolist() == [[[[3, 3]]]]


SEQUENCES = [ROWS.astype('f'), ROWS[:2].astype('f')]
LINKS = {
    'Linear': (lambda: L.Linear(None, 2), ROWS),
    'Bilinear': (lambda: L.Bilinear(3, 3, 2), ROWS, ROWS),
    'EmbedID': (lambda: L.EmbedID(3, 2), IDS),
    'Convolution2D': (lambda: L.Convolution2D(None, 2, 3, pad=1), IMAGE),
    'ConvolutionND': (lambda: L.ConvolutionND(2, 3, 2, 3), IMAGE),
    'DepthwiseConvolution2D': (lambda: L.DepthwiseConvolution2D(3, 2, 3), IMAGE),
    'Deconvolution2D': (lambda: L.Deconvolution2D(3, 2, 3, stride=2), IMAGE),
    'BatchNormalization': (lambda: L.BatchNormalization(3), IMAGE),
    'LayerNormalization': (lambda: L.LayerNormalization(), ROWS),
    'GroupNormalization': (lambda: L.GroupNormalization(3), IMAGE),
    'PReLU': (lambda: L.PReLU(), ROWS),
    'Maxout': (lambda: L.Maxout(3, 2, 2), ROWS),
    'Highway': (lambda: L.Highway(3), ROWS),
    'Inception': (lambda: L.Inception(3, 1, 1, 1, 1, 1, 1), IMAGE),
    'MLPConvolution2D': (lambda: L.MLPConvolution2D(3, (2, 2), 3), IMAGE),
    'LSTM': (lambda: L.LSTM(3, 2), ROWS),
    'StatelessLSTM': (lambda: L.StatelessLSTM(3, 3), ROWS, ROWS, ROWS),
    'StatefulPeepholeLSTM': (lambda: L.StatefulPeepholeLSTM(3, 2), ROWS),
    'StatefulGRU': (lambda: L.StatefulGRU(3, 2), ROWS),
    'NStepLSTM': (lambda: L.NStepLSTM(1, 3, 2, 0.0), None, None, SEQUENCES),
    'NStepBiGRU': (lambda: L.NStepBiGRU(1, 3, 2, 0.0), None, SEQUENCES),
    'Classifier': (lambda: L.Classifier(L.Linear(3, 3)), ROWS, IDS),
    'CRF1d': (lambda: L.CRF1d(3), 2 * [ROWS.astype('f')], 2 * [IDS]),
    'NegativeSampling': (lambda: L.NegativeSampling(3, [5, 3, 2], 2), ROWS, IDS),
    'Sequential': (lambda: chainer.Sequential(L.Linear(3, 4), F.relu, L.Linear(4, 2)), ROWS),
    'ChainList': (lambda: Both(L.Linear(3, 2), L.Linear(3, 2)), ROWS),
}


class Both(chainer.ChainList):
    def forward(self, x):
        return self[0](x) * self[1](x)


def outputs_of(y):
    """What a link returns as one Variable; of an NStepLSTM the sequences."""
    y = y[-1] if isinstance(y, tuple) else y
    return F.concat(y, axis=0) if isinstance(y, list) else y


@pytest.mark.parametrize('name', LINKS)
def test_links(name, tmp_path):
    """Every parameter gets a gradient, SGD follows it downhill, and a saved link is the same."""
    make, *inputs = LINKS[name]
    inputs = [chainer.Variable(x.astype('f')) if x is ROWS or x is IMAGE else x for x in inputs]
    numpy.random.seed(1)
    link = make()

    def loss():
        if hasattr(link, 'reset_state'):
            link.reset_state()
        numpy.random.seed(2)  # of NegativeSampling
        return F.mean((outputs_of(link(*inputs)) - 1) ** 2)

    before = loss()
    optimizer = chainer.optimizers.SGD(0.01).setup(link)
    for _ in range(3):
        optimizer.update(loss)
    assert float(loss().array) < float(before.array)
    assert all(param.grad is not None for param in link.params())

    chainer.serializers.save_npz(tmp_path / 'link.npz', link)
    copy = make()
    if name in ('Linear', 'Convolution2D', 'LayerNormalization'):
        copy(*inputs)  # its size comes from the first input
    chainer.serializers.load_npz(tmp_path / 'link.npz', copy)
    saved = {name: param.array for name, param in link.namedparams()}
    assert all((param.array == saved[name]).all() for name, param in copy.namedparams())


@pytest.mark.parametrize(
    'name', [name for name, kind in vars(chainer.optimizers).items() if isinstance(kind, type)]
)
def test_optimizers(name):
    """A line through points is found; hooks are called."""
    x = ROWS.astype('f')
    t = x @ numpy.array([[1], [-2], [0.5]], 'f') + 1
    numpy.random.seed(0)
    link = L.Linear(3, 1)
    optimizer = getattr(chainer.optimizers, name)().setup(link)
    optimizer.add_hook(chainer.optimizer_hooks.GradientClipping(5))
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-6))
    losses = []
    for _ in range(30):
        optimizer.update(lambda: F.mean_squared_error(link(x), t))
        losses.append(float(F.mean_squared_error(link(x), t).array))
    assert losses[-1] < losses[0]


ITEMS = chainer.datasets.TupleDataset(ROWS.astype('f'), IDS)


@pytest.mark.filterwarnings('ignore:setDaemon:DeprecationWarning')  # still there in Python 3.14
@pytest.mark.parametrize(
    'make',
    [
        chainer.iterators.SerialIterator,
        chainer.iterators.MultithreadIterator,
        lambda *args, **more: chainer.iterators.MultiprocessIterator(*args, n_processes=2, **more),
    ],
    ids=['serial', 'multithread', 'multiprocess'],
)
def test_iterators(make):
    with make(ITEMS, 3, repeat=False, shuffle=True) as iterator:
        batches = list(iterator)
    assert [len(batch) for batch in batches] == [3, 1]
    found = sorted(x.tolist() for batch in batches for x, _ in batch)
    assert found == sorted(ROWS.astype('f').tolist())


def test_datasets(tmp_path):
    from chainer import datasets

    numbers = numpy.arange(10)
    head, tail = datasets.split_dataset_random(numbers, 7, seed=0)
    assert sorted([*head[:], *tail[:]]) == [*range(10)]
    folds = datasets.get_cross_validation_datasets(numbers, 5)
    assert sorted(x for _, held_out in folds for x in held_out[:]) == [*range(10)]
    both = datasets.ConcatenatedDataset(head, tail)
    assert len(datasets.TransformDataset(both, lambda x: x * 2)) == 10
    assert datasets.TransformDataset(numbers, lambda x: x * 2)[3] == 6
    assert datasets.DictDataset(x=numbers, y=-numbers)[2] == {'x': 2, 'y': -2}
    PIL.Image.new('RGB', (4, 2), (255, 0, 9)).save(tmp_path / 'a.png')
    images = datasets.LabeledImageDataset([('a.png', 7)], str(tmp_path))
    image, label = images[0]
    assert image.shape == (3, 2, 4) and image[:, 0, 0].tolist() == [255, 0, 9] and label == 7
    x, t = chainer.dataset.concat_examples([(ROWS[0], 1), (ROWS[1], 2)])
    assert (x == ROWS[:2]).all() and t.tolist() == [1, 2]


def trainer_of(out, epochs):
    """A chainer.training.Trainer with the extensions of Chainer's own examples, and its model."""
    numpy.random.seed(0)
    model = L.Classifier(L.Linear(3, 3))
    optimizer = chainer.optimizers.MomentumSGD(0.1).setup(model)
    batches = chainer.iterators.SerialIterator(ITEMS, 2, shuffle=False)
    updater = training.StandardUpdater(batches, optimizer)
    trainer = training.Trainer(updater, (epochs, 'epoch'), out=out)
    once = chainer.iterators.SerialIterator(ITEMS, 2, repeat=False, shuffle=False)
    for extension in (
        extensions.Evaluator(once, model),
        extensions.DumpGraph('main/loss'),
        extensions.observe_lr(),
        extensions.FailOnNonNumber(),
        extensions.ParameterStatistics(model),
        extensions.LogReport(),
        extensions.PlotReport(['main/loss', 'validation/main/loss'], 'epoch', filename='loss.png'),
        extensions.PrintReport(['epoch', 'main/loss', 'validation/main/accuracy']),
        extensions.ProgressBar(update_interval=1),
    ):
        trainer.extend(extension)
    trainer.extend(extensions.ExponentialShift('lr', 0.5), trigger=(1, 'epoch'))
    best = training.triggers.MinValueTrigger('validation/main/loss')
    trainer.extend(extensions.snapshot_object(model, 'best'), trigger=best)
    trainer.extend(extensions.snapshot(filename='snapshot_{.updater.epoch}'))
    return trainer, model


def test_training(tmp_path, capsys):
    """A Trainer with its extensions; one that goes on from a snapshot ends the same."""
    trainer, model = trainer_of(tmp_path / 'whole', 4)
    trainer.run()
    names = {path.name for path in (tmp_path / 'whole').iterdir()}
    assert names >= {'best', 'cg.dot', 'log', 'loss.png', 'snapshot_4'}
    log = json.loads((tmp_path / 'whole' / 'log').read_text(encoding='utf-8'))
    assert [entry['epoch'] for entry in log] == [1, 2, 3, 4]
    assert [entry['lr'] for entry in log] == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    assert log[3]['validation/main/loss'] < log[0]['validation/main/loss']
    assert capsys.readouterr().out.count('epochs') >= 8

    again, other = trainer_of(tmp_path / 'again', 4)
    chainer.serializers.load_npz(tmp_path / 'whole' / 'snapshot_2', again)
    again.run()
    for param, same in zip(model.params(), other.params()):
        numpy.testing.assert_array_equal(param.array, same.array)
