// The chain of `mlp_resnet`, forward and backward in training mode and forward alone in evaluation mode, one network at a
// time.
//
// A network of the spiral experiments makes some ten million multiplications a step, in two hundred small products.
// Taken through from end to end on its own, what is needed next stays in the caches nearest to the core, and neither a
// product nor a batch norm has to be dispatched.
//
// Activations are rows, one feature over the batch, padded to a multiple of two vectors. Pads hold zeros wherever a sum
// over the batch goes over them.

#include "vectors.h"

#include <utility>
#include <vector>

constexpr int STEP = 2 * LANES;
constexpr int ROWS = 5;  // of a tile: widths are multiples of it, and its sums fit the registers

struct Sizes {
    int depth, width, features, classes, batch;
    int first;  // depth from which the head is applied
};

static int padded(int batch) { return (batch + STEP - 1) / STEP * STEP; }

// Products. A matrix m (rows x inner) is read as m[i * row + k * column], so that its transpose is one too.

struct Matrix {
    const Real* values;
    int row, column;
};

template <int N>
static inline void product_tile(Matrix m, int i, const Real* a, int inner, Real* out, int stride, const Real* bias) {
    for (int n = 0; n < stride; n += STEP) {
        Vec total[N][2];
        for (int r = 0; r < N; r++)
            for (int half = 0; half < 2; half++)
                total[r][half] = bias ? bias[i + r] + Vec{} : at(out + (i + r) * stride + n + half * LANES);
        for (int k = 0; k < inner; k++) {
            Vec a0 = at(a + k * stride + n), a1 = at(a + k * stride + n + LANES);
            for (int r = 0; r < N; r++) {
                Real x = m.values[(i + r) * m.row + k * m.column];
                total[r][0] += x * a0;
                total[r][1] += x * a1;
            }
        }
        for (int r = 0; r < N; r++)
            for (int half = 0; half < 2; half++) at(out + (i + r) * stride + n + half * LANES) = total[r][half];
    }
}

// out (rows x stride) = bias + m a, or out += m a without a bias; a is (inner x stride).
static void product(Matrix m, int rows, const Real* a, int inner, Real* out, int stride, const Real* bias) {
    int i = 0;
    for (; i + ROWS <= rows; i += ROWS) product_tile<ROWS>(m, i, a, inner, out, stride, bias);
    for (; i + 2 <= rows; i += 2) product_tile<2>(m, i, a, inner, out, stride, bias);
    for (; i < rows; i++) product_tile<1>(m, i, a, inner, out, stride, bias);
}

// Sums over the batch.

struct Sum {  // in two parts, so that one addition need not wait for the other
    Vec parts[2] = {};
    void add(int half, Vec v) { parts[half] += v; }
    Real total() const { return sum(parts[0] + parts[1]); }
};

template <int N, int M>
static inline void outer_tile(const Real* a, const Real* b, int stride, Real* out, int row, int column) {
    Vec total[N][M] = {};
    for (int n = 0; n < stride; n += LANES)
        for (int r = 0; r < N; r++)
            for (int c = 0; c < M; c++) total[r][c] += at(a + r * stride + n) * at(b + c * stride + n);
    for (int r = 0; r < N; r++)
        for (int c = 0; c < M; c++) out[r * row + c * column] += sum(total[r][c]);
}

template <int N>
static void outer_rows(const Real* a, const Real* b, int columns, int stride, Real* out, int row, int column) {
    int j = 0;
    for (; j + 2 <= columns; j += 2) outer_tile<N, 2>(a, b + j * stride, stride, out + j * column, row, column);
    for (; j < columns; j++) outer_tile<N, 1>(a, b + j * stride, stride, out + j * column, row, column);
}

// out += a b^T, over the batch: a (rows x stride), b (columns x stride), element (i, j) at out[i * row + j * column].
static void outer(const Real* a, int rows, const Real* b, int columns, int stride, Real* out, int row, int column) {
    int i = 0;
    for (; i + ROWS <= rows; i += ROWS)
        outer_rows<ROWS>(a + i * stride, b, columns, stride, out + i * row, row, column);
    for (; i < rows; i++) outer_rows<1>(a + i * stride, b, columns, stride, out + i * row, row, column);
}

