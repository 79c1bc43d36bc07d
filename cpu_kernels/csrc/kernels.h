/* The functions every instruction-set level provides, and the table that holds them.
 *
 * A *piece* is a range of one row's tokens for a range of its KV heads. attend() leaves its
 * unnormalised result as a state; finish() merges the states of a row's pieces, always in order of
 * tokens, so that results do not depend on who computed which piece, or on how many threads.
 */
#ifndef APX_KERNELS_H
#define APX_KERNELS_H

#include "layout.h"

/* Result of a piece. Query heads count from the piece's first: (kv_head - head_begin) * group + g.
 * max is in units of log2: about the largest softmax_scale * log2(e) * q.k (a level may leave it up
 * to 8 below), -inf where all are -inf.
 * sum and acc are relative to it: sum = sum_t 2^(s_t - max), acc = sum_t 2^(s_t - max) v_t.
 * NaN in max means the result of that head is NaN. */
typedef struct apx_state {
    float *max; /* [heads] */
    float *sum; /* [heads] */
    float *acc; /* [heads][head_dim], 64-byte aligned */
} apx_state;

/* Called between blocks of a piece; a worker runs more urgent work in it. NULL: never. */
typedef void (*apx_poll)(void *context);

typedef struct apx_piece {
    const uint8_t *layer;   /* the layer's first tile */
    const int32_t *blocks;  /* the row's block table */
    int32_t token_begin;    /* any token; not only block edges (a window begins anywhere) */
    int32_t token_end;      /* > token_begin */
    int32_t head_begin;     /* KV heads */
    int32_t head_end;
    const void *q;          /* the row's q, [num_q_heads][head_dim] of q_dtype, all heads */
    int32_t q_dtype;
    float softmax_scale;
    apx_poll poll;
    void *poll_context;
} apx_piece;

typedef struct apx_kernels {
    /* scratch: apx_scratch_bytes(shape) bytes, 64-byte aligned, one per nesting of poll. */
    void (*attend)(const apx_shape *shape, const apx_piece *piece, apx_state state, void *scratch);

    /* Merges `num_states` >= 0 states of KV heads [head_begin, head_end) in the order given and
     * writes out (the row's, all heads) and lse (or NULL). sink_logits: [num_q_heads] or NULL. */
    void (*finish)(const apx_shape *shape, int32_t num_states, const apx_state *states,
                   int32_t head_begin, int32_t head_end, const float *sink_logits, void *out,
                   int32_t out_dtype, float *lse);

    /* Writes one token of heads [head_begin, head_end) at `slot` of `block`; k, v: the row's
     * [num_kv_heads][head_dim] of dtype. */
    void (*append)(const apx_shape *shape, uint8_t *layer, int64_t block, int32_t slot,
                   int32_t head_begin, int32_t head_end, const void *k, const void *v,
                   int32_t dtype);
} apx_kernels;

/* Largest over all levels. */
int64_t apx_scratch_bytes(const apx_shape *shape);

/* How far ahead of its reads attend() asks for lines, in bytes; 0: for each just before it is read,
 * which leaves running ahead to the hardware. By CPU, shape and arithmetic: `line_work` 512-bit
 * multiply-adds on each line.
 * APEXBENCH_PREFETCH_BYTES overrides all; what is not a number up to 2^20 is ignored. */
ptrdiff_t apx_prefetch_bytes(const apx_shape *shape, int32_t line_work);

/* NULL where this build has no such level. */
const apx_kernels *apx_kernels_reference(void);
const apx_kernels *apx_kernels_avx2(void);
const apx_kernels *apx_kernels_avx512(void);
const apx_kernels *apx_kernels_avx512x(void);
const apx_kernels *apx_kernels_neon(void);

/* The table in use (dispatch.c). */
const apx_kernels *apx_kernels_now(void);

/* Sets the calling thread's last error (printf-like) and returns status (error.c). */
apx_status apx_fail(apx_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#endif
