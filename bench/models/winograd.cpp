// Convolutions of 3 x 3 taps, stride 1 and padding 1 by Winograd's algorithm F(4 x 4, 3 x 3) in float32 (Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", CVPR 2016): 36 products make 16 outputs, where the sum over taps
// takes 144. A tile of 4 x 4 outputs reads 6 x 6 inputs:
//
//     Y = A^T [ (G g G^T) . (B^T d B) ] A        d: 6 x 6 inputs, g: 3 x 3 weights, Y: 4 x 4 outputs.
//
// The interpolation points are 0, 2/3, -2/3, 3/2, -3/2 and infinity: with the usual 1 and 2 the powers in A grow to 8, and
// rounding errors to 2.5 times as much. The products of all tiles and channels at one of the 36 places are a matrix
// product. The gradient of the weights is the transpose of the same formula, G^T [ (B^T d B) . (A dY A^T) ] G; that of the
// input is a convolution of dY with the weights turned round.
//
// Blocks of tiles go through all three stages while they lie in the cache: nothing but images and weights is read from
// memory. Images are dense in channels-last order, and numbers of channels are multiples of LANES.

#include <algorithm>
#include <cstdint>

namespace {

constexpr int64_t TILES = 36;  // in a block; a multiple of ROWS
// Between the 36 places of a block, so that the same tile and channel of all of them do not fall on one set of the cache.
constexpr int64_t GAP = 16;
constexpr int64_t SLAB = 32;  // output channels that are computed at once
constexpr int64_t LINE = 16;  // floats of a cache line

typedef float Lanes8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Lanes16 __attribute__((vector_size(64), aligned(4), may_alias));
template <class V> constexpr int64_t lanes = sizeof(V) / sizeof(float);

#define INLINE inline __attribute__((always_inline))

template <class V> INLINE V load(const float* from) { return *reinterpret_cast<const V*>(from); }
template <class V> INLINE void store(float* to, V value) { *reinterpret_cast<V*>(to) = value; }

// The matrices, one column or row at a time; `from` and `to` are steps between its elements. Sums and differences serve
// a pair of points each.

constexpr float A1 = 2 / 3.f, A2 = 4 / 9.f, A3 = 8 / 27.f, B1 = 3 / 2.f, B2 = 9 / 4.f, B3 = 27 / 8.f;  // powers of points
constexpr float SQUARES = A2 + B2;
constexpr float AT_A = -81 / 130.f, AT_B = 8 / 65.f;  // 1 / (2 a^2 (a^2 - b^2)), 1 / (2 b^2 (b^2 - a^2))

// What three of them end with: the values at 0 and infinity, and of the even and odd parts at the two pairs of points
template <class V> INLINE void spread(V zero, V even1, V odd1, V even2, V odd2, V infinity, V* out, int to) {
    out[0] = zero;
    out[to] = even1 + odd1;
    out[2 * to] = even1 - odd1;
    out[3 * to] = even2 + odd2;
    out[4 * to] = even2 - odd2;
    out[5 * to] = infinity;
}

// d -> B^T d, six to six, in place
template <class V> INLINE void input_transform(V* d, int step) {
    const V d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    const V even1 = d4 - B2 * d2, odd1 = A1 * d3 - B1 * d1, even2 = d4 - A2 * d2, odd2 = B1 * d3 - A1 * d1;
    spread(d0 - SQUARES * d2 + d4, even1, odd1, even2, odd2, d1 - SQUARES * d3 + d5, d, step);
}

// m -> A^T m, six to four
template <class V> INLINE void output_transform(const V* m, int from, V* y, int to) {
    const V sum1 = m[from] + m[2 * from], difference1 = m[from] - m[2 * from];
    const V sum2 = m[3 * from] + m[4 * from], difference2 = m[3 * from] - m[4 * from];
    y[0] = m[0] + sum1 + sum2;
    y[to] = A1 * difference1 + B1 * difference2;
    y[2 * to] = A2 * sum1 + B2 * sum2;
    y[3 * to] = A3 * difference1 + B3 * difference2 + m[5 * from];
}

// y -> A y, four to six
template <class V> INLINE void gradient_transform(const V* y, int from, V* m, int to) {
    const V even1 = y[0] + A2 * y[2 * from], odd1 = A1 * y[from] + A3 * y[3 * from];
    const V even2 = y[0] + B2 * y[2 * from], odd2 = B1 * y[from] + B3 * y[3 * from];
    spread(y[0], even1, odd1, even2, odd2, y[3 * from], m, to);
}

// g -> G g, three to six
template <class V> INLINE void weight_transform(const V* g, int from, V* u, int to) {
    const V even1 = AT_A * g[0] + AT_A * A2 * g[2 * from], odd1 = AT_A * A1 * g[from];
    const V even2 = AT_B * g[0] + AT_B * B2 * g[2 * from], odd2 = AT_B * B1 * g[from];
    spread(g[0], even1, odd1, even2, odd2, g[2 * from], u, to);
}

// u -> G^T u, six to three
template <class V> INLINE void weight_gradient_transform(const V* u, int from, V* g, int to) {
    const V sum1 = u[from] + u[2 * from], difference1 = u[from] - u[2 * from];
    const V sum2 = u[3 * from] + u[4 * from], difference2 = u[3 * from] - u[4 * from];
    g[0] = u[0] + AT_A * sum1 + AT_B * sum2;
    g[to] = AT_A * A1 * difference1 + AT_B * B1 * difference2;
    g[2 * to] = AT_A * A2 * sum1 + AT_B * B2 * sum2 + u[5 * from];
}

// Matrix products in registers ----------------------------------------------------------------------------------------

#ifdef __AVX512VL__
constexpr int ROWS = 12, WEIGHT_ROWS = 8;  // 32 vector registers
#else
constexpr int ROWS = 6, WEIGHT_ROWS = 4;  // 16
#endif

// out[r][k] = sum over c of left[r][c] right[c][k] for R rows and N vectors of columns
template <class V, int R, int N>
INLINE void product_block(const float* left, int64_t left_step, const float* right, int64_t right_step, float* out,
                          int64_t out_step, int64_t inner) {
    V sums[R][N] = {};
    for (int64_t c = 0; c < inner; c++) {
        V columns[N];
        for (int n = 0; n < N; n++) columns[n] = load<V>(right + c * right_step + n * lanes<V>);
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) sums[r][n] += left[r * left_step + c] * columns[n];
    }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) store<V>(out + r * out_step + n * lanes<V>, sums[r][n]);
}

