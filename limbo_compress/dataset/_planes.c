/* A float16 row of pixels to float32 planes, one for each channel, as PyTorch takes images.

   numpy and torch transpose first and convert then, or the reverse: twice through the memory, which
   takes two to three times as long. numpy does it where this file could not be compiled: see
   torch.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define FOR_VECTORS __attribute__((target("avx2,f16c")))
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#define FOR_VECTORS
#else
#error "not for this CPU: numpy converts instead"
#endif

enum { CHANNELS = 3, PIXELS = 8, TABLE = 1 << 16 };

/* One channel of PIXELS pixels. */
typedef float plane __attribute__((vector_size(32)));

#if defined(__x86_64__)
/* Which bytes of three loads of eight values belong to each channel; 0x80 gives zero. */
#define V(i) 2 * (i), 2 * (i) + 1
#define NONE 0x80, 0x80
static const uint8_t PICKS[CHANNELS][CHANNELS][16] __attribute__((aligned(16))) = {
    {{V(0), V(3), V(6), NONE, NONE, NONE, NONE, NONE},
     {NONE, NONE, NONE, V(1), V(4), V(7), NONE, NONE},
     {NONE, NONE, NONE, NONE, NONE, NONE, V(2), V(5)}},
    {{V(1), V(4), V(7), NONE, NONE, NONE, NONE, NONE},
     {NONE, NONE, NONE, V(2), V(5), NONE, NONE, NONE},
     {NONE, NONE, NONE, NONE, NONE, V(0), V(3), V(6)}},
    {{V(2), V(5), NONE, NONE, NONE, NONE, NONE, NONE},
     {NONE, NONE, V(0), V(3), V(6), NONE, NONE, NONE},
     {NONE, NONE, NONE, NONE, NONE, V(1), V(4), V(7)}}};

FOR_VECTORS static inline void read_group(const uint16_t *row, plane planes[CHANNELS])
{
    __m128i loads[CHANNELS];
    for (int i = 0; i < CHANNELS; i++)
        loads[i] = _mm_loadu_si128((const __m128i *)(row + PIXELS * i));
    for (int channel = 0; channel < CHANNELS; channel++) {
        const __m128i *picks = (const __m128i *)PICKS[channel];
        __m128i first = _mm_or_si128(_mm_shuffle_epi8(loads[0], picks[0]),
                                     _mm_shuffle_epi8(loads[1], picks[1]));
        __m128i halves = _mm_or_si128(first, _mm_shuffle_epi8(loads[2], picks[2]));
        planes[channel] = _mm256_cvtph_ps(halves);
    }
}

/* The planes are larger than the cache, so what is written goes past it where the address allows. */
FOR_VECTORS static inline void write_group(const plane *values, float *out, int aligned)
{
    if (aligned)
        _mm256_stream_ps(out, *values);
    else
        _mm256_storeu_ps(out, *values);
}
#else
static inline void read_group(const uint16_t *row, plane planes[CHANNELS])
{
    uint16x8x3_t loads = vld3q_u16(row);
    for (int channel = 0; channel < CHANNELS; channel++) {
        float16x8_t halves = vreinterpretq_f16_u16(loads.val[channel]);
        float32x4_t values[] = {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
        memcpy(&planes[channel], values, sizeof values);
    }
}

static inline void write_group(const plane *values, float *out, int aligned)
{
    memcpy(out, values, sizeof *values);
}
#endif

FOR_VECTORS static void convert(const uint16_t *row, Py_ssize_t pixels, float *planes)
{
    int aligned = (uintptr_t)planes % sizeof(plane) == 0 && pixels % PIXELS == 0;
    plane group[CHANNELS];
    Py_ssize_t at = 0;
    for (; at + PIXELS <= pixels; at += PIXELS) {
        read_group(row + CHANNELS * at, group);
        for (int channel = 0; channel < CHANNELS; channel++)
            write_group(&group[channel], planes + channel * pixels + at, aligned);
    }
    if (at < pixels) {
        uint16_t rest[CHANNELS * PIXELS] = {0};
        memcpy(rest, row + CHANNELS * at, CHANNELS * (pixels - at) * sizeof *rest);
        read_group(rest, group);
        for (int channel = 0; channel < CHANNELS; channel++)
            memcpy(planes + channel * pixels + at, &group[channel], (pixels - at) * sizeof(float));
    }
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

static void look_up(const uint16_t *row, Py_ssize_t pixels, const float *table, float *planes)
{
    for (Py_ssize_t at = 0; at < pixels; at++)
        for (int channel = 0; channel < CHANNELS; channel++)
            planes[channel * pixels + at] = table[row[CHANNELS * at + channel]];
}

static PyObject *fill_planes(PyObject *module, PyObject *arguments)
{
    Py_buffer row, table, planes;
    if (!PyArg_ParseTuple(arguments, "y*z*w*:fill_planes", &row, &table, &planes))
        return NULL;
    Py_ssize_t pixels = row.len / CHANNELS / (Py_ssize_t)sizeof(uint16_t);
    int valid = row.len == pixels * CHANNELS * (Py_ssize_t)sizeof(uint16_t)
                && planes.len == pixels * CHANNELS * (Py_ssize_t)sizeof(float)
                && (table.buf == NULL || table.len == TABLE * (Py_ssize_t)sizeof(float));
    if (valid) {
        Py_BEGIN_ALLOW_THREADS
        if (table.buf == NULL)
            convert(row.buf, pixels, planes.buf);
        else
            look_up(row.buf, pixels, table.buf, planes.buf);
        Py_END_ALLOW_THREADS
    } else {
        PyErr_SetString(PyExc_ValueError, "the shapes do not match");
    }
    PyBuffer_Release(&row);
    PyBuffer_Release(&table);
    PyBuffer_Release(&planes);
    return valid ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {{"fill_planes", fill_planes, METH_VARARGS, NULL}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_planes", .m_methods = methods};

PyMODINIT_FUNC PyInit__planes(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) { /* implies F16C, which gcc 8 cannot test for */
        PyErr_SetString(PyExc_ImportError, "this CPU has no AVX2");
        return NULL;
    }
#endif
    return PyModule_Create(&definition);
}
