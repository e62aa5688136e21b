/* test_text.c - the tokenizer against golden/text (made by an independent implementation), and against bad
 * input. */
#include "data/codes.h"
#include "tests/support.h"
#include "uniperceiver/random.h"
#include "uniperceiver/text.h"
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

const char *const up_suite_name = "text";

enum { FIELDS = 4, CASES_MOST = 2048 };

/* One line of a golden file: text, cleaned text, ids, decoded text. */
typedef struct golden {
    char *field[FIELDS];
    size_t size[FIELDS];
    int32_t *ids;
    size_t count;
} golden;

static golden cases[CASES_MOST];
static size_t case_count;

static up_tokenizer *make_tokenizer(const char *path) {
    up_tokenizer *tokenizer = NULL;
    UP_ASSERT_OK(up_tokenizer_create(path, &tokenizer));
    return tokenizer;
}

/* Undo \xNN in place; returns the new size. */
static size_t unescape(char *text) {
    size_t n = 0;
    for (const char *c = text; *c; n++) {
        char digits[3] = {0};
        if (*c != '\\') {
            text[n] = *c++;
            continue;
        }
        memcpy(digits, c + 2, 2);
        text[n] = (char)strtol(digits, NULL, 16);
        c += 4;
    }
    text[n] = 0;
    return n;
}

static void read_case(char *line, golden *out) {
    for (int f = 0; f < FIELDS; f++) {
        char *stop = line + strcspn(line, "\t\n");
        out->field[f] = strndup(line, (size_t)(stop - line));
        out->size[f] = unescape(out->field[f]);
        line = stop + (*stop != 0);
    }
    out->ids = malloc((out->size[2] + 1) * sizeof *out->ids);
    for (char *at = out->field[2], *next; strtol(at, &next, 10), next != at; at = next)
        out->ids[out->count++] = (int32_t)strtol(at, NULL, 10);
}

static void read_golden(const char *name) {
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(up_test_path(name), "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    while (getline(&line, &room, file) > 0 && case_count < CASES_MOST) read_case(line, &cases[case_count++]);
    free(line);
    fclose(file);
}

static void read_all_golden(void) {
    if (case_count) return;
    read_golden("golden/text/cases.txt");
    read_golden("golden/text/broken.txt");
    read_golden("golden/text/garbled.txt");
    CU_ASSERT_FATAL(case_count > 1500 && case_count < CASES_MOST);
}

static int same_ids(up_tokenizer *tokenizer, const golden *wanted) {
    int32_t *ids;
    size_t count;
    if (up_tokenize(tokenizer, wanted->field[0], wanted->size[0], &ids, &count) != UP_OK) return 0;
    int same = count == wanted->count && (!count || !memcmp(ids, wanted->ids, count * sizeof *ids));
    free(ids);
    return same;
}

static void test_golden(void) {
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    read_all_golden();
    for (size_t i = 0; i < case_count; i++) {
        const golden *wanted = &cases[i];
        char *cleaned, *decoded;
        size_t size;
        UP_ASSERT_OK(up_clean_text(wanted->field[0], wanted->size[0], &cleaned, &size));
        UP_ASSERT_OK(up_detokenize(tokenizer, wanted->ids, wanted->count, &decoded));
        int clean = size == wanted->size[1] && !memcmp(cleaned, wanted->field[1], size);
        int ids = same_ids(tokenizer, wanted), decodes = !strcmp(decoded, wanted->field[3]);
        if (!clean || !ids || !decodes)
            fprintf(stderr, "case %zu (%s): %s\n", i + 1, clean ? ids ? "decoding" : "ids" : "cleaning",
                    wanted->field[0]);
        CU_ASSERT(clean);
        CU_ASSERT(ids);
        CU_ASSERT(decodes);
        free(cleaned);
        free(decoded);
    }
    up_tokenizer_free(tokenizer);
}

/* What was decoded encodes to the same ids, for plain text. */
static void test_round_trip(void) {
    static const char *const texts[] = {"a photo of a dog, isn't it? 1234 <|gen|> caf\xC3\xA9",
                                        "\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80\xF0\x9F\x98\x80 x", ""};
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        golden once = {.count = 0};
        char *decoded;
        UP_ASSERT_OK(up_tokenize(tokenizer, texts[i], strlen(texts[i]), &once.ids, &once.count));
        UP_ASSERT_OK(up_detokenize(tokenizer, once.ids, once.count, &decoded));
        once.field[0] = decoded;
        once.size[0] = strlen(decoded);
        CU_ASSERT(same_ids(tokenizer, &once));
        free(decoded);
        free(once.ids);
    }
    up_tokenizer_free(tokenizer);
}

