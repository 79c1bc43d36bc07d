/* What the kernels are checked with: geometries, lengths and hostile data, from a case's number. */
#ifndef CASES_H
#define CASES_H

#include "exact.h"
#include "guarded.h"
#include "kernels.h"

enum { MAX_CASE_TOKENS = 320, SPARE_BLOCKS = 3, FIRST_SEED = 0x5eed0000 };

typedef enum data_kind {
    PLAIN,
    LARGE,         /* scores in the thousands */
    HUGE_KV,       /* near the largest the format holds, and beyond it where it saturates */
    TINY,
    DENORMAL,      /* of the KV format */
    RISING,        /* every token beats the maximum so far */
    OUTLIERS,      /* one element of a row a thousand times the others */
    ZEROS,
    K_MINUS_INF,   /* some scores -inf: weight 0 */
    ALL_MINUS_INF, /* all of them: NaN */
    K_PLUS_INF,    /* one score +inf: NaN */
    K_NAN,
    V_NAN,
    Q_NAN,
    Q_INF,
    NUM_KINDS
} data_kind;

const char *kind_name(data_kind kind);

typedef struct test_case {
    uint64_t seed;
    apx_cache cache; /* base NULL: the geometry only */
    apx_shape shape;
    int32_t q_dtype;
    int32_t length;  /* tokens written */
    int32_t sinks;   /* visible: [0, sinks) and [begin, length) */
    int32_t begin;
    data_kind kind;
    float softmax_scale;
    bool has_sink_logits;
    bool has_lse;
    bool repeats_blocks;
} test_case;

int32_t num_test_cases(void);
test_case test_case_of(int32_t number);
/* In words, for messages. */
void describe_case(const test_case *c, char *text, size_t num_bytes);

/* The tensors of a case. Rows are indexed by token; exact values by physical slot, because blocks
 * may repeat. */
typedef struct test_data {
    guarded background;  /* the layer before anything is written */
    guarded expected;    /* the layer afterwards */
    guarded q;           /* [heads][dim] of q_dtype */
    guarded *k_rows;     /* [length]: [kv_heads][dim] of q_dtype */
    guarded *v_rows;
    guarded table;       /* int32 */
    guarded sink_logits; /* float */
    stored_row *k;       /* [block * block_size + slot][kv_heads] */
    stored_row *v;
    int32_t num_slots;
} test_data;

void make_data(const test_case *c, test_data *data);
void free_data(const test_case *c, test_data *data);
int32_t slot_of(const test_case *c, const test_data *data, int32_t token);
/* Codes that are NaN become the one NaN of the format, so that images can be compared as bytes. */
void unify_nans(const test_case *c, const test_data *data, uint8_t *layer);

#endif
