/* vqa_accuracy.c - the normalisation of the official VQA evaluation with all its habits: a sign of
 * punctuation becomes a space, or nothing where one stands beside it or the text has a number such as 1,000;
 * dots go where no digit follows, the first 32 of them. */
#include "eval/vqa_accuracy.h"

#include <stdlib.h>
#include <string.h>

static const char *const punctuation = ";:/'[]\"()=+\\_><@`,?";

static const char *const numbers[][2] = {{"none", "0"},  {"zero", "0"},  {"one", "1"},  {"two", "2"},
                                         {"three", "3"}, {"four", "4"},  {"five", "5"}, {"six", "6"},
                                         {"seven", "7"}, {"eight", "8"}, {"nine", "9"}, {"ten", "10"}};
static const char *const articles[] = {"a", "an", "the"};

/* Words that have an apostrophe; without it they are looked up. */
static const char *const contractions[] = {
    "ain't",     "aren't",      "can't",        "could've",    "couldn't",   "didn't",    "doesn't",
    "don't",     "hadn't",      "hasn't",       "haven't",     "he'd",       "he's",      "how'd",
    "how'll",    "how's",       "isn't",        "it'd",        "it'll",      "ma'am",     "mightn't",
    "might've",  "mustn't",     "must've",      "needn't",     "not've",     "o'clock",   "oughtn't",
    "shan't",    "should've",   "shouldn't",    "somebody'll", "somebody's", "someone'd", "someone'll",
    "someone's", "something'd", "something'll", "that's",      "there'd",    "there're",  "there's",
    "they'd",    "they'll",     "they're",      "they've",     "'twas",      "wasn't",    "we've",
    "weren't",   "what'll",     "what're",      "what's",      "what've",    "when's",    "where'd",
    "where's",   "where've",    "who'd",        "who'll",      "who's",      "who've",    "why'll",
    "why're",    "why's",       "won't",        "would've",    "wouldn't",   "y'all",     "you'd",
    "you'll",    "you're",      "you've"};

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int has_comma_number(const char *s) {
    for (size_t i = 0; s[i]; i++)
        if (i && s[i] == ',' && is_digit(s[i - 1]) && is_digit(s[i + 1])) return 1;
    return 0;
}

/* A space stands before or behind one of these signs. */
static int is_beside_space(const char *s, char sign) {
    for (size_t i = 0; s[i]; i++)
        if (s[i] == sign && (s[i + 1] == ' ' || (i && s[i - 1] == ' '))) return 1;
    return 0;
}

/* In place. */
static void drop_punctuation(char *s) {
    int number = has_comma_number(s), dots = 0;
    char goes[256] = {0};
    size_t kept = 0;
    for (const char *p = punctuation; *p; p++)
        goes[(unsigned char)*p] = (char)(number || is_beside_space(s, *p));
    for (size_t i = 0; s[i]; i++) {
        int sign = strchr(punctuation, s[i]) != NULL;
        if (sign && goes[(unsigned char)s[i]]) continue;
        if (s[i] == '.' && dots < 32) {
            size_t next = i + 1; /* what will stand behind it */
            while (s[next] && strchr(punctuation, s[next]) && goes[(unsigned char)s[next]]) next++;
            if (!is_digit(s[next])) {
                dots++;
                continue;
            }
        }
        s[kept++] = sign ? ' ' : s[i];
    }
    s[kept] = 0;
}

static int is_article(const char *word) {
    for (size_t i = 0; i < sizeof articles / sizeof *articles; i++)
        if (!strcmp(word, articles[i])) return 1;
    return 0;
}

static int equal_without_apostrophe(const char *contraction, const char *word) {
    for (; *contraction; contraction++) {
        if (*contraction == '\'') continue;
        if (*contraction != *word++) return 0;
    }
    return !*word;
}

static const char *replaced(const char *word) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(word, numbers[i][0])) return numbers[i][1];
    for (size_t i = 0; i < sizeof contractions / sizeof *contractions; i++)
        if (equal_without_apostrophe(contractions[i], word)) return contractions[i];
    return word;
}

static char *copy_trimmed(const char *text) {
    size_t size;
    text += strspn(text, " \t\r\n");
    size = strlen(text);
    while (size && strchr(" \t\r\n", text[size - 1])) size--;
    char *out = strndup(text, size);
    for (char *at = out; at && *at; at++)
        if (*at == '\n' || *at == '\t') *at = ' ';
    return out;
}

up_status up_vqa_normalize(const char *answer, char **out) {
    char *text = copy_trimmed(answer), *rest;
    *out = text ? calloc(2 * strlen(text) + 2, 1) : NULL; /* a contraction is longer by one than its word */
    if (!*out) {
        free(text);
        return up_fail(UP_ERR_MEMORY, "answer", "no memory for %zu bytes", strlen(answer));
    }
    drop_punctuation(text);
    for (char *at = text; *at; at++)
        if (*at >= 'A' && *at <= 'Z') *at += 'a' - 'A';
    size_t size = 0;
    for (char *word = strtok_r(text, " \t\r\n", &rest); word; word = strtok_r(NULL, " \t\r\n", &rest)) {
        if (is_article(word)) continue;
        const char *own = replaced(word);
        if (size) (*out)[size++] = ' ';
        memcpy(*out + size, own, strlen(own));
        size += strlen(own);
    }
    free(text);
    return UP_OK;
}

up_status up_vqa_accuracy(const char *answer, const char *const *said, size_t count, double *out) {
    char *own, *other;
    size_t same = 0;
    int differ = 0;
    *out = 0;
    UP_TRY(up_vqa_normalize(answer, &own));
    for (size_t i = 1; i < count; i++) differ |= strcmp(said[0], said[i]) != 0;
    for (size_t i = 0; i < count; i++) {
        other = strdup(said[i]);
        if (!other) {
            free(own);
            return up_fail(UP_ERR_MEMORY, "answer", "no memory for %zu bytes", strlen(said[i]));
        }
        if (differ) drop_punctuation(other);
        same += !strcmp(own, other);
        free(other);
    }
    free(own);
    /* of those who did not say so, all `same` are others; of those who did, one is left out */
    double without = same >= 3 ? 1 : (double)same / 3, within = same > 3 ? 1
                                                                : same   ? ((double)same - 1) / 3
                                                                         : 0;
    if (count) *out = ((double)(count - same) * without + (double)same * within) / (double)count;
    return UP_OK;
}
