/* The same functions in plain C. */
#include "functions.h"

#include <stdlib.h>
#include <string.h>

void plainMix(sqlite3_context *context, int count, sqlite3_value **values)
{
    uint64_t a = (uint64_t)sqlite3_value_int64(values[0]), b = (uint64_t)sqlite3_value_int64(values[1]);
    sqlite3_result_int64(context, (sqlite3_int64)((a * 0x9E3779B97F4A7C15u ^ b) >> 7));
}

void plainShout(sqlite3_context *context, int count, sqlite3_value **values)
{
    const unsigned char *text = sqlite3_value_text(values[0]);
    size_t length = (size_t)sqlite3_value_bytes(values[0]), words = 1;
    for (size_t i = 0; i < length; i++) words += text[i] == ' ';
    unsigned char *loud = sqlite3_malloc64(length + words);
    if (loud == NULL) {
        sqlite3_result_error_nomem(context);
        return;
    }
    for (size_t i = 0; i < length; i++) loud[i] = text[i] >= 'a' && text[i] <= 'z' ? (unsigned char)(text[i] - 32) : text[i];
    memset(loud + length, '!', words);
    sqlite3_result_text64(context, (char *)loud, length + words, sqlite3_free, SQLITE_UTF8);
}

void plainPower(sqlite3_context *context, int count, sqlite3_value **values)
{
    double x = sqlite3_value_double(values[0]), result = 1;
    for (sqlite3_int64 i = sqlite3_value_int64(values[1]); i > 0; i--) result *= x;
    sqlite3_result_double(context, result);
}

typedef struct {
    sqlite3_int64 least, greatest;
    bool any;
} PlainSpread;

void plainSpreadStep(sqlite3_context *context, int count, sqlite3_value **values)
{
    PlainSpread *s = sqlite3_aggregate_context(context, sizeof *s);
    sqlite3_int64 n = sqlite3_value_int64(values[0]);
    if (s == NULL) return;
    if (!s->any || n < s->least) s->least = n;
    if (!s->any || n > s->greatest) s->greatest = n;
    s->any = true;
}

void plainSpreadEnd(sqlite3_context *context)
{
    PlainSpread *s = sqlite3_aggregate_context(context, 0);
    if (s == NULL) sqlite3_result_null(context);
    else sqlite3_result_int64(context, s->greatest - s->least);
}

void plainLongestStep(sqlite3_context *context, int count, sqlite3_value **values)
{
    char **longest = sqlite3_aggregate_context(context, sizeof *longest);
    const char *text = (const char *)sqlite3_value_text(values[0]);
    if (longest == NULL || (*longest != NULL && strlen(text) <= strlen(*longest))) return;
    sqlite3_free(*longest);
    *longest = sqlite3_mprintf("%s", text);
}

void plainLongestEnd(sqlite3_context *context)
{
    char **longest = sqlite3_aggregate_context(context, 0);
    if (longest == NULL) sqlite3_result_null(context);
    else sqlite3_result_text(context, *longest, -1, sqlite3_free);
}

static bool isDigit(unsigned char c) { return c >= '0' && c <= '9'; }

/* The end of the run of digits at i; *first: where those begin that count. */
static size_t skipDigits(const unsigned char *s, size_t i, size_t n, size_t *first)
{
    while (i < n && s[i] == '0') i++;
    *first = i;
    while (i < n && isDigit(s[i])) i++;
    return i;
}

int compareNaturally(const unsigned char *a, size_t n, const unsigned char *b, size_t m)
{
    size_t i = 0, k = 0;
    while (i < n && k < m) {
        if (isDigit(a[i]) && isDigit(b[k])) {
            size_t p, q, iEnd = skipDigits(a, i, n, &p), kEnd = skipDigits(b, k, m, &q);
            if (iEnd - p != kEnd - q) return iEnd - p < kEnd - q ? -1 : 1;
            int order = memcmp(a + p, b + q, iEnd - p);
            if (order != 0) return order < 0 ? -1 : 1;
            i = iEnd;
            k = kEnd;
        } else if (a[i] != b[k]) {
            return a[i] < b[k] ? -1 : 1;
        } else {
            i++;
            k++;
        }
    }
    return (i < n) - (k < m);
}

int plainNatural(void *user, int n, const void *a, int m, const void *b) { return compareNaturally(a, (size_t)n, b, (size_t)m); }