static void add_row_sums(const Real* a, int rows, int stride, Real* out) {
    for (int i = 0; i < rows; i++) {
        Sum total;
        for (int n = 0; n < stride; n += STEP)
            for (int half = 0; half < 2; half++) total.add(half, at(a + i * stride + n + half * LANES));
        out[i] += total.total();
    }
}

// What a network has, in the order of its flat parameters, or of their gradient.
struct Parts {
    Real *stem, *stem_bias, *blocks, *head, *head_bias;
    long long w;  // wide networks have more parameters than an int counts

    Parts(const Sizes& s, Real* p) : w(s.width) {
        stem = p;
        stem_bias = stem + w * s.features;
        blocks = stem_bias + w;
        head = blocks + s.depth * w * (w + 3);
        head_bias = head + s.classes * w;
    }
    static long long size(const Sizes& s) {
        const long long w = s.width;
        return w * (s.features + 1) + w * s.depth * (w + 3) + s.classes * (w + 1);
    }
    Real* weight(int i) const { return blocks + i * w * (w + 3); }
    Real* bias(int i) const { return weight(i) + w * w; }
    Real* scale(int i) const { return bias(i) + w; }
    Real* shift(int i) const { return scale(i) + w; }
};

// What is kept of a network for the way back: its input, all activations, what the batch norms saw.
struct Kept {
    Real *x, *inputs, *hidden, *residuals;
    long long size, of_head;

    Kept(const Sizes& s, Real* kept) : size(padded(s.batch)), of_head(size * s.classes) {
        size *= s.width;
        x = kept;
        inputs = x + s.features * padded(s.batch);
        hidden = inputs + (s.depth + 1) * size;
        residuals = hidden + s.depth * size;
    }
    Real* input(int i) const { return inputs + i * size; }
    Real* of_norm(int i) const { return hidden + i * size; }
    Real* residual(int i) const { return residuals + i * of_head; }  // of the i-th depth that has a head
};

// Logits (C x stride) become the gradient of each point's log-likelihood; returned is the mean of these. y has labels.
static Real likelihood(const Sizes& s, Real* logits, const long long* y) {
    const int stride = padded(s.batch), together = 64;
    double total = 0, product = 1;  // of sums over classes, so that not each needs a logarithm
    for (int first = 0; first < stride; first += LANES) {
        const int last = std::min(first + LANES, s.batch);
        Vec largest = at(logits + first), sums = {};
        for (int c = 1; c < s.classes; c++) {
            Vec v = at(logits + c * stride + first);
            largest = v > largest ? v : largest;
        }
        for (int n = first; n < last; n++) total += logits[y[n] * stride + n] - largest[n - first];
        for (int c = 0; c < s.classes; c++) {
            Vec& v = at(logits + c * stride + first);
            sums += v = exponential(v - largest);
        }
        for (int c = 0; c < s.classes; c++) at(logits + c * stride + first) /= -sums;
        for (int n = first; n < last; n++) {
            logits[y[n] * stride + n] += 1;
            product *= sums[n - first];
            if (n % together == 0) total -= std::log(std::exchange(product, 1));
        }
    }
    for (int c = 0; c < s.classes; c++) std::fill(logits + c * stride + s.batch, logits + (c + 1) * stride, Real(0));
    return (total - std::log(product)) / s.batch;
}

