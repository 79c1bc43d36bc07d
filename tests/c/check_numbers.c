/* The scalar number formats: every code, and every float near a boundary between two codes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "drivers.h"
#include "numbers.h"

enum { RANDOM_FLOATS = 200000, MAX_LINES = 10 };

static const char *const names[] = {"f32", "f16", "bf16", "i8", "f8"};
static int num_failures;

static void expect_code(int32_t dtype, float value, uint32_t got)
{
    uint32_t expected = bits_of(nearest((double)value, dtype), dtype);
    bool is_alike = isnan(value) ? isnan(value_of(got, dtype)) : got == expected;
    if (is_alike || ++num_failures > MAX_LINES)
        return;
    (void)printf("FAIL numbers: %a as %s is %#x, expected %#x\n", (double)value, names[dtype], got,
                 expected);
}

static void expect_value(int32_t dtype, uint32_t code, float got)
{
    double expected = value_of(code, dtype);
    bool is_alike = isnan(expected) ? isnan(got) : (double)got == expected;
    bool has_sign = isnan(expected) || !signbit(got) == !signbit(expected);
    if ((is_alike && has_sign) || ++num_failures > MAX_LINES)
        return;
    (void)printf("FAIL numbers: %s %#x is %a, expected %a\n", names[dtype], code, (double)got,
                 expected);
}

static void encode(float value)
{
    expect_code(APX_F16, value, apx_f32_to_f16(value));
    expect_code(APX_BF16, value, apx_f32_to_bf16(value));
    expect_code(APX_F8E4M3, value, apx_f32_to_f8(value));
}

/* The value, half way to the next code, and the floats on either side of both. */
static void encode_around(double value, double next)
{
    float points[] = {(float)value, (float)(value / 2.0 + next / 2.0)};
    for (int i = 0; i < 2; ++i) {
        encode(points[i]);
        encode(nextafterf(points[i], INFINITY));
        encode(nextafterf(points[i], -INFINITY));
    }
}

static void check_codes(int32_t dtype, uint32_t num_codes)
{
    for (uint32_t code = 0; code < num_codes; ++code) {
        uint32_t next = code + 1 < num_codes ? code + 1 : code;
        if (dtype == APX_F16)
            expect_value(dtype, code, apx_f16_to_f32((uint16_t)code));
        else if (dtype == APX_BF16)
            expect_value(dtype, code, apx_bf16_to_f32((uint16_t)code));
        else
            expect_value(dtype, code, apx_f8_to_f32((uint8_t)code));
        encode_around(value_of(code, dtype), value_of(next, dtype));
    }
}

/* q and weights as two digits: in range, and half a step away at most. */
static void check_digits(uint64_t *random)
{
    float maximum = apx_float((uint32_t)random_bits(random) & 0x7fffffffu);
    if (!isfinite(maximum))
        return;
    float scale = apx_digits_scale(maximum);
    float value = (float)(random_unit(random) * (double)maximum);
    int32_t digits = apx_digits(value, scale);
    int32_t top = apx_digits(maximum, scale);
    double error = fabs((double)digits * (double)scale - (double)value) / (double)scale;
    bool is_right = error <= 0.501 && abs(digits) <= top && top <= APX_DIGITS_MAX;
    if (is_right || ++num_failures > MAX_LINES)
        return;
    (void)printf("FAIL numbers: %a of at most %a becomes %d steps of %a\n", (double)value,
                 (double)maximum, (int)digits, (double)scale);
}

int check_numbers(void)
{
    uint64_t random = FIRST_SEED;
    check_codes(APX_F16, 0x10000);
    check_codes(APX_BF16, 0x10000);
    check_codes(APX_F8E4M3, 0x100);
    for (int i = 0; i < RANDOM_FLOATS; ++i) {
        encode(apx_float((uint32_t)random_bits(&random)));
        check_digits(&random);
    }
    return num_failures;
}
