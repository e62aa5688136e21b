/* bench_text.c - megabytes of text that the tokenizer cleans and encodes a second on one core: with a
 * tokenizer just made ("cold": it has met no word) and again with the same one ("warm"), the whole text at
 * once and line by line. Processor time; run by hand. */
#include "uniperceiver/random.h"
#include "uniperceiver/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_ROUNDS = 100, MADE_BYTES = 32 << 20 };

static const char help[] =
    "bench_text [--json] [--rounds N] [--write FILE] [FILE]\n"
    "Text to token ids on one core, megabytes (1e6 bytes) of processor time's second. FILE is read into "
    "memory\n"
    "beforehand; without one, 32 MiB are made here, like English in how often words come.\n"
    "  --rounds N    medians over so many (5)\n"
    "  --write FILE  write the text there and end: for another program to read the same\n"
    "  --json        one line of JSON\n";

typedef struct text {
    char *bytes;
    size_t size;
} text;

static void check(up_status status) {
    if (status == UP_OK) return;
    fprintf(stderr, "bench_text: %s\n", up_last_error());
    exit(1);
}

static void *room(size_t size) {
    void *memory = malloc(size);
    if (memory) return memory;
    fprintf(stderr, "bench_text: no memory for %zu bytes\n", size);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- the text --- */

static text read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file && !fseek(file, 0, SEEK_END)) size = ftell(file);
    if (size < 1 || fseek(file, 0, SEEK_SET)) {
        fprintf(stderr, "bench_text: %s: cannot be read, or is empty\n", path);
        exit(1);
    }
    text t = {room((size_t)size), (size_t)size};
    if (fread(t.bytes, 1, t.size, file) != t.size) {
        fprintf(stderr, "bench_text: %s: cannot be read\n", path);
        exit(1);
    }
    fclose(file);
    return t;
}

/* Words of English: the vocabulary's whole words of letters, the most frequent first. */
static char **make_words(up_tokenizer *tokenizer, size_t *count) {
    char **words = room(UP_VOCAB_SIZE * sizeof *words);
    *count = 0;
    for (int32_t id = 512; id < UP_TOKEN_START; id++) {
        char *word;
        if (!up_token_ends_word(tokenizer, id)) continue;
        check(up_detokenize(tokenizer, &id, 1, &word));
        if (strspn(word, "abcdefghijklmnopqrstuvwxyz") == strlen(word))
            words[(*count)++] = word;
        else
            free(word);
    }
    return words;
}

/* Zipf's law: the chance of a word is as one by its rank. One word in twenty is two grown together, so that
 * new words come as long as the text goes on. */
static text make_text(void) {
    up_tokenizer *tokenizer;
    size_t count;
    check(up_tokenizer_create(NULL, &tokenizer));
    char **words = make_words(tokenizer, &count);
    text t = {room(MADE_BYTES + 256), 0};
    up_rng rng = up_rng_make(1, 2, 3, 4);
    for (int begins = 1, line = 0; t.size < MADE_BYTES;) {
        char *start = t.bytes + t.size;
        for (uint32_t parts = up_rng_below(&rng, 20) ? 1 : 2; parts > 0; parts--) {
            double u = up_rng_uniform(&rng);
            size_t rank = (size_t)(pow((double)count + 1, u) - 1);
            t.size += (size_t)sprintf(t.bytes + t.size, "%s", words[rank < count ? rank : count - 1]);
        }
        if (begins) *start = (char)(*start - 32);
        uint32_t mark = up_rng_below(&rng, 100);
        begins = mark < 6;
        if (mark < 12) t.bytes[t.size++] = begins ? '.' : ',';
        if (mark == 12) t.size += (size_t)sprintf(t.bytes + t.size, "'s");
        if (mark == 13) t.size += (size_t)sprintf(t.bytes + t.size, " %u", up_rng_below(&rng, 2000));
        line++;
        t.bytes[t.size++] = line % 12 ? ' ' : '\n';
    }
    for (size_t i = 0; i < count; i++) free(words[i]);
    free(words);
    up_tokenizer_free(tokenizer);
    return t;
}

/* --- the work --- */

static size_t encode(up_tokenizer *tokenizer, const char *bytes, size_t size) {
    int32_t *ids;
    size_t count;
    check(up_tokenize(tokenizer, bytes, size, &ids, &count));
    free(ids);
    return count;
}

