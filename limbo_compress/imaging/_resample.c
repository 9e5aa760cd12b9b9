/* From an 8-bit RGB image to its float16 row: color, both passes of the resampling, clipping and
   rounding in one pass, in the cache.

   resample.py says what is computed, and why in double. Its numpy code and that of color.py give
   the same bytes and run where this file could not be compiled. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define VECTOR_BYTES 32
#define FOR_VECTORS __attribute__((target("avx2,fma,f16c")))
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#define VECTOR_BYTES 16
#define FOR_VECTORS
#else
#error "not for this CPU: numpy resamples instead"
#endif

typedef double pair __attribute__((vector_size(16)));
typedef double vector __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));

enum {
    LANES = VECTOR_BYTES / sizeof(double),
    SUMS = 8, /* half of the registers; the summands pass through the other half */
    COLUMNS = SUMS * LANES,
    CHANNELS = 3,
    STEP = 4 * CHANNELS, /* doubles: whole pixels and whole vectors */
    ROWS = 4,            /* computed at once */
    BAND = 32,           /* outputs computed together: their strip and their rows stay in cache */
    HALVES = 8,          /* float16 values rounded at once */
    CACHE_LINE = 64,     /* bytes; unaligned buffers take a third more time */
};

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Each output is the sum of `taps` weights times the samples that begin at its start. */
typedef struct {
    Py_buffer starts_buffer, weights_buffer;
    const int64_t *starts;
    const double *weights;
    Py_ssize_t outputs, taps;
} axis;

FOR_VECTORS static inline vector multiply_add(vector a, vector b, vector sum)
{
#if defined(__x86_64__)
    return _mm256_fmadd_pd(a, b, sum);
#else
    return vfmaq_f64(sum, a, b);
#endif
}

/* Decode a strip of columns to linear light, row by row. Loading eight bytes and storing two
   results at a time is a third faster. */
static void look_up(const uint8_t *pixels, Py_ssize_t stride, Py_ssize_t height,
                    Py_ssize_t columns, const double *light, double *strip)
{
    for (Py_ssize_t y = 0; y < height; y++, pixels += stride, strip += COLUMNS) {
        Py_ssize_t x = 0;
        for (; x + 8 <= columns; x += 8) {
            uint64_t bytes;
            memcpy(&bytes, pixels + x, sizeof bytes);
            for (int k = 0; k < 8; k += 2, bytes >>= 16) {
                pair decoded = {light[bytes & 0xff], light[bytes >> 8 & 0xff]};
                memcpy(strip + x + k, &decoded, sizeof decoded);
            }
        }
        for (; x < columns; x++)
            strip[x] = light[pixels[x]];
    }
}

/* Compute outputs `first` to `last` - 1 for a strip of columns whose first sample is `low`. */
FOR_VECTORS static void resize_columns(const double *strip, Py_ssize_t low, const axis *vertical,
                                       Py_ssize_t first, Py_ssize_t last, double *rows,
                                       Py_ssize_t stride)
{
    const double *weights = vertical->weights + first * vertical->taps;
    for (Py_ssize_t o = first; o < last; o++, rows += stride) {
        const double *source = strip + (vertical->starts[o] - low) * COLUMNS;
        vector sums[SUMS] = {0};
        for (Py_ssize_t t = 0; t < vertical->taps; t++, source += COLUMNS, weights++) {
            vector weight = *weights - (vector){0}; /* in all lanes */
            for (int k = 0; k < SUMS; k++)
                sums[k] = multiply_add(weight, *(const vector *)(source + k * LANES), sums[k]);
        }
        memcpy(rows, sums, sizeof sums);
    }
}

