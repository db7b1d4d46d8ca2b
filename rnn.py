"""The network of the article: an embedding, two LSTM layers, a softmax.

    x (B,) ids ► l0 ► l1_x ─dropout─► + ► LSTM 1 ► l2_x ─dropout─► + ► LSTM 2 ► l3 ► (B, n_vocab)
                          l1_h(h1) ───┘                  l2_h(h2) ───┘

As in the article, dropout sits on the output of the projections l1_x and
l2_x, 4 * n_units wide, and never on the way from one step to the next
(Zaremba et al. 2014, https://arxiv.org/abs/1409.2329). With more layers or
fewer there are l1_x to lN_h, and the output link has the number N + 1.

A whole program in the manner of Karpathy's "y = rnn.step(x)":

    rnn = RNN(n_vocab=7000, n_units=256)
    x = [42]
    for _ in range(10):
        y = rnn.step(x)
        x = y.argmax(axis=1)
"""

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import backend

CELLS = {
    'lstm': 4,
    'gru': 3,
    'rnn': 1,
}  # what a layer is made of, and how many times n_units wide its projections are
DROPOUT_OF = ('projections', 'inputs')  # places of dropout, see RNN.forward


class RNN(chainer.Chain):
    """Language model of stacked recurrent layers, for one time step at a time.

    n_vocab (int) is the number of different words, n_units (int) the width of
    the embedding and of all layers, n_layers (int) their number, cell one of
    CELLS. Initial values are Chainer's defaults.

    `state` is a dict of the Variables h1 to hN and, of LSTMs, c1 to cN, each
    (B, n_units) float32 on the model's device, or None before the first step.
    """

    def __init__(self, n_vocab, n_units, n_layers=2, cell='lstm'):
        super().__init__()
        self.n_units, self.n_layers, self.cell = n_units, n_layers, cell
        self.state = None
        width = CELLS[cell] * n_units
        with self.init_scope():
            self.l0 = L.EmbedID(n_vocab, n_units)
            for k in range(1, n_layers + 1):
                setattr(self, f'l{k}_x', L.Linear(n_units, width))
                setattr(self, f'l{k}_h', L.Linear(n_units, width))
            setattr(self, f'l{n_layers + 1}', L.Linear(n_units, n_vocab))

    @property
    def layers(self):
        """[('1', l1_x, l1_h), ...]: the number of each layer, as in `state`, and its links."""
        return [(str(k), self[f'l{k}_x'], self[f'l{k}_h']) for k in range(1, self.n_layers + 1)]

    @property
    def output(self):
        """The last link, l3 of two layers."""
        return self[f'l{self.n_layers + 1}']

    def initialize_state(self, batchsize=50):
        """Forgets everything read so far: `batchsize` rows of zeros."""
        with chainer.using_device(self.device):
            self.state = {
                name + k: chainer.Variable(self.xp.zeros((batchsize, self.n_units), 'f'))
                for k, _, _ in self.layers
                for name in ('ch' if self.cell == 'lstm' else 'h')
            }

    def forward(self, x, t=None, dropout_ratio=0.5, dropout_of='projections'):
        """Reads one word in each row, moves the state on, predicts the next one.

        x: (B,) int32 ids; t: (B,) int32 ids of the words that really follow.
        With t: (loss, accuracy), two float32 scalars, the mean over the B rows
        of softmax cross entropy (nats) and of "the likeliest word is t".
        Without t: (softmax (B, n_vocab) Variable, logits (B, n_vocab) array).
        dropout_ratio: the share left out, 0 or more, below 1, only while chainer.config.train is
        True; dropout_of: 'projections', what lk_x makes of its inputs, (B, width), or 'inputs',
        those of the layers and of the output, (B, n_units), as in Zaremba et al. ValueError for any
        other ratio or place.
        """
        check_dropout(dropout_ratio, dropout_of)

        def dropout(what, array):
            return F.dropout(array, dropout_ratio) if what == dropout_of else array

        if self.state is None:
            self.initialize_state(len(x))
        state, h = {}, dropout('inputs', self.l0(x))
        for k, l_x, l_h in self.layers:
            before = self.state['h' + k]
            from_below, from_before = dropout('projections', l_x(h)), l_h(before)
            if self.cell == 'lstm':
                state['c' + k], h = F.lstm(self.state['c' + k], from_below + from_before)
            elif self.cell == 'gru':
                h = gru(before, from_below, from_before)
            else:
                h = F.tanh(from_below + from_before)
            state['h' + k], h = h, dropout('inputs', h)
        y = self.output(h)
        self.state = state
        if t is None:
            return F.softmax(y), y.array
        return F.softmax_cross_entropy(y, t), F.accuracy(y, t)

    def step(self, x):
        """Reads one word in each row and returns the logits of the next one.

        x: (B,) integer ids, a list or an array. Returns (B, n_vocab) float32,
        an array on the model's device. No dropout, and no graph is built.
        ValueError if the state has another number of rows.
        """
        if self.state is None:
            self.initialize_state(len(x))
        xp, state = self.xp, {name: variable.array for name, variable in self.state.items()}
        if len(x) != len(state['h1']):
            raise ValueError(f'{len(x)} words for a state of {len(state["h1"])} rows')
        with chainer.using_device(self.device):
            if self.cell != 'lstm':
                with chainer.no_backprop_mode(), chainer.using_config('train', False):
                    return self.forward(xp.asarray(x, 'i'))[1]
            h = self.l0.W.array[xp.asarray(x)]
            for k, l_x, l_h in self.layers:
                gates = (
                    h @ l_x.W.array.T + state['h' + k] @ l_h.W.array.T + (l_x.b.array + l_h.b.array)
                )
                # in Chainer's order: a (what i lets into c), i, f, o of unit 0, then of unit 1
                a, i, f, o = gates.reshape(len(h), -1, 4).transpose(2, 0, 1)
                state['c' + k] = sigmoid(f) * state['c' + k] + sigmoid(i) * xp.tanh(a)
                state['h' + k] = h = sigmoid(o) * xp.tanh(state['c' + k])
            self.state = {name: chainer.Variable(array) for name, array in state.items()}
            return h @ self.output.W.array.T + self.output.b.array

    def device_resident_accept(self, visitor):
        """Lets the state move with the weights (to_device, to_gpu, to_cpu)."""
        super().device_resident_accept(visitor)
        for variable in (self.state or {}).values():
            visitor.visit_variable(variable)


def check_dropout(ratio, of):
    """ValueError if RNN.forward cannot take this dropout_ratio and dropout_of."""
    if not 0 <= ratio < 1:
        raise ValueError(f'dropout_ratio {ratio}: it should be 0 or more, below 1')
    if of not in DROPOUT_OF:
        raise ValueError(f'dropout_of {of!r}: it should be in {DROPOUT_OF}')


def gru(h, from_below, from_before):
    """The next h (B, n) of a GRU (Cho et al. 2014, https://arxiv.org/abs/1406.1078).

    The projections are (B, 3n): reset gate r, update gate z, candidate. As in cuDNN and
    F.n_step_gru, r acts on what the candidate's projection makes of h, not on h.
    """
    r, z, new = F.split_axis(from_below, 3, axis=1)
    r_h, z_h, new_h = F.split_axis(from_before, 3, axis=1)
    r, z = F.sigmoid(r + r_h), F.sigmoid(z + z_h)
    return (1 - z) * F.tanh(new + r * new_h) + z * h


def sigmoid(x):
    return backend.get_array_module(x).tanh(x * 0.5) * 0.5 + 0.5