// The batch norms measure their moments, or are told them.
static void forward(const Sizes& s, const Parts& p, const Kept& kept, const Real* x, const long long* y,
                    Real* out, int next_depth, Real* moments, bool measured, Real eps) {
    const int w = s.width, stride = padded(s.batch);
    for (int f = 0; f < s.features; f++)
        for (int n = 0; n < stride; n++) kept.x[f * stride + n] = n < s.batch ? x[n * s.features + f] : Real(0);
    product({p.stem, s.features, 1}, w, kept.x, s.features, kept.input(0), stride, p.stem_bias);
    for (int i = 0; i <= s.depth; i++) {
        const Real* a = kept.input(i);
        if (i >= s.first) {
            Real* logits = kept.residual(i - s.first);
            product({p.head, w, 1}, s.classes, a, w, logits, stride, p.head_bias);
            Real* of_depth = out + (i - s.first) * next_depth;
            if (y)
                *of_depth = likelihood(s, logits, y);
            else
                for (int c = 0; c < s.classes; c++)
                    std::copy_n(logits + c * stride, s.batch, of_depth + c * s.batch);
        }
        if (i == s.depth) break;
        Real *hidden = kept.of_norm(i), *mean = moments + i * 2 * w, *variance = mean + w, *out = kept.input(i + 1);
        product({p.weight(i), w, 1}, w, a, w, hidden, stride, p.bias(i));
        for (int j = 0; j < w; j++) {
            Real* h = hidden + j * stride;
            Sum total, squares;
            std::fill(h + s.batch, h + stride, Real(0));
            for (int n = 0; n < stride; n += STEP)
                for (int half = 0; half < 2; half++) {
                    Vec& v = at(h + n + half * LANES);
                    v = v < 0 ? Vec{} : v;  // keeps what is not a number
                    total.add(half, v);
                }
            if (measured) {
                mean[j] = total.total() / s.batch;
                std::fill(h + s.batch, h + stride, mean[j]);
                for (int n = 0; n < stride; n += STEP)
                    for (int half = 0; half < 2; half++) {
                        Vec centred = at(h + n + half * LANES) - mean[j];
                        squares.add(half, centred * centred);
                    }
                variance[j] = squares.total() / s.batch;
                std::fill(h + s.batch, h + stride, Real(0));
            }
            Real gain = p.scale(i)[j] / std::sqrt(variance[j] + eps), shift = p.shift(i)[j];
            for (int n = 0; n < stride; n += LANES)
                at(out + j * stride + n) = at(a + j * stride + n) + shift + (at(h + n) - mean[j]) * gain;
        }
    }
}

static void backward(const Sizes& s, const Parts& p, const Kept& kept, bool scored, const Real* given, int next_depth,
                     const Real* moments, Real eps, const Parts& g, Real* scratch) {
    const int w = s.width, stride = padded(s.batch), size = w * stride;
    Real *grad = scratch, *d_linear = grad + size, *d_head = d_linear + size;
    std::fill(grad, grad + size, Real(0));
    for (int i = s.depth; i >= 0; i--) {
        if (i < s.depth) {
            const Real *hidden = kept.of_norm(i), *mean = moments + i * 2 * w, *variance = mean + w;
            for (int j = 0; j < w; j++) {
                const Real *h = hidden + j * stride, *d = grad + j * stride;
                Real* out = d_linear + j * stride;
                Sum total, with_centred, d_bias;
                for (int n = 0; n < stride; n += STEP)
                    for (int half = 0; half < 2; half++) {
                        Vec v = at(h + n + half * LANES), d_v = at(d + n + half * LANES);
                        total.add(half, d_v);
                        with_centred.add(half, d_v * (v - mean[j]));
                    }
                Real inverse = 1 / std::sqrt(variance[j] + eps), gain = inverse * p.scale(i)[j];
                Real d_shift = total.total(), d_scale = with_centred.total() * inverse;
                Real offset = d_shift / s.batch, slope = d_scale * inverse / s.batch;
                for (int n = 0; n < stride; n += STEP)
                    for (int half = 0; half < 2; half++) {
                        Vec v = at(h + n + half * LANES), d_v = at(d + n + half * LANES);
                        d_v = v > 0 ? (d_v - offset - (v - mean[j]) * slope) * gain : Vec{};  // 0 where the pads are
                        at(out + n + half * LANES) = d_v;
                        d_bias.add(half, d_v);
                    }
                g.bias(i)[j] += d_bias.total();
                g.scale(i)[j] += d_scale;
                g.shift(i)[j] += d_shift;
            }
            outer(d_linear, w, kept.input(i), w, stride, g.weight(i), w, 1);
            product({p.weight(i), 1, w}, w, d_linear, w, grad, stride, nullptr);
        }
        if (i >= s.first) {
            const Real *of_depth = given + (i - s.first) * next_depth, *residual = kept.residual(i - s.first);
            for (int c = 0; c < s.classes; c++)
                for (int n = 0; n < stride; n++)
                    d_head[c * stride + n] = scored        ? residual[c * stride + n] * (*of_depth / s.batch)
                                             : n < s.batch ? of_depth[c * s.batch + n]
                                                           : 0;
            outer(kept.input(i), w, d_head, s.classes, stride, g.head, 1, w);
            add_row_sums(d_head, s.classes, stride, g.head_bias);
            product({p.head, 1, w}, w, d_head, s.classes, grad, stride, nullptr);
        }
    }
    outer(grad, w, kept.x, s.features, stride, g.stem, s.features, 1);
    add_row_sums(grad, w, stride, g.stem_bias);
}