/* Add up the four pixels of a step. The x86 code also overwrites the float after the pixel. */
FOR_VECTORS static inline void add_pixels(const vector sums[STEP / LANES], float *pixel)
{
#if defined(__x86_64__)
    __m256d first = sums[0], middle = sums[1], last = sums[2];
    __m256d second = _mm256_permute4x64_pd(_mm256_blend_pd(middle, first, 8), 0x93);
    __m256d third = _mm256_permute4x64_pd(_mm256_blend_pd(middle, last, 1), 0x4e);
    __m256d fourth = _mm256_permute4x64_pd(last, 0x39);
    _mm_storeu_ps(pixel, _mm256_cvtpd_ps((first + second) + (third + fourth)));
#else
    double sum[STEP];
    memcpy(sum, sums, sizeof sum);
    for (int c = 0; c < CHANNELS; c++)
        pixel[c] = (float)((sum[c] + sum[c + 3]) + (sum[c + 6] + sum[c + 9]));
#endif
}

/* Compute rows of pixels, with four partial sums per channel. One load of a weight serves all. */
FOR_VECTORS static void resize_rows(const double *const rows[ROWS], const axis *horizontal,
                                    float *lines, Py_ssize_t length)
{
    const double *weights = horizontal->weights;
    for (Py_ssize_t o = 0; o < horizontal->outputs; o++, lines += CHANNELS) {
        Py_ssize_t source = horizontal->starts[o] * CHANNELS;
        vector sums[ROWS][STEP / LANES] = {0};
        for (Py_ssize_t t = 0; t < horizontal->taps; t += STEP, source += STEP, weights += STEP)
            for (int k = 0; k < STEP; k += LANES)
                for (int r = 0; r < ROWS; r++)
                    sums[r][k / LANES] =
                        multiply_add(*(const vector *)(weights + k),
                                     *(const vector *)(rows[r] + source + k), sums[r][k / LANES]);
        for (int r = 0; r < ROWS; r++)
            add_pixels(sums[r], lines + r * length);
    }
}

/* Clip values, and round them to float16, to nearest even. */
FOR_VECTORS static void round_values(const float *values, Py_ssize_t count, float darkest,
                                     float lightest, uint16_t *halves)
{
    for (Py_ssize_t i = 0; i < count; i += HALVES) {
#if defined(__x86_64__)
        __m256 low = _mm256_set1_ps(darkest), high = _mm256_set1_ps(lightest);
        __m256 clipped = _mm256_min_ps(_mm256_max_ps(_mm256_loadu_ps(values + i), low), high);
        __m128i rounded = _mm256_cvtps_ph(clipped, _MM_FROUND_TO_NEAREST_INT);
#else
        __fp16 rounded[HALVES];
        for (int k = 0; k < HALVES; k++)
            rounded[k] = (__fp16)MIN(MAX(values[i + k], darkest), lightest);
#endif
        memcpy(halves + i, &rounded, sizeof rounded);
    }
}

/* Find the smallest and the largest value of an image. */
FOR_VECTORS static void find_range(const uint8_t *pixels, Py_ssize_t count, uint8_t range[2])
{
    uint8_t low = 255, high = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        low = MIN(low, pixels[i]);
        high = MAX(high, pixels[i]);
    }
    range[0] = low;
    range[1] = high;
}

/* Compute the whole row, or return 0 if memory runs out. */
static int make_row(const uint8_t *pixels, Py_ssize_t height, Py_ssize_t width,
                    const double *light, const axis *vertical, const axis *horizontal,
                    uint16_t *out)
{
    /* Room for the zeros that pad the weights to whole steps, see resample.py. */
    Py_ssize_t columns = width * CHANNELS, strips = (columns + STEP + COLUMNS - 1) / COLUMNS;
    Py_ssize_t stride = strips * COLUMNS, length = horizontal->outputs * CHANNELS;
    Py_ssize_t room = (length / HALVES + 1) * HALVES; /* and for the float after the last pixel */
    size_t strip_bytes = height * COLUMNS * sizeof(double);
    double *strip = aligned_alloc(CACHE_LINE, strip_bytes);
    double *rows = aligned_alloc(CACHE_LINE, BAND * stride * sizeof(double));
    float *lines = calloc(ROWS * room, sizeof *lines);
    uint16_t *halves = malloc(room * sizeof *halves);
    uint8_t range[2];
    int done = strip && rows && lines && halves;
    if (done) {
        memset(strip, 0, strip_bytes);
        find_range(pixels, height * columns, range);
    }
    for (Py_ssize_t first = 0; done && first < vertical->outputs; first += BAND) {
        Py_ssize_t last = MIN(first + BAND, vertical->outputs), low = vertical->starts[first];
        Py_ssize_t samples = vertical->starts[last - 1] + vertical->taps - low;
        for (Py_ssize_t at = 0; at < stride; at += COLUMNS) {
            look_up(pixels + low * columns + at, columns, samples, MIN(columns - at, COLUMNS),
                    light, strip);
            resize_columns(strip, low, vertical, first, last, rows + at, stride);
        }
        for (Py_ssize_t o = first; o < last; o += ROWS) {
            const double *sources[ROWS];
            for (int r = 0; r < ROWS; r++)
                sources[r] = rows + (MIN(o + r, last - 1) - first) * stride;
            resize_rows(sources, horizontal, lines, room);
            for (int r = 0; r < MIN(ROWS, last - o); r++) {
                round_values(lines + r * room, length, (float)light[range[0]],
                             (float)light[range[1]], halves);
                memcpy(out + (o + r) * length, halves, length * sizeof *out);
            }
        }
    }
    free(strip);
    free(rows);
    free(lines);
    free(halves);
    return done;
}

