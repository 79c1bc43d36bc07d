/* finish() for every level: the merge of states is plain C that each level's compiler flags
 * vectorise, the narrowing of a row to the output's type is the level's own.
 */
#ifndef APX_FINISH_H
#define APX_FINISH_H

#include "kernels.h"
#include "numbers.h"

/* Writes `count` (a multiple of 16) floats as `dtype`, rounded to nearest even. `out` is aligned to
 * its element only. */
typedef void (*apx_narrow)(const float *values, int32_t count, void *out, int32_t dtype);

#define APX_INLINE static inline __attribute__((always_inline))

/* Largest of the states' maxima and of the sink's logit (log2 units). NaN wins, +inf becomes NaN,
 * and so does -inf: scores there were, but each of weight zero. */
APX_INLINE float apx_merged_max(int32_t num_states, const apx_state *states, int32_t head,
                                float sink)
{
    float largest = sink;
    for (int32_t i = 0; i < num_states; ++i) {
        float max = states[i].max[head];
        largest = largest >= max ? largest : max;
        if (isnan(max) || isnan(sink))
            return NAN;
    }
    return isinf(largest) ? NAN : largest;
}

/* row = sum of the states' acc, all relative to `max`; returns the denominator without the sink. */
APX_INLINE float apx_merge_head(int32_t num_states, const apx_state *states, int32_t head,
                                int32_t head_dim, float max, float *row)
{
    float total = 0.0f;
    for (int32_t d = 0; d < head_dim; ++d)
        row[d] = 0.0f;
    for (int32_t i = 0; i < num_states; ++i) {
        float state_max = states[i].max[head];
        const float *acc = states[i].acc + (int64_t)head * head_dim;
        float weight = state_max == max ? 1.0f : exp2f(state_max - max);
        total += weight * states[i].sum[head];
        for (int32_t d = 0; d < head_dim; ++d)
            row[d] += weight * acc[d];
    }
    return total;
}

APX_INLINE void apx_finish_head(apx_narrow narrow, int32_t num_states, const apx_state *states,
                                int32_t head, int32_t head_dim, const float *sink_logit, void *out,
                                int32_t out_dtype, float *lse)
{
    _Alignas(APX_LINE) float row[APX_MAX_HEAD_DIM];
    float sink = sink_logit != NULL ? *sink_logit * APX_LOG2_E : -INFINITY;
    float max = apx_merged_max(num_states, states, head, sink);
    float factor = NAN;
    float total = apx_merge_head(num_states, states, head, head_dim, max, row);
    if (num_states == 0) {
        factor = 0.0f; /* no token: zeros, whatever the sink */
        max = -INFINITY;
    } else if (!isnan(max)) {
        total += exp2f(sink - max);
        factor = 1.0f / total;
    }
    for (int32_t d = 0; d < head_dim; ++d)
        row[d] *= factor;
    narrow(row, head_dim, out, out_dtype);
    if (lse != NULL)
        *lse = num_states == 0 ? max : (max + log2f(total)) * APX_LN_2;
}

APX_INLINE void apx_finish_with(apx_narrow narrow, const apx_shape *shape, int32_t num_states,
                                const apx_state *states, int32_t head_begin, int32_t head_end,
                                const float *sink_logits, void *out, int32_t out_dtype, float *lse)
{
    int32_t first = head_begin * shape->group;
    int32_t count = (head_end - head_begin) * shape->group;
    int64_t row_bytes = (int64_t)shape->head_dim * apx_element_bytes(out_dtype);
    for (int32_t head = 0; head < count; ++head) {
        const float *sink = sink_logits != NULL ? sink_logits + first + head : NULL;
        apx_finish_head(narrow, num_states, states, head, shape->head_dim, sink,
                        (uint8_t *)out + (first + head) * row_bytes, out_dtype,
                        lse != NULL ? lse + first + head : NULL);
    }
}

#endif