template <class V, int N>
INLINE void product_rows(const float* left, int64_t left_step, const float* right, int64_t right_step, float* out,
                         int64_t out_step, int64_t rows, int64_t inner) {
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        product_block<V, ROWS, N>(left + r * left_step, left_step, right, right_step, out + r * out_step, out_step, inner);
    for (; r + 4 <= rows; r += 4)
        product_block<V, 4, N>(left + r * left_step, left_step, right, right_step, out + r * out_step, out_step, inner);
    for (; r < rows; r++)
        product_block<V, 1, N>(left + r * left_step, left_step, right, right_step, out + r * out_step, out_step, inner);
}

// out [rows, columns] = left [rows, inner] right [inner, columns]
template <class V>
INLINE void product(const float* left, int64_t left_step, const float* right, int64_t right_step, float* out,
                    int64_t out_step, int64_t rows, int64_t inner, int64_t columns) {
    int64_t k = 0;
    for (; k + 2 * lanes<V> <= columns; k += 2 * lanes<V>)
        product_rows<V, 2>(left, left_step, right + k, right_step, out + k, out_step, rows, inner);
    if (k < columns) product_rows<V, 1>(left, left_step, right + k, right_step, out + k, out_step, rows, inner);
}

// sums[c][k] += sum over t of left[t][c] right[t][k] for R rows and N vectors of columns
template <class V, int R, int N>
INLINE void outer_block(const float* left, int64_t left_step, const float* right, int64_t right_step, float* out,
                        int64_t out_step, int64_t inner) {
    V sums[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) sums[r][n] = load<V>(out + r * out_step + n * lanes<V>);
    for (int64_t t = 0; t < inner; t++) {
        V columns[N];
        for (int n = 0; n < N; n++) columns[n] = load<V>(right + t * right_step + n * lanes<V>);
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) sums[r][n] += left[t * left_step + r] * columns[n];
    }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) store<V>(out + r * out_step + n * lanes<V>, sums[r][n]);
}

