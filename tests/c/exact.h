/* Number formats and attention in double precision, written without the library's code. */
#ifndef EXACT_H
#define EXACT_H

#include <stdbool.h>
#include <stdint.h>

#include "apx.h"

/* Nearest value of F32, F16, BF16 or F8E4M3, ties to even. */
double nearest(double value, int32_t dtype);
/* The bits of a value that nearest() returned, and back. */
uint32_t bits_of(double value, int32_t dtype);
double value_of(uint32_t bits, int32_t dtype);
/* Writes or reads element i of an array of dtype. */
void put_value(void *array, int64_t i, double value, int32_t dtype);
double get_value(const void *array, int64_t i, int32_t dtype);

/* One row of K or V as the cache holds it: the int8 scale (1 without) and the codes. */
typedef struct stored_row {
    double scale;
    uint32_t codes[256];
    double values[256]; /* what attention sees */
} stored_row;
void store_exactly(const double *row, int32_t dim, int32_t kv_dtype, int32_t scale_dtype,
                   stored_row *stored);

/* One query head over visible tokens; k and v: [count][dim]. */
typedef struct exact_result {
    double out[256];
    double lse;
    double largest_score;   /* of the sums of |q k|: what rounding errors scale with */
    double largest_k_sum;   /* the largest sum of |k| of a token, and root of the sum of squares */
    double largest_k_norm;
    double largest_value;   /* of the finite |v| */
    bool is_nan;            /* the whole head */
} exact_result;
void attend_exactly(const double *q, const double *const *k, const double *const *v, int32_t count,
                    int32_t dim, double softmax_scale, const float *sink_logit,
                    exact_result *result);

#endif