/* Whether the starts never decrease, and all inputs lie within the `samples`. */
static int fits(axis *axis, Py_ssize_t samples, Py_ssize_t doubles_a_tap)
{
    axis->starts = axis->starts_buffer.buf;
    axis->weights = axis->weights_buffer.buf;
    axis->outputs = axis->starts_buffer.len / (Py_ssize_t)sizeof(int64_t);
    if (axis->outputs == 0)
        return 0;
    axis->taps = axis->weights_buffer.len / (Py_ssize_t)sizeof(double) / axis->outputs;
    for (Py_ssize_t o = 1; o < axis->outputs; o++)
        if (axis->starts[o] < axis->starts[o - 1])
            return 0;
    return axis->starts[0] >= 0
           && axis->starts[axis->outputs - 1] <= samples - axis->taps / doubles_a_tap;
}

static PyObject *fill_row(PyObject *module, PyObject *arguments)
{
    Py_buffer pixels, light, out;
    axis vertical, horizontal;
    Py_ssize_t height;
    int done = 0, valid;
    if (!PyArg_ParseTuple(arguments, "y*ny*y*y*y*y*w*:fill_row", &pixels, &height, &light,
                          &vertical.starts_buffer, &vertical.weights_buffer,
                          &horizontal.starts_buffer, &horizontal.weights_buffer, &out))
        return NULL;
    Py_ssize_t width = height > 0 ? pixels.len / height / CHANNELS : 0;
    valid = width > 0 && pixels.len == height * width * CHANNELS
            && light.len == 256 * sizeof(double) && fits(&vertical, height, 1)
            && fits(&horizontal, width + STEP / CHANNELS - 1, CHANNELS)
            && horizontal.taps % STEP == 0
            && out.len == vertical.outputs * horizontal.outputs * CHANNELS
                              * (Py_ssize_t)sizeof(uint16_t);
    if (valid) {
        Py_BEGIN_ALLOW_THREADS
        done = make_row(pixels.buf, height, width, light.buf, &vertical, &horizontal, out.buf);
        Py_END_ALLOW_THREADS
        if (!done)
            PyErr_NoMemory();
    } else {
        PyErr_SetString(PyExc_ValueError, "the shapes do not match");
    }
    Py_buffer *buffers[] = {&pixels, &light, &out, &vertical.starts_buffer,
                            &vertical.weights_buffer, &horizontal.starts_buffer,
                            &horizontal.weights_buffer};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        PyBuffer_Release(buffers[i]);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {{"fill_row", fill_row, METH_VARARGS, NULL}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_resample", .m_methods = methods};

PyMODINIT_FUNC PyInit__resample(void)
{
#if defined(__x86_64__)
    /* AVX2 implies F16C, which gcc 8 cannot test for. */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        PyErr_SetString(PyExc_ImportError, "this CPU has no AVX2");
        return NULL;
    }
#endif
    return PyModule_Create(&definition);
}