static void test_closed(void) {
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    read_all_golden();
    for (size_t i = 0; i < case_count; i += 7) {
        const golden *wanted = &cases[i];
        for (size_t limit = 1; limit < wanted->count + 4 && limit < 80; limit += limit < 6 ? 1 : 5) {
            size_t count = 0, kept = wanted->count < limit ? wanted->count : limit - 1;
            int32_t *ids = malloc((limit + 1) * sizeof *ids);
            memset(ids, 0x5A, (limit + 1) * sizeof *ids);
            UP_ASSERT_OK(
                up_tokenize_closed(tokenizer, wanted->field[0], wanted->size[0], limit, ids, &count));
            CU_ASSERT_EQUAL_FATAL(count, kept + 1);
            CU_ASSERT(!memcmp(ids, wanted->ids, kept * sizeof *ids));
            CU_ASSERT_EQUAL(ids[kept], UP_TOKEN_END);
            CU_ASSERT_EQUAL(ids[limit], 0x5A5A5A5A);
            free(ids);
        }
    }
    up_tokenizer_free(tokenizer);
}

static void test_ends_word(void) {
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    const char *text = "antidisestablishmentarianism";
    int32_t *ids;
    size_t count;
    for (int32_t id = 0; id < 256; id++) CU_ASSERT(!up_token_ends_word(tokenizer, id));
    for (int32_t id = 256; id < 512; id++) CU_ASSERT(up_token_ends_word(tokenizer, id));
    for (int32_t id = UP_TOKEN_START; id < UP_VOCAB_SIZE; id++) CU_ASSERT(up_token_ends_word(tokenizer, id));
    UP_ASSERT_OK(up_tokenize(tokenizer, text, strlen(text), &ids, &count));
    CU_ASSERT_FATAL(count > 1);
    for (size_t i = 0; i < count; i++) CU_ASSERT_EQUAL(up_token_ends_word(tokenizer, ids[i]), i + 1 == count);
    CU_ASSERT(!up_token_ends_word(tokenizer, -1));
    CU_ASSERT(!up_token_ends_word(tokenizer, UP_VOCAB_SIZE));
    free(ids);
    up_tokenizer_free(tokenizer);
}

/* --- hostile input --- */

/* Fill `text` with bytes of one of four kinds: any, ASCII, pieces that the rules look for, code points. */
static size_t random_text(up_rng *rng, char *text, size_t room) {
    static const char *const pieces[] = {
        "&amp;",        "&#x26;",   "&#1;",    "&#",       "&",        "<",        "<|gen|>",
        "'s",           "\r\n",     "\x1b[3;", "\xCC\x81", "\xCE\xA3", "\xC4\xB0", "\xEF\xBC\xA1",
        "\xE2\x80\x99", "\xCD\x85", "\0",      " ",        "a"};
    size_t n = 0, length = up_rng_below(rng, up_rng_below(rng, 2) ? 8 : (uint32_t)room - 16);
    uint32_t type = up_rng_below(rng, 4);
    while (n < length) {
        const char *piece = pieces[up_rng_below(rng, sizeof pieces / sizeof pieces[0])];
        if (type == 0) text[n++] = (char)up_rng_below(rng, 256);
        if (type == 1) text[n++] = (char)(up_rng_below(rng, 95) + 32);
        if (type == 2) {
            memcpy(text + n, piece, strlen(piece) + 1);
            n += strlen(piece) + !*piece;
        }
        if (type == 3) n += up_utf8_write(up_rng_below(rng, 0xD800), text + n);
    }
    return n;
}

static int is_clean(const char *text, size_t size) {
    uint32_t code;
    if (strlen(text) != size || (size && (text[0] == ' ' || text[size - 1] == ' '))) return 0;
    for (size_t i = 0, used; i < size; i += used) {
        used = up_utf8_read(text + i, size - i, &code);
        if (code == UP_REPLACEMENT && used < 3) return 0;
        if ((code >= 'A' && code <= 'Z') || (code < 32)) return 0;
        if (up_is_space(code) && (code != ' ' || text[i + 1] == ' ')) return 0;
    }
    return 1;
}