// out [rows, columns] += left^T [rows, inner] right [inner, columns]
template <class V>
INLINE void add_outer(const float* left, const float* right, float* out, int64_t rows, int64_t inner, int64_t columns) {
    for (int64_t c = 0; c < rows; c += WEIGHT_ROWS) {
        int64_t k = 0;
        for (; k + 2 * lanes<V> <= columns; k += 2 * lanes<V>)
            outer_block<V, WEIGHT_ROWS, 2>(left + c, rows, right + k, columns, out + c * columns + k, columns, inner);
        if (k < columns)
            outer_block<V, WEIGHT_ROWS, 1>(left + c, rows, right + k, columns, out + c * columns + k, columns, inner);
    }
}

// Tiles ---------------------------------------------------------------------------------------------------------------

struct Images {
    int64_t count, height, width;

    int64_t down() const { return (height + 3) / 4; }
    int64_t across() const { return (width + 3) / 4; }
    int64_t tiles() const { return count * down() * across(); }
};

struct Tile {
    int64_t image, y, x;  // of its first output

    Tile(const Images& images, int64_t number) {
        const int64_t row = number / images.across();
        image = row / images.down();
        y = row % images.down() * 4;
        x = number % images.across() * 4;
    }
};

INLINE int64_t place_step(int64_t tiles, int64_t channels) { return tiles * channels + GAP; }

// B^T d B of a block's tiles: to [36][tiles][channels]
template <class V>
void transform_inputs(const float* images, const Images& size, int64_t channels, int64_t first, int64_t tiles, float* to) {
    const int64_t row = size.width * channels, step = place_step(tiles, channels);
    for (int64_t i = 0; i < tiles; i++) {
        const Tile tile(size, first + i);
        const int64_t top = tile.y - 1, left = tile.x - 1;
        const float* image = images + tile.image * size.height * row;
        const bool inside = top >= 0 && left >= 0 && top + 6 <= size.height && left + 6 <= size.width;
        // The next tile's new pixels: rows lie too far apart for the processor to foresee them.
        const float* next = image + tile.y * row + (left + 6) * channels;
        for (int64_t a = 0; a < 6; a++)
            for (int64_t c = 0; c < 4 * channels; c += LINE) __builtin_prefetch(next + a * row + c);
        for (int64_t c = 0; c < channels; c += lanes<V>) {
            V d[36];
            const float* pixels = image + top * row + left * channels + c;
            if (inside) {
                for (int a = 0; a < 6; a++)
                    for (int b = 0; b < 6; b++) d[6 * a + b] = load<V>(pixels + a * row + b * channels);
            } else {
                for (int a = 0; a < 6; a++)
                    for (int b = 0; b < 6; b++) {
                        const bool there = top + a >= 0 && top + a < size.height && left + b >= 0 && left + b < size.width;
                        d[6 * a + b] = there ? load<V>(pixels + a * row + b * channels) : V{};
                    }
            }
            for (int b = 0; b < 6; b++) input_transform(d + b, 6);
            for (int a = 0; a < 6; a++) input_transform(d + 6 * a, 1);
            float* out = to + i * channels + c;
            for (int p = 0; p < 36; p++) store<V>(out + p * step, d[p]);
        }
    }
}

// A dY A^T of a block's tiles: to [36][tiles][channels]
template <class V>
void transform_gradients(const float* gradient, const Images& size, int64_t channels, int64_t first, int64_t tiles,
                         float* to) {
    const int64_t row = size.width * channels, step = place_step(tiles, channels);
    for (int64_t i = 0; i < tiles; i++) {
        const Tile tile(size, first + i);
        const float* corner = gradient + (tile.image * size.height + tile.y) * row + tile.x * channels;
        for (int64_t a = 0; a < 4; a++)
            for (int64_t c = 0; c < 4 * channels; c += LINE) __builtin_prefetch(corner + a * row + 4 * channels + c);
        for (int64_t c = 0; c < channels; c += lanes<V>) {
            V y[16], half[24], m[36];
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < 4; b++) {
                    const bool there = tile.y + a < size.height && tile.x + b < size.width;
                    y[4 * a + b] = there ? load<V>(corner + a * row + b * channels + c) : V{};
                }
            for (int b = 0; b < 4; b++) gradient_transform(y + b, 4, half + b, 4);
            for (int a = 0; a < 6; a++) gradient_transform(half + 4 * a, 1, m + 6 * a, 1);
            float* out = to + i * channels + c;
            for (int p = 0; p < 36; p++) store<V>(out + p * step, m[p]);
        }
    }
}