static size_t encode_lines(up_tokenizer *tokenizer, const text *t) {
    size_t tokens = 0, at = 0;
    while (at < t->size) {
        const char *end = memchr(t->bytes + at, '\n', t->size - at);
        size_t size = end ? (size_t)(end - t->bytes) - at : t->size - at;
        tokens += encode(tokenizer, t->bytes + at, size);
        at += size + 1;
    }
    return tokens;
}

enum { WHOLE_COLD, WHOLE_WARM, LINES_COLD, LINES_WARM, KINDS };
static const char *const kind_names[KINDS] = {"whole, cold", "whole, warm", "lines, cold", "lines, warm"};
static const char *const kind_keys[KINDS] = {"whole_cold", "whole_warm", "lines_cold", "lines_warm"};

/* Both ways, each with a tokenizer of its own; seconds of each kind. Returns the tokens. */
static size_t round_of(const text *t, double seconds[KINDS], double *create) {
    size_t tokens[KINDS];
    for (int kind = 0; kind < KINDS; kind += 2) {
        up_tokenizer *tokenizer;
        double start = now();
        check(up_tokenizer_create(NULL, &tokenizer));
        *create = now() - start;
        for (int warm = 0; warm < 2; warm++) {
            start = now();
            tokens[kind + warm] =
                kind == WHOLE_COLD ? encode(tokenizer, t->bytes, t->size) : encode_lines(tokenizer, t);
            seconds[kind + warm] = now() - start;
        }
        up_tokenizer_free(tokenizer);
    }
    if (tokens[WHOLE_COLD] != tokens[WHOLE_WARM] || tokens[LINES_COLD] != tokens[LINES_WARM]) {
        fprintf(stderr, "bench_text: a warm tokenizer gives another number of tokens\n");
        exit(1);
    }
    return tokens[WHOLE_COLD];
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void measure(const text *t, int rounds, int json) {
    double spent[KINDS][MOST_ROUNDS], create[MOST_ROUNDS], rate[KINDS], seconds[KINDS];
    size_t tokens = 0;
    for (int r = 0; r < rounds; r++) {
        tokens = round_of(t, seconds, &create[r]);
        for (int kind = 0; kind < KINDS; kind++) spent[kind][r] = seconds[kind];
    }
    for (int kind = 0; kind < KINDS; kind++)
        rate[kind] = 1e-6 * (double)t->size / median(spent[kind], rounds);
    double create_ms = 1e3 * median(create, rounds);
    if (json) {
        printf("{\"bytes\": %zu, \"tokens\": %zu, \"create_ms\": %.2f", t->size, tokens, create_ms);
        for (int kind = 0; kind < KINDS; kind++) printf(", \"%s_mb_s\": %.2f", kind_keys[kind], rate[kind]);
        printf("}\n");
        return;
    }
    printf("%zu bytes, %zu tokens; a tokenizer is made in %.1f ms\n", t->size, tokens, create_ms);
    printf("%-14s%10s%14s\n", "", "MB/s", "ns a token");
    for (int kind = 0; kind < KINDS; kind++)
        printf("%-14s%10.1f%14.1f\n", kind_names[kind], rate[kind],
               1e3 * (double)t->size / rate[kind] / (double)tokens);
}

static void write_text(const char *path, const text *t) {
    FILE *file = fopen(path, "wb");
    int ok = file && fwrite(t->bytes, 1, t->size, file) == t->size;
    if (file) ok &= !fclose(file);
    if (ok) return;
    fprintf(stderr, "bench_text: %s: cannot be written\n", path);
    exit(1);
}

static int usage(const char *what) {
    fprintf(stderr, "bench_text: %s\n%s", what, help);
    return 2;
}

int main(int argc, char **argv) {
    const char *path = NULL, *write = NULL;
    int json = 0, rounds = 5;
    for (int k = 1; k < argc; k++) {
        if (!strcmp(argv[k], "--help")) {
            fputs(help, stdout);
            return 0;
        }
        if (!strcmp(argv[k], "--json"))
            json = 1;
        else if (!strcmp(argv[k], "--rounds") && k + 1 < argc)
            rounds = atoi(argv[++k]);
        else if (!strcmp(argv[k], "--write") && k + 1 < argc)
            write = argv[++k];
        else if (argv[k][0] != '-' && !path)
            path = argv[k];
        else
            return usage("unknown option, or one without its value");
    }
    if (rounds < 1 || rounds > MOST_ROUNDS) return usage("--rounds goes from 1 to 100");
    text t = path ? read_text(path) : make_text();
    if (write)
        write_text(write, &t);
    else
        measure(&t, rounds, json);
    free(t.bytes);
    return 0;
}