static void test_hostile(void) {
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    up_rng rng = up_rng_make(up_test_seed(), 0, 0, 0);
    for (int i = 0; i < 3000; i++) {
        char text[400], *cleaned, *decoded;
        size_t length = random_text(&rng, text, sizeof text), size, count;
        int32_t *ids;
        UP_ASSERT_OK(up_clean_text(text, length, &cleaned, &size));
        UP_ASSERT_OK(up_tokenize(tokenizer, text, length, &ids, &count));
        UP_ASSERT_OK(up_detokenize(tokenizer, ids, count, &decoded));
        int good = is_clean(cleaned, size);
        for (size_t k = 0; k < count; k++) good &= ids[k] >= 0 && ids[k] < UP_VOCAB_SIZE;
        if (!good) fprintf(stderr, "UP_TEST_SEED=%llu, text %d\n", (unsigned long long)up_test_seed(), i);
        CU_ASSERT_FATAL(good);
        free(cleaned);
        free(ids);
        free(decoded);
    }
    up_tokenizer_free(tokenizer);
}

/* Plain lines are encoded as they stand, others are repaired and cleaned first. A paragraph separator
 * (U+2029) makes a line go the long way and is white space there, no more: with one in each line, all ids
 * stay the same. */
static size_t mark_lines(const char *text, size_t length, char *marked) {
    size_t n = 0;
    for (size_t i = 0; i <= length; i++) {
        if (i == length || text[i] == '\n') {
            memcpy(marked + n, "\xE2\x80\xA9", 3);
            n += 3;
        }
        if (i < length) marked[n++] = text[i];
    }
    return n;
}

/* English, more or less: words of all lengths, capitals, contractions, digits, punctuation, several lines. */
static size_t random_prose(up_rng *rng, char *text, size_t room) {
    static const char *const pieces[] = {
        "the",     "Photograph",    "'s",     "'LL ", "don't", "...", "\n",   "\r\n", "\t ", "1984",
        "<|GEN|>", "<|endoftext|>", "<|gen|", "<",    "\"'",   "(a)", "[@`{", "|\\",  "'",   "'R"};
    size_t n = 0, length = up_rng_below(rng, up_rng_below(rng, 2) ? 40 : (uint32_t)room - 80);
    while (n < length) {
        const char *piece = pieces[up_rng_below(rng, sizeof pieces / sizeof pieces[0])];
        uint32_t letters = up_rng_below(rng, up_rng_below(rng, 20) ? 12 : 60), choice = up_rng_below(rng, 8);
        if (choice == 0) text[n++] = (char)(up_rng_below(rng, 95) + 32);
        if (choice < 4) {
            memcpy(text + n, piece, strlen(piece));
            n += strlen(piece);
        } else {
            for (uint32_t i = 0; i < letters; i++)
                text[n++] = (char)((up_rng_below(rng, 9) ? 'a' : 'A') + up_rng_below(rng, 26));
        }
        if (up_rng_below(rng, 3)) text[n++] = ' ';
    }
    for (size_t i = 0; i < n; i++)
        if (text[i] == '&') text[i] = '*';
    return n;
}

static void test_roads(void) {
    up_tokenizer *plain = make_tokenizer(NULL), *repairing = make_tokenizer(NULL);
    up_rng rng = up_rng_make(up_test_seed(), 1, 0, 0);
    for (int i = 0; i < 3000; i++) {
        char text[2000], marked[4 * sizeof text];
        size_t length = random_prose(&rng, text, sizeof text), some, size = mark_lines(text, length, marked);
        char *exact = malloc(length + 1), *cleaned,
             *cleaned_marked; /* a byte too many is seen by sanitizers */
        golden wanted = {.field[0] = marked, .size[0] = size};
        memcpy(exact, text, length);
        exact = realloc(exact, length ? length : 1);
        UP_ASSERT_OK(up_tokenize(plain, exact, length, &wanted.ids, &wanted.count));
        int same = same_ids(repairing, &wanted);
        if (!same)
            fprintf(stderr, "UP_TEST_SEED=%llu, text %d: %.*s\n", (unsigned long long)up_test_seed(), i,
                    (int)length, text);
        CU_ASSERT_FATAL(same);
        UP_ASSERT_OK(up_clean_text(exact, length, &cleaned, &some));
        UP_ASSERT_OK(up_clean_text(marked, size, &cleaned_marked, &size));
        CU_ASSERT(some == size && !memcmp(cleaned, cleaned_marked, size));
        free(cleaned);
        free(cleaned_marked);
        free(exact);
        free(wanted.ids);
    }
    up_tokenizer_free(plain);
    up_tokenizer_free(repairing);
}