// A^T m A plus the bias, for `slab` of the output's channels: from [36][tiles][slab]
template <class V>
void transform_outputs(const float* from, const Images& size, int64_t channels, int64_t slab, int64_t first,
                       int64_t tiles, const float* bias, float* output) {
    const int64_t row = size.width * channels, step = place_step(tiles, slab);
    for (int64_t i = 0; i < tiles; i++) {
        const Tile tile(size, first + i);
        float* corner = output + (tile.image * size.height + tile.y) * row + tile.x * channels;
        for (int64_t a = 0; a < 4; a++)
            for (int64_t b = 4; b < 8; b++)
                for (int64_t k = 0; k < slab; k += LINE) __builtin_prefetch(corner + a * row + b * channels + k, 1);
        for (int64_t k = 0; k < slab; k += lanes<V>) {
            V m[36], half[24], y[16];
            const V shift = bias == nullptr ? V{} : load<V>(bias + k);
            for (int p = 0; p < 36; p++) m[p] = load<V>(from + p * step + i * slab + k);
            for (int b = 0; b < 6; b++) output_transform(m + b, 6, half + b, 6);
            for (int a = 0; a < 4; a++) output_transform(half + 6 * a, 1, y + 4 * a, 1);
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < 4; b++)
                    if (tile.y + a < size.height && tile.x + b < size.width)
                        store<V>(corner + a * row + b * channels + k, y[4 * a + b] + shift);
        }
    }
}

// Weights [outputs, inputs, 3, 3] by their steps; `turned` exchanges the two ends of both axes of taps.
struct Weights {
    int64_t inputs, outputs, output_step, input_step, y_step, x_step;
    bool turned;

    int64_t at(int64_t k, int64_t c, int i, int j) const {
        return k * output_step + c * input_step + (turned ? 2 - i : i) * y_step + (turned ? 2 - j : j) * x_step;
    }
};

// G g G^T: to [36][inputs][outputs]
template <class V> void transform_weights(const float* weights, const Weights& shape, int64_t c, float* to) {
    for (int64_t k = 0; k < shape.outputs; k += lanes<V>) {
        V g[9], half[18], u[36];
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                for (int64_t lane = 0; lane < lanes<V>; lane++) g[3 * i + j][lane] = weights[shape.at(k + lane, c, i, j)];
        for (int j = 0; j < 3; j++) weight_transform(g + j, 3, half + j, 3);
        for (int a = 0; a < 6; a++) weight_transform(half + 3 * a, 1, u + 6 * a, 1);
        for (int p = 0; p < 36; p++) store<V>(to + (p * shape.inputs + c) * shape.outputs + k, u[p]);
    }
}

// G^T u G of the threads' sums, [threads][36][inputs][outputs]
template <class V>
void transform_weight_gradients(const float* sums, int threads, const Weights& shape, int64_t c, float* gradient) {
    const int64_t size = 36 * shape.inputs * shape.outputs;
    for (int64_t k = 0; k < shape.outputs; k += lanes<V>) {
        V u[36], half[18], g[9];
        for (int p = 0; p < 36; p++) {
            const float* part = sums + (p * shape.inputs + c) * shape.outputs + k;
            u[p] = load<V>(part);
            for (int thread = 1; thread < threads; thread++) u[p] += load<V>(part + thread * size);
        }
        for (int b = 0; b < 6; b++) weight_gradient_transform(u + b, 6, half + b, 6);
        for (int i = 0; i < 3; i++) weight_gradient_transform(half + 6 * i, 1, g + 3 * i, 1);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                for (int64_t lane = 0; lane < lanes<V>; lane++)
                    gradient[shape.at(k + lane, c, i, j)] = g[3 * i + j][lane];
    }
}

int64_t slab_of(int64_t outputs) { return outputs % SLAB == 0 ? SLAB : outputs % 16 == 0 ? 16 : 8; }

