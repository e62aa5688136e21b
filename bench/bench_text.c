/* bench_text.c - megabytes of text that the tokenizer cleans and encodes a second on one core: with a
 * tokenizer just made ("cold": it has met no word) and again with the same one ("warm"), the whole text at
 * once and line by line. Processor time; run by hand. */
#include "bench/common.h"
#include "bench/worker.h"
#include "files/file.h"
#include "uniperceiver/random.h"
#include "uniperceiver/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 100, MADE_BYTES = 32 << 20 };

typedef struct text {
    char *bytes;
    size_t size;
} text;

/* --- the text --- */

static text read_text(const char *path) {
    void *bytes;
    text t;
    UP_BENCH_OK(up_file_read(path, &bytes, &t.size));
    t.bytes = bytes;
    if (t.size == 0) up_bench_die("the file is empty");
    return t;
}

/* Words of English: the vocabulary's whole words of letters, the most frequent first. */
static char **make_words(up_tokenizer *tokenizer, size_t *count) {
    char **words = up_bench_room(UP_VOCAB_SIZE, sizeof *words);
    *count = 0;
    for (int32_t id = 512; id < UP_TOKEN_START; id++) {
        char *word;
        if (!up_token_ends_word(tokenizer, id)) continue;
        UP_BENCH_OK(up_detokenize(tokenizer, &id, 1, &word));
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
    UP_BENCH_OK(up_tokenizer_create(NULL, &tokenizer));
    char **words = make_words(tokenizer, &count);
    text t = {up_bench_room(MADE_BYTES + 256, 1), 0};
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
    UP_BENCH_OK(up_tokenize(tokenizer, bytes, size, &ids, &count));
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
        double start = up_bench_processor();
        UP_BENCH_OK(up_tokenizer_create(NULL, &tokenizer));
        *create = up_bench_processor() - start;
        for (int warm = 0; warm < 2; warm++) {
            start = up_bench_processor();
            tokens[kind + warm] =
                kind == WHOLE_COLD ? encode(tokenizer, t->bytes, t->size) : encode_lines(tokenizer, t);
            seconds[kind + warm] = up_bench_processor() - start;
        }
        up_tokenizer_free(tokenizer);
    }
    if (tokens[WHOLE_COLD] != tokens[WHOLE_WARM] || tokens[LINES_COLD] != tokens[LINES_WARM])
        up_bench_die("a warm tokenizer gives another number of tokens");
    return tokens[WHOLE_COLD];
}

static void measure(const text *t, int rounds, int json) {
    double spent[KINDS][MOST_ROUNDS], create[MOST_ROUNDS], rate[KINDS], seconds[KINDS];
    size_t tokens = 0;
    for (int r = 0; r < rounds; r++) {
        tokens = round_of(t, seconds, &create[r]);
        for (int kind = 0; kind < KINDS; kind++) spent[kind][r] = seconds[kind];
    }
    for (int kind = 0; kind < KINDS; kind++)
        rate[kind] = 1e-6 * (double)t->size / up_bench_median(spent[kind], rounds);
    double create_ms = 1e3 * up_bench_median(create, rounds);
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
    if (!ok) up_bench_die("--write: the file cannot be written");
}

/* --- as a worker: the files whole, by a tokenizer that has met no word --- */
typedef struct files {
    char **names;
    int count;
} files;

typedef struct state {
    text *texts;
    int count;
    double bytes; /* of all */
    size_t tokens;
    up_tokenizer *tokenizer;
} state;

static void *open_state(const void *options) {
    const files *f = options;
    state *s = up_bench_room(1, sizeof *s);
    s->count = f->count;
    s->texts = up_bench_room((size_t)f->count, sizeof *s->texts);
    for (int i = 0; i < f->count; i++) {
        s->texts[i] = read_text(f->names[i]);
        s->bytes += (double)s->texts[i].size;
    }
    return s;
}

static void prepare(void *opened) {
    state *s = opened;
    up_tokenizer_free(s->tokenizer);
    UP_BENCH_OK(up_tokenizer_create(NULL, &s->tokenizer));
}

static void run(void *opened) {
    state *s = opened;
    s->tokens = 0;
    for (int i = 0; i < s->count; i++) s->tokens += encode(s->tokenizer, s->texts[i].bytes, s->texts[i].size);
}

static void report(void *opened, up_report *report) {
    const state *s = opened;
    report->samples = s->bytes;
    report->tokens = (double)s->tokens;
}

static void close_state(void *opened) {
    state *s = opened;
    for (int i = 0; i < s->count; i++) free(s->texts[i].bytes);
    up_tokenizer_free(s->tokenizer);
    free(s->texts);
    free(s);
}

static const up_measure cold = {open_state, prepare, run, report, close_state};

int main(int argc, char **argv) {
    const char *write = NULL;
    int json = 0, rounds = 5, serve = 0;
    const up_option table[] = {
        {"--rounds", UP_OPTION_WHOLE, &rounds, 1, "medians over so many"},
        {"--write", UP_OPTION_TEXT, &write, 0, "write the text there and end: for another program to read"},
        {"--serve", UP_OPTION_FLAG, &serve, 0,
         "instead: FILE... as a worker, a turn for each line of the input"},
        {"--json", UP_OPTION_FLAG, &json, 0, "one object"},
        {0}};
    int words =
        up_bench_options(argc, argv,
                         "bench_text [FILE] [OPTION...]: text to token ids on one core, megabytes (1e6 "
                         "bytes) a second; without FILE 32 MiB like English are made",
                         table);
    if (rounds > MOST_ROUNDS) up_bench_die("--rounds: at most 100");
    if (words > 1 && !serve) up_bench_die("wanted: one file, or none");
    if (serve) {
        up_worker_serve(&cold, &(files){argv + 1, words});
        return 0;
    }
    text t = words ? read_text(argv[1]) : make_text();
    if (write)
        write_text(write, &t);
    else
        measure(&t, rounds, json);
    free(t.bytes);
    return 0;
}
