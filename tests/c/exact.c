#include "exact.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

typedef struct format {
    int mantissa_bits;
    int least_exponent; /* of a normal number */
    int num_bits;
    double largest;
    bool saturates;
} format;

static format format_of(int32_t dtype)
{
    static const format formats[] = {
        [APX_F32] = {23, -126, 32, 0x1.fffffep127, false},
        [APX_F16] = {10, -14, 16, 65504.0, false},
        [APX_BF16] = {7, -126, 16, 0x1.fep127, false},
        [APX_I8] = {0, 0, 8, 127.0, true},
        [APX_F8E4M3] = {3, -6, 8, 448.0, true},
    };
    return formats[dtype];
}

static int exponent_of(double value, const format *f)
{
    int exponent = value == 0.0 ? f->least_exponent : ilogb(value);
    return exponent < f->least_exponent ? f->least_exponent : exponent;
}

double nearest(double value, int32_t dtype)
{
    format f = format_of(dtype);
    if (isnan(value) || (isinf(value) && !f.saturates))
        return value;
    if (isinf(value))
        return copysign(f.largest, value);
    double unit = ldexp(1.0, exponent_of(value, &f) - f.mantissa_bits);
    double rounded = nearbyint(value / unit) * unit;
    if (fabs(rounded) <= f.largest)
        return rounded;
    return copysign(f.saturates ? f.largest : INFINITY, value);
}

uint32_t bits_of(double value, int32_t dtype)
{
    format f = format_of(dtype);
    uint32_t sign = signbit(value) ? 1u << (f.num_bits - 1) : 0;
    uint32_t exponent_mask = (1u << (f.num_bits - 1 - f.mantissa_bits)) - 1u;
    if (isnan(value))
        return dtype == APX_F8E4M3 ? 0x7fu
                                   : exponent_mask << f.mantissa_bits | 1u << (f.mantissa_bits - 1);
    if (isinf(value))
        return sign | exponent_mask << f.mantissa_bits;
    int exponent = exponent_of(value, &f);
    /* With the implicit bit of a normal number this carries one into the exponent field. */
    uint32_t units = (uint32_t)(fabs(value) / ldexp(1.0, exponent - f.mantissa_bits));
    uint32_t field = (uint32_t)(exponent - f.least_exponent);
    return sign | ((field << f.mantissa_bits) + units);
}

double value_of(uint32_t bits, int32_t dtype)
{
    format f = format_of(dtype);
    double sign = bits >> (f.num_bits - 1) ? -1.0 : 1.0;
    uint32_t exponent_mask = (1u << (f.num_bits - 1 - f.mantissa_bits)) - 1u;
    uint32_t field = bits >> f.mantissa_bits & exponent_mask;
    uint32_t mantissa = bits & ((1u << f.mantissa_bits) - 1u);
    if (dtype == APX_F8E4M3 && (bits & 0x7fu) == 0x7fu)
        return NAN;
    if (dtype != APX_F8E4M3 && field == exponent_mask)
        return mantissa != 0 ? NAN : sign * INFINITY;
    double units = mantissa + (field != 0 ? ldexp(1.0, f.mantissa_bits) : 0.0);
    int exponent = f.least_exponent + (field != 0 ? (int)field - 1 : 0);
    return sign * ldexp(units, exponent - f.mantissa_bits);
}

void put_value(void *array, int64_t i, double value, int32_t dtype)
{
    uint32_t bits = bits_of(nearest(value, dtype), dtype);
    uint16_t half = (uint16_t)bits;
    if (dtype == APX_F32)
        memcpy((uint8_t *)array + i * 4, &bits, 4);
    else
        memcpy((uint8_t *)array + i * 2, &half, 2);
}

double get_value(const void *array, int64_t i, int32_t dtype)
{
    uint32_t bits = 0;
    uint16_t half;
    if (dtype == APX_F32) {
        memcpy(&bits, (const uint8_t *)array + i * 4, 4);
    } else {
        memcpy(&half, (const uint8_t *)array + i * 2, 2);
        bits = half;
    }
    return value_of(bits, dtype);
}

static double scale_of(const double *row, int32_t dim, int32_t scale_dtype)
{
    double largest = 0.0;
    for (int32_t d = 0; d < dim; ++d) {
        if (!isfinite(row[d]))
            return NAN;
        largest = fmax(largest, fabs(row[d]));
    }
    double scale = nearest(largest / 127.0, APX_F32);
    return nearest(scale_dtype == APX_F16 ? fmin(scale, 65504.0) : scale, scale_dtype);
}

void store_exactly(const double *row, int32_t dim, int32_t kv_dtype, int32_t scale_dtype,
                   stored_row *stored)
{
    stored->scale = kv_dtype == APX_I8 ? scale_of(row, dim, scale_dtype) : 1.0;
    for (int32_t d = 0; d < dim; ++d) {
        if (kv_dtype != APX_I8) {
            stored->values[d] = nearest(row[d], kv_dtype);
            stored->codes[d] = bits_of(stored->values[d], kv_dtype);
            continue;
        }
        bool has_levels = stored->scale > 0.0;
        double level =
            has_levels ? nearbyint(nearest(row[d] / stored->scale, APX_F32)) : 0.0;
        level = fmax(-127.0, fmin(127.0, level));
        stored->codes[d] = (uint32_t)(level + 128.0);
        stored->values[d] = level * stored->scale;
    }
}

static double score_exactly(const double *q, const double *k, int32_t dim, double softmax_scale,
                            exact_result *result)
{
    double score = 0.0;
    double magnitude = 0.0;
    double k_sum = 0.0;
    double k_squares = 0.0;
    for (int32_t d = 0; d < dim; ++d) {
        score += q[d] * k[d];
        if (isfinite(q[d]) && isfinite(k[d])) {
            magnitude += fabs(q[d] * k[d]);
            k_sum += fabs(k[d]);
            k_squares += k[d] * k[d];
        }
    }
    result->largest_score = fmax(result->largest_score, magnitude * softmax_scale);
    result->largest_k_sum = fmax(result->largest_k_sum, k_sum);
    result->largest_k_norm = fmax(result->largest_k_norm, sqrt(k_squares));
    return score * softmax_scale;
}

static void add_exactly(const double *v, int32_t dim, double weight, exact_result *result)
{
    for (int32_t d = 0; d < dim; ++d) {
        result->out[d] += weight * v[d];
        if (isfinite(v[d]))
            result->largest_value = fmax(result->largest_value, fabs(v[d]));
    }
}

void attend_exactly(const double *q, const double *const *k, const double *const *v, int32_t count,
                    int32_t dim, double softmax_scale, const float *sink_logit,
                    exact_result *result)
{
    double max = sink_logit != NULL ? (double)*sink_logit : -INFINITY;
    double total = 0.0;
    memset(result, 0, sizeof *result);
    for (int32_t t = 0; t < count; ++t) {
        double score = score_exactly(q, k[t], dim, softmax_scale, result);
        result->is_nan = result->is_nan || isnan(score) || score == INFINITY;
        max = fmax(max, score);
    }
    result->lse = -INFINITY;
    result->is_nan = result->is_nan || (count > 0 && isinf(max));
    if (count == 0 || result->is_nan)
        return;
    for (int32_t t = 0; t < count; ++t) {
        double weight = exp(score_exactly(q, k[t], dim, softmax_scale, result) - max);
        total += weight;
        add_exactly(v[t], dim, weight, result);
    }
    if (sink_logit != NULL)
        total += exp((double)*sink_logit - max);
    for (int32_t d = 0; d < dim; ++d)
        result->out[d] /= total;
    result->lse = max + log(total);
}