// All tensors are contiguous, R networks in front: parameters and gradient (R, P), moments (R, D, 2, w).

extern "C" void count(const Sizes* s, long long* parameters, long long* kept) {
    const long long rows = s->features + (2LL * s->depth + 1) * s->width + (s->depth + 1LL - s->first) * s->classes;
    *parameters = Parts::size(*s);
    *kept = rows * padded(s->batch);
}

static size_t scratch_size(const Sizes& s) { return (2LL * s.width + s.classes) * padded(s.batch); }

// x (R, B, F) -> logits (S, R, C, B), and what `chain_backward` has to be told, kept.
extern "C" void chain_forward(const Sizes* s, int networks, double eps, Real* parameters, Real* moments, Real* kept,
                              const Real* x, Real* logits) {
    long long of_parameters, of_kept;
    count(s, &of_parameters, &of_kept);
    const int of_network = s->classes * s->batch;
    for (long r = 0; r < networks; r++)
        forward(*s, Parts(*s, parameters + r * of_parameters), Kept(*s, kept + r * of_kept),
                x + r * s->batch * s->features, nullptr, logits + r * of_network, networks * of_network,
                moments + r * s->depth * 2 * s->width, true, eps);
}

// The same with moments that are given; kept has room for one network.
extern "C" void chain_evaluate(const Sizes* s, int networks, double eps, Real* parameters, Real* moments, Real* kept,
                               const Real* x, Real* logits) {
    long long of_parameters, of_kept;
    count(s, &of_parameters, &of_kept);
    const int of_network = s->classes * s->batch;
    for (long r = 0; r < networks; r++)
        forward(*s, Parts(*s, parameters + r * of_parameters), Kept(*s, kept), x + r * s->batch * s->features, nullptr,
                logits + r * of_network, networks * of_network, moments + r * s->depth * 2 * s->width, false,
                eps);
}

// The gradient of the logits -> that of the parameters, which is added to.
extern "C" void chain_backward(const Sizes* s, int networks, double eps, Real* parameters, Real* moments, Real* kept,
                               const Real* given, Real* gradient) {
    long long of_parameters, of_kept;
    count(s, &of_parameters, &of_kept);
    const int of_network = s->classes * s->batch;
    std::vector<Real> scratch(scratch_size(*s));
    for (long r = 0; r < networks; r++)
        backward(*s, Parts(*s, parameters + r * of_parameters), Kept(*s, kept + r * of_kept), false,
                 given + r * of_network, networks * of_network, moments + r * s->depth * 2 * s->width, eps,
                 Parts(*s, gradient + r * of_parameters), scratch.data());
}

// x (R, B, F), y (R, B), slopes (S, R) -> log-likelihoods (S, R); the gradient of their sum, weighted by the slopes, is
// added to. One network goes there and back before the next, so that what it keeps, in the room of one, is still near.
extern "C" void chain_gradient(const Sizes* s, int networks, double eps, Real* parameters, Real* moments, Real* kept,
                               const Real* x, const long long* y, const Real* slopes, Real* out, Real* gradient) {
    long long of_parameters, of_kept;
    count(s, &of_parameters, &of_kept);
    std::vector<Real> scratch(scratch_size(*s));
    for (long r = 0; r < networks; r++) {
        const Parts p(*s, parameters + r * of_parameters);
        Real* of_network = moments + r * s->depth * 2 * s->width;
        forward(*s, p, Kept(*s, kept), x + r * s->batch * s->features, y + r * s->batch, out + r, networks, of_network, true,
                eps);
        backward(*s, p, Kept(*s, kept), true, slopes + r, networks, of_network, eps, Parts(*s, gradient + r * of_parameters),
                 scratch.data());
    }
}