/* More different words than the cache holds, twice: kept or not, a word has the same ids. */
static void test_many_words(void) {
    enum { WORDS = 300000, LETTERS = 7 };
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    char *text = malloc((size_t)WORDS * (LETTERS + 1));
    up_rng rng = up_rng_make(up_test_seed(), 2, 0, 0);
    golden wanted = {.field[0] = text, .size[0] = (size_t)WORDS * (LETTERS + 1)};
    for (size_t i = 0; i < wanted.size[0]; i++)
        text[i] = i % (LETTERS + 1) == LETTERS ? ' ' : (char)('a' + up_rng_below(&rng, 26));
    UP_ASSERT_OK(up_tokenize(tokenizer, text, wanted.size[0], &wanted.ids, &wanted.count));
    CU_ASSERT(wanted.count > WORDS);
    CU_ASSERT(same_ids(tokenizer, &wanted));
    up_tokenizer *other = make_tokenizer(NULL);
    size_t at = 0;
    for (size_t i = 0; i < 2000; i++) { /* word by word, by one that has met none of the rest */
        int32_t *ids;
        size_t count;
        UP_ASSERT_OK(up_tokenize(other, text + i * (LETTERS + 1), LETTERS, &ids, &count));
        CU_ASSERT(at + count <= wanted.count && !memcmp(ids, wanted.ids + at, count * sizeof *ids));
        at += count;
        free(ids);
    }
    free(wanted.ids);
    free(text);
    up_tokenizer_free(tokenizer);
    up_tokenizer_free(other);
}

/* A megabyte of what could be quadratic; each must take processor seconds, not minutes. */
static void test_long(void) {
    static const char *const units[] = {"a",
                                        "ab",
                                        "!",
                                        "\xCC\x81\xCC\x96",
                                        "&amp",
                                        "amp;",
                                        "\xCE\xA3\xCC\x81",
                                        "&#&#53;3;",
                                        "\x1b[;",
                                        "\xEF\xBC\xA1\n",
                                        "\xC3\x83\xC2\xA9",
                                        "\xC3\x83\xC2\xA9 \xE6\xBC\xA2",
                                        "\xC3\xA2\xE2\x82\xAC\xC5\x93 ",
                                        "\xD0\x92\xD0\x82\xD0\xA1 ",
                                        "\xC3\x83\xC2\x83\xC3\x82\xC2\xA9\xE6\xBC\xA2"};
    enum { SIZE = 1 << 20 };
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    char *text = malloc(SIZE);
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        size_t unit = strlen(units[u]), count;
        int32_t *ids;
        text[0] = '&';
        for (size_t i = 1; i < SIZE; i++) text[i] = units[u][i % unit];
        clock_t start = clock();
        UP_ASSERT_OK(up_tokenize(tokenizer, text, SIZE, &ids, &count));
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (!(seconds < 10)) fprintf(stderr, "a megabyte of \"%s\" took %.1f s\n", units[u], seconds);
        CU_ASSERT(seconds < 10);
        free(ids);
    }
    free(text);
    up_tokenizer_free(tokenizer);
}

static void test_arguments(void) {
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    int32_t id = 0, *ids;
    size_t count = 7;
    char *text;
    CU_ASSERT_EQUAL(up_tokenizer_create(NULL, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_tokenize(tokenizer, NULL, 3, &ids, &count), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_tokenize(tokenizer, "x", (size_t)1 << 40, &ids, &count), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_tokenize_closed(tokenizer, "x", 1, 0, &id, &count), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_tokenize(tokenizer, NULL, 0, &ids, &count));
    CU_ASSERT_EQUAL(count, 0);
    free(ids);
    id = UP_VOCAB_SIZE;
    CU_ASSERT_EQUAL(up_detokenize(tokenizer, &id, 1, &text), UP_ERR_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "detokenize: no token 49411, they go from 0 to 49410");
    id = -1;
    CU_ASSERT_EQUAL(up_detokenize(tokenizer, &id, 1, &text), UP_ERR_ARGUMENT);
    up_tokenizer_free(tokenizer);
    up_tokenizer_free(NULL);
}

/* --- threads --- */

typedef struct job {
    up_tokenizer *tokenizer;
    size_t start, wrong;
} job;

static void *run_job(void *data) {
    job *mine = data;
    for (size_t i = 0; i < case_count; i++)
        mine->wrong += !same_ids(mine->tokenizer, &cases[(i + mine->start) % case_count]);
    return NULL;
}

static void test_threads(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    job jobs[THREADS];
    read_all_golden();
    up_tokenizer *tokenizer = make_tokenizer(NULL);
    for (size_t i = 0; i < THREADS; i++) {
        jobs[i] = (job){tokenizer, i * 11, 0};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CU_ASSERT_EQUAL(jobs[i].wrong, 0);
    }
    up_tokenizer_free(tokenizer);
}

/* --- vocabulary files --- */

static char folder[] = "/tmp/up_text_XXXXXX";

static const char *write_file(const char *name, const char *bytes, size_t size) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, size, file), size);
    fclose(file);
    return path;
}

