/* Outputs of a level against double precision. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "drivers.h"
#include "tolerances.h"

/* The largest error over its tolerance, by level and KV format. */
static double worst[APX_ISA_NEON + 1][APX_F8E4M3 + 1];

typedef struct head_check {
    const level *l;
    const test_case *c;
    int32_t head;
    const exact_head *exact;
} head_check;

static void report_value(const head_check *h, const char *what, int32_t dim, double got,
                         double expected, double allowed)
{
    char text[160];
    (void)snprintf(text, sizeof text, "%s head %d dim %d is %.9g, expected %.9g within %.2g", what,
                   h->head, dim, got, expected, allowed);
    check(false, h->l, h->c, text);
}

/* `rounding`: of the format the value was written in, on top of the level's own tolerance. */
static bool check_value(const head_check *h, const char *what, int32_t dim, double got,
                        double expected, double tolerated, double rounding)
{
    double *worst_here = &worst[h->l->isa][h->c->shape.kv_dtype];
    if (!isfinite(expected) || !isfinite(got)) {
        bool is_alike = isnan(expected) ? isnan(got) : got == expected;
        if (!is_alike)
            report_value(h, what, dim, got, expected, 0.0);
        return is_alike;
    }
    double error = fmax(fabs(got - expected) - rounding, 0.0);
    *worst_here = fmax(*worst_here, error / tolerated);
    if (!(error <= tolerated))
        report_value(h, what, dim, got, expected, tolerated + rounding);
    return error <= tolerated;
}

static void check_head(const head_check *h, const outcome *made)
{
    const test_case *c = h->c;
    const exact_result *e = &h->exact->result;
    tolerance t = tolerance_of(c->shape.kv_dtype, h->l->isa);
    double score_error = t.score * e->largest_score + h->exact->digits_error;
    double relative = fmin(2.0 * score_error, 2.0) + t.weight;
    for (int32_t d = 0; d < c->shape.head_dim; ++d) {
        int64_t index = (int64_t)h->head * c->shape.head_dim + d;
        double got = get_value(made->out.data, index, c->q_dtype);
        double expected = e->is_nan ? NAN : e->out[d];
        if (!check_value(h, "out", d, got, expected, relative * e->largest_value + t.floor,
                         output_error(fabs(expected), c->q_dtype)))
            break; /* one line per head */
    }
    if (!c->has_lse)
        return;
    double lse = get_value(made->lse.data, h->head, APX_F32);
    (void)check_value(h, "lse", 0, lse, e->is_nan ? NAN : e->lse,
                      score_error + t.weight * (1.0 + fabs(e->lse)), 0.0);
}

/* int8 writes q as whole numbers up to 8255. Each is off by half a step at most, and as often one
 * way as the other: seven standard deviations of their sum are twice a step times the norm of k. */
static double digits_error(const test_case *c, const double *q, const exact_result *exact)
{
    double largest = 0.0;
    if (c->shape.kv_dtype != APX_I8)
        return 0.0;
    for (int32_t d = 0; d < c->shape.head_dim; ++d)
        largest = fmax(largest, fabs(q[d]));
    double steps = fmin(0.5 * exact->largest_k_sum, 2.0 * exact->largest_k_norm);
    return largest / 8255.0 * steps * (double)c->softmax_scale;
}

/* With int8, a q or a row of K that is not finite makes the whole head NaN. */
static bool is_poisoned(const test_case *c, const test_data *data, const double *q, int32_t head,
                        const int32_t *slots, int32_t count)
{
    bool is_finite = true;
    for (int32_t d = 0; d < c->shape.head_dim; ++d)
        is_finite = is_finite && isfinite(q[d]);
    for (int32_t i = 0; i < count; ++i) {
        int64_t row = (int64_t)slots[i] * c->shape.num_kv_heads + head;
        is_finite = is_finite && isfinite(data->k[row].scale);
    }
    return c->shape.kv_dtype == APX_I8 && count > 0 && !is_finite;
}

static int32_t visible_slots(const test_case *c, const test_data *data, int32_t *slots)
{
    int32_t count = 0;
    for (int32_t token = 0; token < c->length; ++token)
        if (token < c->sinks || token >= c->begin)
            slots[count++] = slot_of(c, data, token);
    return count;
}

static void compute_head(const test_case *c, const test_data *data, int32_t head,
                         const int32_t *slots, int32_t count, exact_head *exact)
{
    const apx_shape *s = &c->shape;
    const double *k[MAX_CASE_TOKENS];
    const double *v[MAX_CASE_TOKENS];
    double q[APX_MAX_HEAD_DIM];
    int32_t kv_head = head / s->group;
    float sink = (float)get_value(data->sink_logits.data, head, APX_F32);
    for (int32_t d = 0; d < s->head_dim; ++d)
        q[d] = get_value(data->q.data, (int64_t)head * s->head_dim + d, c->q_dtype);
    for (int32_t i = 0; i < count; ++i) {
        k[i] = data->k[(int64_t)slots[i] * s->num_kv_heads + kv_head].values;
        v[i] = data->v[(int64_t)slots[i] * s->num_kv_heads + kv_head].values;
    }
    attend_exactly(q, k, v, count, s->head_dim, (double)c->softmax_scale,
                   c->has_sink_logits ? &sink : NULL, &exact->result);
    exact->result.is_nan =
        exact->result.is_nan || is_poisoned(c, data, q, kv_head, slots, count);
    exact->digits_error = digits_error(c, q, &exact->result);
}

exact_head *new_exact_heads(const test_case *c, const test_data *data)
{
    int32_t slots[MAX_CASE_TOKENS];
    int32_t heads = c->shape.num_kv_heads * c->shape.group;
    int32_t count = visible_slots(c, data, slots);
    exact_head *exact = calloc((size_t)heads, sizeof *exact);
    if (exact == NULL)
        exit(2);
    for (int32_t head = 0; head < heads; ++head)
        compute_head(c, data, head, slots, count, exact + head);
    return exact;
}

void check_outputs(const level *l, const test_case *c, const exact_head *exact,
                   const outcome *made)
{
    for (int32_t head = 0; head < c->shape.num_kv_heads * c->shape.group; ++head) {
        head_check h = {l, c, head, exact + head};
        check_head(&h, made);
    }
}

void print_worst_errors(void)
{
    static const char *const names[] = {"f32", "f16", "bf16", "i8", "f8"};
    for (int isa = 0; isa <= APX_ISA_NEON; ++isa)
        for (int dtype = 0; dtype <= APX_F8E4M3; ++dtype)
            if (worst[isa][dtype] > 0.0)
                (void)printf("%-9s %-4s largest error %.3f of its tolerance\n",
                             apx_isa_name((apx_isa)isa), names[dtype], worst[isa][dtype]);
}