template <class V>
void forward(const float* input, const float* weights, const Weights& shape, const float* bias, float* output,
             float* space, const Images& size, int threads) {
    const int64_t blocks = (size.tiles() + TILES - 1) / TILES, slab = slab_of(shape.outputs);
    float* transformed = space;
    float* inputs = transformed + 36 * shape.inputs * shape.outputs;
    const int64_t share = 36 * (place_step(TILES, shape.inputs) + place_step(TILES, slab));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < shape.inputs; c++) transform_weights<V>(weights, shape, c, transformed);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int thread = 0; thread < threads; thread++) {
        float* from = inputs + thread * share;
        float* products = from + 36 * place_step(TILES, shape.inputs);
        for (int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; block++) {
            const int64_t first = block * TILES, tiles = std::min(TILES, size.tiles() - first);
            transform_inputs<V>(input, size, shape.inputs, first, tiles, from);
            for (int64_t k = 0; k < shape.outputs; k += slab) {
                for (int64_t p = 0; p < 36; p++)
                    product<V>(from + p * place_step(tiles, shape.inputs), shape.inputs,
                               transformed + p * shape.inputs * shape.outputs + k, shape.outputs,
                               products + p * place_step(tiles, slab), slab, tiles, shape.inputs, slab);
                transform_outputs<V>(products, size, shape.outputs, slab, first, tiles, bias == nullptr ? bias : bias + k,
                                     output + k);
            }
        }
    }
}

template <class V>
void weight_gradient(const float* input, const float* gradient, const Weights& shape, float* out, float* space,
                     const Images& size, int threads) {
    const int64_t blocks = (size.tiles() + TILES - 1) / TILES, all = 36 * shape.inputs * shape.outputs;
    const int64_t share = 36 * (place_step(TILES, shape.inputs) + place_step(TILES, shape.outputs));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int thread = 0; thread < threads; thread++) {
        float* sums = space + thread * all;
        float* inputs = space + threads * all + thread * share;
        float* gradients = inputs + 36 * place_step(TILES, shape.inputs);
        std::fill(sums, sums + all, 0.f);
        for (int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; block++) {
            const int64_t first = block * TILES, tiles = std::min(TILES, size.tiles() - first);
            transform_inputs<V>(input, size, shape.inputs, first, tiles, inputs);
            transform_gradients<V>(gradient, size, shape.outputs, first, tiles, gradients);
            for (int64_t p = 0; p < 36; p++)
                add_outer<V>(inputs + p * place_step(tiles, shape.inputs), gradients + p * place_step(tiles, shape.outputs),
                             sums + p * shape.inputs * shape.outputs, shape.inputs, tiles, shape.outputs);
        }
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < shape.inputs; c++) transform_weight_gradients<V>(space, threads, shape, c, out);
}

Weights described(const int64_t* steps, int64_t inputs, int64_t outputs, bool turned) {
    return {inputs, outputs, steps[0], steps[1], steps[2], steps[3], turned};
}

bool wide(int64_t inputs, int64_t outputs) {
#ifdef __AVX512F__
    return inputs % 16 == 0 && outputs % 16 == 0;
#else
    return false;
#endif
}

}  // namespace

// `steps`: of the weights' four axes [outputs, inputs, 3, 3], in floats. `space`: as many floats as the function of that
// name says, for either call.
extern "C" {

int64_t winograd_space(int64_t inputs, int64_t outputs, int threads) {
    const int64_t weights = 36 * inputs * outputs;
    return threads * (weights + 36 * (place_step(TILES, inputs) + place_step(TILES, std::max(outputs, SLAB))));
}

void winograd_forward(const float* input, const float* weights, const int64_t* steps, int turned, const float* bias,
                      float* output, float* space, int64_t count, int64_t height, int64_t width, int64_t inputs,
                      int64_t outputs, int threads) {
    const Weights shape = described(steps, inputs, outputs, turned);
    const Images size{count, height, width};
    (wide(inputs, outputs) ? forward<Lanes16> : forward<Lanes8>)(input, weights, shape, bias, output, space, size, threads);
}

void winograd_weight_gradient(const float* input, const float* gradient, const int64_t* steps, float* out, float* space,
                              int64_t count, int64_t height, int64_t width, int64_t inputs, int64_t outputs, int threads) {
    const Weights shape = described(steps, inputs, outputs, false);
    const Images size{count, height, width};
    (wide(inputs, outputs) ? weight_gradient<Lanes16> : weight_gradient<Lanes8>)(input, gradient, shape, out, space, size,
                                                                              threads);
}

}