/* The file must be refused by `status` with a message that names it and says `why`. */
static void refuse(const char *path, up_status status, const char *why) {
    up_tokenizer *tokenizer = (up_tokenizer *)&status;
    CU_ASSERT_EQUAL(up_tokenizer_create(path, &tokenizer), status);
    CU_ASSERT_PTR_NULL(tokenizer);
    int named = !strncmp(up_last_error(), path, strlen(path)) && strstr(up_last_error(), why);
    if (!named) fprintf(stderr, "%s (wanted: %s)\n", up_last_error(), why);
    CU_ASSERT(named);
    unlink(path);
}

static char *read_all(const char *path, int unpack, size_t *size) {
    char *bytes = malloc(4 << 20);
    if (unpack) {
        gzFile file = gzopen(path, "rb");
        *size = (size_t)gzread(file, bytes, 4 << 20);
        gzclose(file);
    } else {
        FILE *file = fopen(path, "rb");
        *size = fread(bytes, 1, 4 << 20, file);
        fclose(file);
    }
    return bytes;
}

static void test_vocabulary_files(void) {
    static const char header[] = "#version\n";
    const char *packed_path = up_test_path("src/data/vocabulary/bpe_simple_vocab_16e6.txt.gz");
    size_t packed_size, size;
    char *packed = read_all(packed_path, 0, &packed_size), *plain = read_all(packed_path, 1, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    read_all_golden();
    for (int i = 0; i < 2; i++) { /* both forms of the right list give the same ids */
        const char *path = i ? write_file("plain.txt", plain, size) : packed_path;
        up_tokenizer *tokenizer = make_tokenizer(path);
        for (size_t k = 0; k < 40; k++) CU_ASSERT(same_ids(tokenizer, &cases[k]));
        up_tokenizer_free(tokenizer);
        if (i) unlink(path);
    }
    refuse("/nonexistent/vocabulary", UP_ERR_IO, "No such file");
    refuse(write_file("empty", "", 0), UP_ERR_FORMAT, "0 lines");
    size_t some =
        (size_t)((char *)memchr(plain + size / 8, '\n', size / 8) - plain); /* whole lines, too few */
    refuse(write_file("short", plain, some), UP_ERR_FORMAT, "lines, a vocabulary has at least 48895");
    refuse(write_file("cut.gz", packed, packed_size / 2), UP_ERR_FORMAT, "gzip");
    packed[packed_size / 3] ^= 0x40;
    refuse(write_file("flip.gz", packed, packed_size), UP_ERR_FORMAT, "gzip");
    refuse(write_file("prose", "Call me\nIshmael. Some years ago\n", 32), UP_ERR_FORMAT,
           "line 2: not two symbols");
    refuse(write_file("binary", packed + 100, 5000), UP_ERR_FORMAT, "line");
    refuse(write_file("twice", "#v\ni n\ni n\n", 11), UP_ERR_FORMAT,
           "line 3: an earlier pair spells the same");
    refuse(write_file("one", "#v\nin\n", 6), UP_ERR_FORMAT, "line 2: not two symbols");
    refuse(write_file("three", "#v\ni n g\n", 9), UP_ERR_FORMAT, "line 2: not two symbols");
    refuse(write_file("end", "#v\ni</w> n\n", 11), UP_ERR_FORMAT, "line 2: its first symbol ends a word");
    refuse(write_file("header", header, sizeof header - 1), UP_ERR_FORMAT, "1 lines");
    refuse(folder, UP_ERR_IO, "is a folder");
    rmdir(folder);
    free(packed);
    free(plain);
}

const up_test up_tests[] = {
    {"golden", test_golden},
    {"round_trip", test_round_trip},
    {"closed", test_closed},
    {"ends_word", test_ends_word},
    {"hostile", test_hostile},
    {"roads", test_roads},
    {"many_words", test_many_words},
    {"long", test_long},
    {"arguments", test_arguments},
    {"threads", test_threads},
    {"vocabulary_files", test_vocabulary_files},
    {NULL, NULL},
};
