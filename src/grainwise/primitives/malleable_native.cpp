// The malleable convolution on a CPU, in the cell form, forward and backward.
//
// Between four kernel centres the blended kernel is k0 + f * (k1 - k0) along a row of pixels, where k0 and k1 are already
// blended down the column; so y = sum_t k0_t x_t + f * sum_t (k1_t - k0_t) x_t, and no kernel is ever stored per pixel.
//
// Memory is channels_last: x, y [B, H, W, C]; grid [B, gh, gw, P * K] with P planes (kernel taps, then the offset), K = C / group
// kernels, plane-major. Storage is float32 or bfloat16, arithmetic float32. A pixel's value does not depend on where it lies in
// the picture, other than through its place in its cell and the border: tiles that start at a cell equal the whole, bit for bit.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int LANES = 16;
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Half __attribute__((vector_size(2 * LANES)));

struct Shape {
    int64_t batch, channels, kernels, height, width, rows, columns, stride;
    bool offset;
    int64_t group() const { return channels / kernels; }
};

struct Lerp {
    int64_t low, high;
    float share;
};

// Which two of `count` centres a pixel lies between, and how far along; beyond the outer centres both are the outer one.
inline Lerp between(int64_t pixel, int64_t stride, int64_t count) {
    const int64_t twice = 2 * pixel + 1 - stride;
    const int64_t cell = twice < 0 ? -1 : twice / (2 * stride);
    const float share = float(twice - 2 * stride * cell) / float(2 * stride);
    return {std::clamp<int64_t>(cell, 0, count - 1), std::clamp<int64_t>(cell + 1, 0, count - 1), share};
}

inline int64_t cell_start(int64_t cell, int64_t stride) { return stride * cell + stride / 2; }

