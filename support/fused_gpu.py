"""What a window computes on a GPU in kernels of its own: LSTM layers and softmax."""

from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy
from chainer.backends import cuda

from support.fused_layer import Layer


class GPULayer(Layer):
    """The same on a GPU: all steps in one kernel if it can, as a launch takes as long as a step.

    Weights and gates are in Chainer's order: gz and the mask are (T, B, n, 4).
    """

    gates = [slice(None)]
    by_gate = staticmethod(lambda array: array)

    def __init__(self, new, T, mask, c, h, *weights):
        super().__init__(new, T, mask, c, h, *weights)
        self.gz, self.gz_x = (a.reshape(T, *h.shape, 4) for a in (self.gz, self.gz_x))
        self.mask = self.gz_x if mask is not None else None

    def forward(self, steps, projected):
        from_x = self.from_x(steps, projected)
        T, B, n, _ = from_x.shape
        W = self.W_h.reshape(n, 4, n).transpose(2, 0, 1).copy()
        h_T = cuda.cupy.zeros((2, n, -(-B // 4) * 4), 'f')  # h of the last step and of this one
        h_T[0, :, :B] = self.hs[0].T
        launch('forward', T, n, B, W, from_x, h_T, self.gz, self.cs, self.tanh_cs, self.hs)

    def backward(self, steps, from_above):
        T, B, n = from_above.shape
        W = self.W_h.reshape(n, 4, n).transpose(0, 2, 1).copy()
        gz_T = cuda.cupy.zeros((2, n, 4, -(-B // 4), 4), 'f')  # gz, likewise
        from_above[-1] += self.gh
        launch('backward', T, n, B, W, from_above, gz_T, self.cs, self.tanh_cs, self.gc, self.gz)
        cuda.cupy.dot(self.gz[0].reshape(B, 4 * n), self.W_h, out=self.gh)
        if self.mask is not None:
            self.gz_x *= self.gz


def softmax(logits, b, t, B, losses, hits):
    """Adds b to logits (rows, n_vocab), then replaces them by the gradients of the loss / B.

    losses, hits: (rows,) float64, nats and 1 where the likeliest word is t (rows,), else 0.
    """
    rows, n_vocab = logits.shape
    args = numpy.int32(n_vocab), numpy.float32(1 / B), b, t, logits, losses, hits
    kernel('softmax', False)((rows,), (32, WARPS), args)


def launch(name, T, n, B, *arrays):
    """All T steps of a kernel below: at once if its blocks can wait for each other."""
    blocks, most = -(-n * -(-B // 4) // 32), at_a_time(name)
    arrived = cuda.cupy.zeros(1, 'u4')
    for begin, end in [(0, T)] if most else [(t, t + 1) for t in range(T)]:
        args = (*map(numpy.int32, (begin, end, T, n, B)), *arrays, arrived)
        kernel(name, most > 0)((min(blocks, most or blocks),), (32, WARPS), args)


@cuda.memoize(for_each_device=True)
def at_a_time(name):
    """How many blocks of a kernel this GPU runs at the same time; 0: they cannot wait."""
    attributes = cuda.Device().attributes
    if not attributes['CooperativeLaunch']:
        return 0
    resident = cuda.cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
        kernel(name, True).kernel.ptr, 32 * WARPS, 0
    )
    return resident * attributes['MultiProcessorCount']


def kernel(name, together):
    """One of the kernels below; together: whether its blocks wait for each other."""
    return cuda.raw(KERNELS, name, (f'-DWARPS={WARPS}',), enable_cooperative_groups=together)


WARPS = 16  # of a block
# forward and backward do steps begin to end - 1 of T, counted on their way. A block works on 32
# pairs of a unit and four streams at a time; each of its warps adds up every WARPS-th k. W is (k,
# unit, gate). h_T (unit, stream) and gz_T (unit, stream % 4, stream / 4, gate) hold the last step's
# and this one's; all blocks read them.
KERNELS = r"""
struct __align__(16) Four { float of[4]; };

// Waits until all blocks have done so many steps.
__device__ void wait_for_all(unsigned* arrived, unsigned steps) {
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (atomicAdd(arrived, 0u) < steps * gridDim.x) {}
        __threadfence();
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) forward(
        int begin, int end, int T, int n, int B, const Four* __restrict__ W,
        const Four* __restrict__ from_x, Four* h_T, Four* gates, float* c, float* tanh_c, float* h,
        unsigned* arrived) {
    __shared__ float sums[WARPS][4][4][32];
    const int lane = threadIdx.x, warp = threadIdx.y, quads = (B + 3) / 4;
    for (int t = begin; t < end; ++t) {
        if (t > begin)
            wait_for_all(arrived, t);
        for (int first = blockIdx.x * 32; first < n * quads; first += gridDim.x * 32) {
            const int j = (first + lane) / quads, quad = (first + lane) % quads;
            const Four* of_h = h_T + t % 2 * n * quads + quad;
            float sum[4][4] = {};
            if (j < n)
                #pragma unroll 4
                for (int k = warp; k < n; k += WARPS) {
                    const Four x = of_h[k * quads], w = W[k * n + j];
                    for (int s = 0; s < 4; ++s)
                        for (int g = 0; g < 4; ++g)
                            sum[s][g] += x.of[s] * w.of[g];
                }
            for (int s = 0; s < 4; ++s)
                for (int g = 0; g < 4; ++g)
                    sums[warp][s][g][lane] = sum[s][g];
            __syncthreads();
            const int s = quad * 4 + warp;
            if (warp < 4 && j < n && s < B) {
                const size_t i = ((size_t)t * B + s) * n + j;
                Four z = from_x[i];
                for (int g = 0; g < 4; ++g) {
                    for (int w = 0; w < WARPS; ++w)
                        z.of[g] += sums[w][warp][g][lane];
                    z.of[g] = g ? 1 / (1 + exp(-z.of[g])) : tanh(z.of[g]);
                }
                gates[i] = z;
                c[i + B * n] = z.of[0] * z.of[1] + z.of[2] * c[i];
                tanh_c[i] = tanh(c[i + B * n]);
                h[i + B * n] = z.of[3] * tanh_c[i];
                h_T[((t + 1) % 2 * n + j) * quads + quad].of[warp] = h[i + B * n];
            }
            __syncthreads();
        }
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) backward(
        int begin, int end, int T, int n, int B, const Four* __restrict__ W,
        const float* __restrict__ from_above, Four* gz_T, const float* c, const float* tanh_c,
        float* gc, Four* gates, unsigned* arrived) {
    __shared__ float sums[WARPS][4][32];
    const int lane = threadIdx.x, warp = threadIdx.y, quads = (B + 3) / 4;
    for (int step = begin; step < end; ++step) {
        const int t = T - 1 - step;
        if (step > begin)
            wait_for_all(arrived, step);
        for (int first = blockIdx.x * 32; first < n * quads; first += gridDim.x * 32) {
            const int j = (first + lane) / quads, quad = (first + lane) % quads;
            const Four* of_gz = gz_T + (t + 1) % 2 * n * 4 * quads + quad;
            float sum[4] = {};
            if (j < n)
                #pragma unroll 4
                for (int k = warp; k < n; k += WARPS) {
                    const Four w = W[k * n + j];
                    for (int s = 0; s < 4; ++s) {
                        const Four x = of_gz[(k * 4 + s) * quads];
                        for (int g = 0; g < 4; ++g)
                            sum[s] += x.of[g] * w.of[g];
                    }
                }
            for (int s = 0; s < 4; ++s)
                sums[warp][s][lane] = sum[s];
            __syncthreads();
            const int s = quad * 4 + warp;
            if (warp < 4 && j < n && s < B) {
                const size_t i = ((size_t)t * B + s) * n + j;
                const float a = gates[i].of[0], in = gates[i].of[1], f = gates[i].of[2];
                const float o = gates[i].of[3];
                float gh = from_above[i];
                for (int w = 0; w < WARPS; ++w)
                    gh += sums[w][warp][lane];
                const float g = gc[s * n + j] + gh * o * (1 - tanh_c[i] * tanh_c[i]);
                gc[s * n + j] = g * f;
                const Four gz = {
                    g * in * (1 - a * a), g * a * in * (1 - in), g * c[i] * f * (1 - f),
                    gh * tanh_c[i] * o * (1 - o)
                };
                gates[i] = gz_T[((t % 2 * n + j) * 4 + warp) * quads + quad] = gz;
            }
            __syncthreads();
        }
    }
}

// A block is for a row.
extern "C" __global__ void __launch_bounds__(32 * WARPS) softmax(
        int n_vocab, float scale, const float* b, const int* t, float* logits, double* losses,
        double* hits) {
    const int threads = 32 * WARPS, thread = threadIdx.y * 32 + threadIdx.x, of_t = t[blockIdx.x];
    __shared__ float values[32 * WARPS];
    __shared__ int words[32 * WARPS];
    float* z = logits + (size_t)blockIdx.x * n_vocab;
    float best = __int_as_float(0xff800000), sum = 0;  // minus infinity
    int word = 0;
    for (int j = thread; j < n_vocab; j += threads) {
        z[j] += b[j];
        if (z[j] > best) {
            best = z[j];
            word = j;
        }
    }
    values[thread] = best;
    words[thread] = word;
    __syncthreads();
    for (int half = threads / 2; half; half /= 2) {
        const int other = thread + half;
        if (thread < half && (values[other] > values[thread]
                || values[other] == values[thread] && words[other] < words[thread])) {
            values[thread] = values[other];
            words[thread] = words[other];
        }
        __syncthreads();
    }
    best = values[0];
    const float z_t = z[of_t] - best;
    __syncthreads();
    for (int j = thread; j < n_vocab; j += threads)
        sum += z[j] = exp(z[j] - best);
    values[thread] = sum;
    __syncthreads();
    for (int half = threads / 2; half; half /= 2) {
        if (thread < half)
            values[thread] += values[thread + half];
        __syncthreads();
    }
    for (int j = thread; j < n_vocab; j += threads)
        z[j] = (z[j] / values[0] - (j == of_t)) * scale;
    if (thread == 0) {
        losses[blockIdx.x] = log(values[0]) - z_t;
        hits[blockIdx.x] = words[0] == of_t;
    }
}
"""