inline float wide(float v) { return v; }
inline float wide(uint16_t v) {
    const uint32_t bits = uint32_t(v) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

inline __attribute__((always_inline)) Lanes load(const float* from, int count) {
    Lanes out{};
    if (count == LANES) std::memcpy(&out, from, sizeof(out));
    else std::memcpy(&out, from, 4 * count);
    return out;
}

inline __attribute__((always_inline)) Lanes load(const uint16_t* from, int count) {
    Half half{};
    if (count == LANES) std::memcpy(&half, from, sizeof(half));
    else std::memcpy(&half, from, 2 * count);
    return (Lanes)(__builtin_convertvector(half, Bits) << 16);
}

inline __attribute__((always_inline)) void store(float* to, Lanes value, int count) {
    if (count == LANES) std::memcpy(to, &value, sizeof(value));
    else std::memcpy(to, &value, 4 * count);
}

// To the nearest bfloat16, ties to even; NaN stays NaN.
inline __attribute__((always_inline)) void store(uint16_t* to, Lanes value, int count) {
    const Bits bits = (Bits)value;
    const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Bits is_nan = (Bits)(value != value);
    const Half half = __builtin_convertvector((rounded & ~is_nan) | (0x7fc0u & is_nan), Half);
    if (count == LANES) std::memcpy(to, &half, sizeof(half));
    else std::memcpy(to, &half, 2 * count);
}

// Runs work(0) ... work(count - 1) on up to `threads` threads.
template <typename Work>
void spread(int64_t count, int threads, const Work& work) {
    std::atomic<int64_t> next{0};
    const auto run = [&] {
        for (int64_t task; (task = next++) < count;) work(task);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < std::min<int64_t>(threads, count); ++i) others.emplace_back(run);
    run();
    for (auto& other : others) other.join();
}

// The kernels of one grid column, blended between two grid rows, one value per channel: out [planes, channels].
template <typename V>
void blend_column(const V* low, const V* high, float share, int planes, int64_t kernels, int64_t group, float* out) {
    if (group == 1) {
        for (int64_t i = 0; i < planes * kernels; i += LANES) {
            const int lanes = int(std::min<int64_t>(LANES, planes * kernels - i));
            const Lanes a = load(low + i, lanes);
            store(out + i, a + share * (load(high + i, lanes) - a), lanes);
        }
        return;
    }
    for (int64_t i = 0; i < planes * kernels; ++i) {
        const float a = wide(low[i]);
        std::fill(out + i * group, out + (i + 1) * group, a + share * (wide(high[i]) - a));
    }
}

// How far the pixels of a cell lie from its left centre towards its right one.
struct Along {
    int64_t origin;
    float step;
    float operator()(int64_t pixel) const { return float(2 * pixel - origin) * step; }
};

// Walks the cells that a row of pixels crosses: visit(first pixel, end, left grid column, right grid column, shares).
template <typename Visit>
void each_cell(const Shape& s, const Visit& visit) {
    for (int64_t cell = s.stride > 1 ? -1 : 0; cell < s.columns; ++cell) {
        const int64_t first = std::max<int64_t>(0, cell_start(cell, s.stride));
        const int64_t end = std::min(s.width, cell_start(cell + 1, s.stride));
        const Along along{2 * s.stride * cell + s.stride - 1, 1.0f / float(2 * s.stride)};
        if (first < end) visit(first, end, std::max<int64_t>(0, cell), std::min(cell + 1, s.columns - 1), along);
    }
}

// COUNT neighbouring pixels of one cell, one block of channels; from[t] points at the input of tap t for the first of them.
template <typename V, int TAPS, int COUNT, bool WHOLE>
inline __attribute__((always_inline)) void block(const Shape& s, const V* const* from, const float* base, const float* slope,
                                                 const float* share, V* to, int64_t c) {
    const int64_t channels = s.channels;
    const int lanes = WHOLE ? LANES : int(channels - c);
    Lanes still[COUNT]{}, moving[COUNT]{};
    if (s.offset) {
        for (int p = 0; p < COUNT; ++p) {
            still[p] = load(base + TAPS * channels + c, lanes);
            moving[p] = load(slope + TAPS * channels + c, lanes);
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < TAPS; ++t) {
        const Lanes k = load(base + t * channels + c, lanes), d = load(slope + t * channels + c, lanes);
#pragma GCC unroll 4
        for (int p = 0; p < COUNT; ++p) {
            const Lanes x = load(from[t] + p * channels + c, lanes);
            still[p] += k * x;
            moving[p] += d * x;
        }
    }
    for (int p = 0; p < COUNT; ++p) store(to + p * channels + c, still[p] + share[p] * moving[p], lanes);
}

template <typename V, int TAPS, int COUNT>
inline void pixels(const Shape& s, const V* const* from, const float* base, const float* slope, const float* share, V* to) {
    int64_t c = 0;
    for (; c + LANES <= s.channels; c += LANES) block<V, TAPS, COUNT, true>(s, from, base, slope, share, to, c);
    if (c < s.channels) block<V, TAPS, COUNT, false>(s, from, base, slope, share, to, c);
}

// Where each tap of the pixel (y, x) reads; outside the picture it reads zeros.
template <typename V, int TAPS>
inline void tap_sources(const Shape& s, const V* picture, const V* zeros, int64_t y, int64_t x, const V** from) {
    constexpr int RADIUS = TAPS == 9 ? 1 : 0;
    for (int t = 0; t < TAPS; ++t) {
        const int64_t row = y - RADIUS + t / (2 * RADIUS + 1), column = x - RADIUS + t % (2 * RADIUS + 1);
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        from[t] = inside ? picture + (row * s.width + column) * s.channels : zeros;
    }
}

constexpr int TOGETHER = 4;

template <typename V, int TAPS>
void forward_row(const Shape& s, const V* x, const V* grid, const V* zeros, int64_t y, float* low, float* slope, V* out) {
    const int planes = TAPS + s.offset;
    const int64_t column_size = planes * s.kernels, n = planes * s.channels;
    const Lerp down = between(y, s.stride, s.rows);
    const V* top = grid + down.low * s.columns * column_size;
    const V* bottom = grid + down.high * s.columns * column_size;
    const V* from[TAPS];
    each_cell(s, [&](int64_t first, int64_t end, int64_t left, int64_t right, Along along) {
        const int64_t a = left * column_size, b = right * column_size;
        blend_column(top + a, bottom + a, down.share, planes, s.kernels, s.group(), low);
        blend_column(top + b, bottom + b, down.share, planes, s.kernels, s.group(), slope);
        for (int64_t i = 0; i < n; ++i) slope[i] -= low[i];
        for (int64_t p = first; p < end;) {
            float share[TOGETHER];
            tap_sources<V, TAPS>(s, x, zeros, y, p, from);
            const bool together = p > 0 && p + TOGETHER <= end && p + TOGETHER < s.width;
            const int count = together ? TOGETHER : 1;
            for (int i = 0; i < count; ++i) share[i] = along(p + i);
            if (together) pixels<V, TAPS, TOGETHER>(s, from, low, slope, share, out + p * s.channels);
            else pixels<V, TAPS, 1>(s, from, low, slope, share, out + p * s.channels);
            p += count;
        }
    });
}

template <typename V, int TAPS>
void forward(const Shape& s, const V* x, const V* grid, V* out, int threads) {
    const int64_t strip = 8, strips = (s.height + strip - 1) / strip;
    const int planes = TAPS + s.offset;
    const std::vector<V> zeros(TOGETHER * s.channels, V(0));
    spread(s.batch * strips, threads, [&](int64_t task) {
        const int64_t b = task / strips, first = task % strips * strip;
        std::vector<float> columns(2 * planes * s.channels);
        const V* picture = x + b * s.height * s.width * s.channels;
        const V* kernels = grid + b * s.rows * s.columns * planes * s.kernels;
        for (int64_t y = first; y < std::min(first + strip, s.height); ++y) {
            V* row = out + (b * s.height + y) * s.width * s.channels;
            forward_row<V, TAPS>(s, picture, kernels, zeros.data(), y, columns.data(),
                                 columns.data() + planes * s.channels, row);
        }
    });
}

// Gradients of one picture and one block of channels; `ring` holds three rows of the gradient of x, one column of border.
template <typename V, int TAPS, bool WHOLE>
struct Backward {
    static constexpr int RADIUS = TAPS == 9 ? 1 : 0, SIDE = 2 * RADIUS + 1;
    const Shape& s;
    const V *x, *grid, *dy, *zeros;
    V* dx;
    float* dgrid;
    int64_t channel;
    int part, planes;
    std::vector<Lanes> ring;

    Backward(const Shape& shape, const V* x, const V* grid, const V* dy, const V* zeros, V* dx, float* dgrid, int64_t channel)
        : s(shape), x(x), grid(grid), dy(dy), zeros(zeros), dx(dx), dgrid(dgrid), channel(channel),
          part(int(shape.channels - channel)), planes(TAPS + shape.offset), ring(3 * (shape.width + 2)) {}

    int lanes() const { return WHOLE ? LANES : part; }

    Lanes* ring_row(int64_t row) { return ring.data() + (row + 3) % 3 * (s.width + 2) + 1; }

    int64_t at(int64_t row, int64_t column, int plane) const {
        return ((row * s.columns + column) * planes + plane) * s.kernels;
    }

    Lanes kernel(const Lerp& down, int64_t column, int plane) const {
        const int64_t low = at(down.low, column, plane), high = at(down.high, column, plane);
        if (s.group() == 1) {
            const Lanes a = load(grid + low + channel, lanes());
            return a + down.share * (load(grid + high + channel, lanes()) - a);
        }
        Lanes out{};
        for (int i = 0; i < lanes(); ++i) {
            const int64_t k = (channel + i) / s.group();
            const float a = wide(grid[low + k]);
            out[i] = a + down.share * (wide(grid[high + k]) - a);
        }
        return out;
    }

    void add_to_grid(const Lerp& down, int64_t column, int plane, Lanes value) {
        float* low = dgrid + at(down.low, column, plane);
        float* high = dgrid + at(down.high, column, plane);
        if (s.group() == 1) {
            low += channel, high += channel;
            store(low, load(low, lanes()) + (1 - down.share) * value, lanes());
            store(high, load(high, lanes()) + down.share * value, lanes());
            return;
        }
        for (int i = 0; i < lanes(); ++i) {
            const int64_t k = (channel + i) / s.group();
            low[k] += (1 - down.share) * value[i];
            high[k] += down.share * value[i];
        }
    }

    void flush(int64_t row) {
        const Lanes* from = ring_row(row);
        V* to = dx + row * s.width * s.channels + channel;
        for (int64_t p = 0; p < s.width; ++p) store(to + p * s.channels, from[p], lanes());
    }

    void row(int64_t y) {
        const Lerp down = between(y, s.stride, s.rows);
        const V* gradient = dy + y * s.width * s.channels + channel;
        Lanes* to[SIDE];
        for (int i = 0; i < SIDE; ++i) to[i] = ring_row(y - RADIUS + i);
        each_cell(s, [&](int64_t first, int64_t end, int64_t left, int64_t right, Along along) {
            Lanes low[TAPS], slope[TAPS], sum[TAPS + 1]{}, moment[TAPS + 1]{};
            const V* from[TAPS];
            for (int t = 0; t < TAPS; ++t) {
                low[t] = kernel(down, left, t);
                slope[t] = kernel(down, right, t) - low[t];
            }
            for (int64_t p = first; p < end; ++p) {
                const float share = along(p);
                const Lanes g = load(gradient + p * s.channels, lanes());
                tap_sources<V, TAPS>(s, x, zeros, y, p, from);
#pragma GCC unroll 9
                for (int t = 0; t < TAPS; ++t) {
                    to[t / SIDE][p - RADIUS + t % SIDE] += (low[t] + share * slope[t]) * g;
                    const Lanes v = g * load(from[t] + channel, lanes());
                    sum[t] += v;
                    moment[t] += share * v;
                }
                sum[TAPS] += g;
                moment[TAPS] += share * g;
            }
            for (int plane = 0; plane < planes; ++plane) {
                add_to_grid(down, left, plane, sum[plane] - moment[plane]);
                add_to_grid(down, right, plane, moment[plane]);
            }
        });
    }

    void run() {
        for (int64_t y = 0; y < s.height; ++y) {
            Lanes* fresh = ring_row(y + RADIUS) - 1;
            std::fill(fresh, fresh + s.width + 2, Lanes{});
            row(y);
            if (y >= RADIUS) flush(y - RADIUS);
        }
        if (RADIUS > 0) flush(s.height - 1);
    }
};

template <typename V, int TAPS>
void backward(const Shape& s, const V* x, const V* grid, const V* dy, V* dx, float* dgrid, int threads) {
    int64_t share = LANES;  // channels of one task: whole blocks, and whole groups, so that no two tasks add to one kernel
    while (share % s.group() != 0) share += LANES;
    const int64_t tasks = (s.channels + share - 1) / share;
    const int64_t map = s.height * s.width * s.channels, kernels = s.rows * s.columns * (TAPS + s.offset) * s.kernels;
    const std::vector<V> zeros(s.channels, V(0));
    spread(s.batch * tasks, threads, [&](int64_t task) {
        const int64_t b = task / tasks, first = task % tasks * share;
        for (int64_t c = first; c < std::min(first + share, s.channels); c += LANES) {
            const V *from = x + b * map, *cells = grid + b * kernels, *slopes = dy + b * map;
            V* to = dx + b * map;
            float* sums = dgrid + b * kernels;
            if (c + LANES <= s.channels) Backward<V, TAPS, true>(s, from, cells, slopes, zeros.data(), to, sums, c).run();
            else Backward<V, TAPS, false>(s, from, cells, slopes, zeros.data(), to, sums, c).run();
        }
    });
}

Shape shape_of(const int64_t* n) { return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8] != 0}; }

}  // namespace

// `sizes`: batch, channels, kernels, height, width, grid rows, grid columns, stride, offset (0 or 1).
#define GRAINWISE_MALLEABLE(NAME, V)                                                                                        \
    extern "C" void malleable_forward_##NAME(const int64_t* sizes, int taps, const V* x, const V* grid, V* out, int threads) { \
        taps == 9 ? forward<V, 9>(shape_of(sizes), x, grid, out, threads)                                                   \
                  : forward<V, 1>(shape_of(sizes), x, grid, out, threads);                                                  \
    }                                                                                                                       \
    extern "C" void malleable_backward_##NAME(const int64_t* sizes, int taps, const V* x, const V* grid, const V* dy, V* dx, \
                                              float* dgrid, int threads) {                                                  \
        taps == 9 ? backward<V, 9>(shape_of(sizes), x, grid, dy, dx, dgrid, threads)                                        \
                  : backward<V, 1>(shape_of(sizes), x, grid, dy, dx, dgrid, threads);                                       \
    }

GRAINWISE_MALLEABLE(float32, float)
GRAINWISE_MALLEABLE(bfloat16, uint16_t)
