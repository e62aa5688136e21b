/* pickle.c - a machine for the opcodes of Python's pickle (pickletools.py lists them) that makes values and
 * calls nothing. A dictionary that a call makes (OrderedDict) is a dictionary at once. */
#include "files/pickle.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 1 << 20, BLOCK = 1024, MOST_PROTOCOL = 5 };

typedef struct block {
    struct block *next;
    up_pickle_value values[BLOCK];
} block;

struct up_pickle {
    const char *path; /* borrowed */
    const unsigned char *data;
    size_t size, at, opcode; /* read so far; offset of the opcode at work */
    block *blocks;
    size_t values;
    up_pickle_value **stack, **memo; /* [room]; a mark is NULL */
    size_t room;                     /* an opcode a byte makes no more values than these */
    size_t depth, memo_count;
    up_pickle_value globals;
    const up_pickle_value *root;
};

static up_status broken(const up_pickle *p, const char *why) {
    return up_fail(UP_ERR_FORMAT, p->path, "pickle, opcode 0x%02x at byte %zu: %s", p->data[p->opcode],
                   p->opcode, why);
}

static up_status no_memory(const up_pickle *p) {
    return up_fail(UP_ERR_MEMORY, p->path, "no memory for its pickle");
}

/* --- values and the stack --- */

static up_status make(up_pickle *p, up_pickle_kind kind, up_pickle_value **out) {
    size_t place = p->values % BLOCK;
    if (p->values == MOST_VALUES) return broken(p, "more values than a model's file has");
    if (!place) {
        block *b = calloc(1, sizeof *b);
        if (!b) return no_memory(p);
        b->next = p->blocks;
        p->blocks = b;
    }
    p->values++;
    *out = &p->blocks->values[place];
    (*out)->kind = kind;
    (*out)->at = p->opcode;
    return UP_OK;
}

static up_status push(up_pickle *p, up_pickle_value *value) {
    if (p->depth == p->room) return broken(p, "the stack is too deep");
    p->stack[p->depth++] = value;
    return UP_OK;
}

static up_status pop(up_pickle *p, up_pickle_value **out) {
    if (!p->depth || !p->stack[p->depth - 1]) return broken(p, "a value is missing on the stack");
    *out = p->stack[--p->depth];
    return UP_OK;
}

static up_status add(up_pickle *p, up_pickle_value *to, up_pickle_value *item) {
    if (to->count == to->room) {
        size_t room = to->room ? 2 * to->room : 4;
        up_pickle_value **grown = realloc(to->items, room * sizeof *grown);
        if (!grown) return no_memory(p);
        to->items = grown;
        to->room = room;
    }
    to->items[to->count++] = item;
    return UP_OK;
}

static up_status push_whole(up_pickle *p, up_pickle_kind kind, int64_t whole) {
    up_pickle_value *v = NULL;
    UP_TRY(make(p, kind, &v));
    v->whole = whole;
    return push(p, v);
}

/* --- what follows an opcode --- */

static up_status take(up_pickle *p, size_t bytes, const unsigned char **out) {
    if (bytes > p->size - p->at) return broken(p, "it ends too early");
    *out = p->data + p->at;
    p->at += bytes;
    return UP_OK;
}

static up_status take_number(up_pickle *p, int bytes, uint64_t *out) {
    const unsigned char *from = NULL;
    UP_TRY(take(p, (size_t)bytes, &from));
    *out = 0;
    for (int i = bytes; i-- > 0;) *out = *out << 8 | from[i];
    return UP_OK;
}

static up_status push_text(up_pickle *p, int length_bytes) {
    up_pickle_value *v = NULL;
    const unsigned char *text = NULL;
    uint64_t size;
    UP_TRY(take_number(p, length_bytes, &size));
    if (size > p->size) return broken(p, "it ends too early");
    UP_TRY(take(p, (size_t)size, &text));
    UP_TRY(make(p, UP_PICKLE_TEXT, &v));
    v->text = (const char *)text;
    v->size = (size_t)size;
    return push(p, v);
}

/* Little-endian, two's complement; one beyond 64 bits stays bytes. */
static up_status push_long(up_pickle *p) {
    size_t n = p->at < p->size ? p->data[p->at] : 0;
    if (n > 8) return push_text(p, 1);
    uint64_t value;
    p->at++;
    UP_TRY(take_number(p, (int)n, &value));
    if (n && n < 8 && value >> (8 * n - 1)) value |= ~0ull << 8 * n;
    return push_whole(p, UP_PICKLE_INT, (int64_t)value);
}

static up_status push_real(up_pickle *p) {
    const unsigned char *from = NULL;
    up_pickle_value *v = NULL;
    uint64_t bits = 0;
    UP_TRY(take(p, 8, &from));
    UP_TRY(make(p, UP_PICKLE_FLOAT, &v));
    for (int i = 0; i < 8; i++) bits = bits << 8 | from[i]; /* big-endian here alone */
    memcpy(&v->real, &bits, sizeof bits);
    return push(p, v);
}

static up_status push_name(up_pickle *p, const char *module, size_t a, const char *name, size_t b) {
    up_pickle_value *v = NULL;
    UP_TRY(make(p, UP_PICKLE_GLOBAL, &v));
    char *text = malloc(a + b + 2);
    if (!text) return no_memory(p);
    memcpy(text, module, a);
    text[a] = '.';
    memcpy(text + a + 1, name, b);
    text[a + 1 + b] = 0;
    v->text = text;
    v->size = a + 1 + b;
    UP_TRY(add(p, &p->globals, v));
    return push(p, v);
}

static up_status push_global(up_pickle *p) {
    const char *lines[2];
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        lines[i] = (const char *)p->data + p->at;
        const char *end = memchr(lines[i], '\n', p->size - p->at);
        if (!end) return broken(p, "it ends too early");
        sizes[i] = (size_t)(end - lines[i]);
        p->at += sizes[i] + 1;
    }
    return push_name(p, lines[0], sizes[0], lines[1], sizes[1]);
}

static up_status push_stack_global(up_pickle *p) {
    up_pickle_value *name = NULL, *module = NULL;
    UP_TRY(pop(p, &name));
    UP_TRY(pop(p, &module));
    if (name->kind != UP_PICKLE_TEXT || module->kind != UP_PICKLE_TEXT)
        return broken(p, "a name that is no text");
    return push_name(p, module->text, module->size, name->text, name->size);
}

/* --- containers --- */

static up_status find_mark(up_pickle *p, size_t *mark) {
    for (size_t i = p->depth; i-- > 0;) {
        *mark = i;
        if (!p->stack[i]) return UP_OK;
    }
    return broken(p, "no mark on the stack");
}

/* Everything above stack[first] into a value below it, the mark between them (if any) taken away. */
static up_status add_from(up_pickle *p, size_t first, int marked, up_pickle_kind kind) {
    size_t below = first - (size_t)marked;
    if (!below || !p->stack[below - 1]) return broken(p, "a value is missing on the stack");
    up_pickle_value *to = p->stack[below - 1];
    if (to->kind == UP_PICKLE_CALL) kind = UP_PICKLE_CALL; /* what is put into it is left out */
    if (to->kind != kind) return broken(p, "items for a value that takes none");
    if (kind == UP_PICKLE_DICT && (p->depth - first) % 2) return broken(p, "a key without a value");
    for (size_t i = first; i < p->depth && kind != UP_PICKLE_CALL; i++) UP_TRY(add(p, to, p->stack[i]));
    p->depth = below;
    return UP_OK;
}

static up_status push_gathered(up_pickle *p, size_t first, int marked, up_pickle_kind kind) {
    up_pickle_value *v = NULL;
    UP_TRY(make(p, kind, &v));
    for (size_t i = first; i < p->depth; i++) {
        if (!p->stack[i]) return broken(p, "a value is missing on the stack");
        UP_TRY(add(p, v, p->stack[i]));
    }
    if (kind == UP_PICKLE_DICT && v->count % 2) return broken(p, "a key without a value");
    p->depth = first - (size_t)marked;
    return push(p, v);
}

/* The top `count` values as a new one. */
static up_status gather(up_pickle *p, size_t count, up_pickle_kind kind) {
    if (count > p->depth) return broken(p, "a value is missing on the stack");
    return push_gathered(p, p->depth - count, 0, kind);
}

static up_status gather_marked(up_pickle *p, up_pickle_kind kind) {
    size_t mark = 0;
    UP_TRY(find_mark(p, &mark));
    return push_gathered(p, mark + 1, 1, kind);
}

static up_status add_marked(up_pickle *p, up_pickle_kind kind) {
    size_t mark = 0;
    UP_TRY(find_mark(p, &mark));
    return add_from(p, mark + 1, 1, kind);
}

static up_status add_top(up_pickle *p, size_t count, up_pickle_kind kind) {
    if (count >= p->depth) return broken(p, "a value is missing on the stack");
    for (size_t i = p->depth - count; i < p->depth; i++)
        if (!p->stack[i]) return broken(p, "a value is missing on the stack");
    return add_from(p, p->depth - count, 0, kind);
}

/* A call is kept as a value. OrderedDict() without arguments is what it will hold. */
static up_status call(up_pickle *p) {
    UP_TRY(gather(p, 2, UP_PICKLE_CALL));
    up_pickle_value *v = p->stack[p->depth - 1];
    if (!up_pickle_is(v->items[0], UP_PICKLE_GLOBAL, "collections.OrderedDict")) return UP_OK;
    if (v->items[1]->kind != UP_PICKLE_LIST || v->items[1]->count)
        return broken(p, "OrderedDict of arguments");
    v->kind = UP_PICKLE_DICT;
    v->count = 0;
    return UP_OK;
}

/* --- the memo --- */

static up_status remember(up_pickle *p, uint64_t index) {
    if (!p->depth || !p->stack[p->depth - 1]) return broken(p, "a value is missing on the stack");
    if (index >= p->room) return broken(p, "a place in the memo that no file needs");
    p->memo[index] = p->stack[p->depth - 1];
    p->memo_count++;
    return UP_OK;
}

static up_status recall(up_pickle *p, uint64_t index) {
    if (index >= p->room || !p->memo[index]) return broken(p, "nothing at that place of the memo");
    return push(p, p->memo[index]);
}

/* --- the machine: opcodes by what they need --- */

static up_status with_number(up_pickle *p, int opcode, int *known) {
    static const char opcodes[] = "\x80\x95KMJqrhj";
    static const int sizes[] = {1, 8, 1, 2, 4, 1, 4, 1, 4};
    const char *at = strchr(opcodes, opcode);
    uint64_t n;
    *known = opcode && at;
    if (!*known) return UP_OK;
    UP_TRY(take_number(p, sizes[at - opcodes], &n));
    switch (opcode) {
    case 0x80: /* PROTO */
        return n <= MOST_PROTOCOL ? UP_OK : broken(p, "a protocol above 5");
    case 0x95: /* FRAME: a hint for readers */
        return UP_OK;
    case 'q':
    case 'r':
        return remember(p, n);
    case 'h':
    case 'j':
        return recall(p, n);
    default: /* BININT2 and BININT1 have no sign */
        return push_whole(p, UP_PICKLE_INT, opcode == 'J' ? (int64_t)(int32_t)n : (int64_t)n);
    }
}

static up_status with_values(up_pickle *p, int opcode) {
    up_pickle_value *gone = NULL;
    switch (opcode) {
    case '(': /* MARK */
        return push(p, NULL);
    case '0': /* POP */
        return pop(p, &gone);
    case 'N':
        return push_whole(p, UP_PICKLE_NONE, 0);
    case 0x88: /* NEWTRUE, NEWFALSE */
    case 0x89:
        return push_whole(p, UP_PICKLE_BOOL, opcode == 0x88);
    case ')': /* EMPTY_TUPLE, EMPTY_LIST, EMPTY_SET */
    case ']':
    case 0x8f:
        return gather(p, 0, UP_PICKLE_LIST);
    case '}':
        return gather(p, 0, UP_PICKLE_DICT);
    case 0x85: /* TUPLE1, TUPLE2, TUPLE3 */
    case 0x86:
    case 0x87:
        return gather(p, (size_t)opcode - 0x84, UP_PICKLE_LIST);
    case 't': /* TUPLE, LIST, FROZENSET */
    case 'l':
    case 0x91:
        return gather_marked(p, UP_PICKLE_LIST);
    case 'd': /* DICT */
        return gather_marked(p, UP_PICKLE_DICT);
    case 'a': /* APPEND */
        return add_top(p, 1, UP_PICKLE_LIST);
    case 'e': /* APPENDS, ADDITEMS */
    case 0x90:
        return add_marked(p, UP_PICKLE_LIST);
    case 's': /* SETITEM, SETITEMS */
        return add_top(p, 2, UP_PICKLE_DICT);
    case 'u':
        return add_marked(p, UP_PICKLE_DICT);
    case 'Q': /* BINPERSID */
        return gather(p, 1, UP_PICKLE_PERSISTENT);
    case 'R': /* REDUCE, NEWOBJ */
    case 0x81:
        return call(p);
    case 'b': /* BUILD: the state of an object, which nobody looks into */
        return pop(p, &gone);
    default:
        return broken(p, "is not one that PyTorch's files have");
    }
}

static up_status with_bytes(up_pickle *p, int opcode, int *known) {
    *known = 1;
    switch (opcode) {
    case 'X': /* BINUNICODE, BINSTRING, BINBYTES */
    case 'T':
    case 'B':
        return push_text(p, 4);
    case 0x8c: /* SHORT_BINUNICODE, SHORT_BINSTRING, SHORT_BINBYTES */
    case 'U':
    case 'C':
        return push_text(p, 1);
    case 0x8d: /* BINUNICODE8, BINBYTES8 */
    case 0x8e:
        return push_text(p, 8);
    case 0x8a:
        return push_long(p);
    case 'G':
        return push_real(p);
    case 'c':
        return push_global(p);
    case 0x93:
        return push_stack_global(p);
    case 0x94: /* MEMOIZE */
        return remember(p, p->memo_count);
    }
    *known = 0;
    return UP_OK;
}

static up_status run(up_pickle *p) {
    enum { STOP = '.' };
    while (p->at < p->size) {
        int known, opcode = p->data[p->at];
        p->opcode = p->at++;
        if (opcode == STOP) break;
        UP_TRY(with_number(p, opcode, &known));
        if (!known) UP_TRY(with_bytes(p, opcode, &known));
        if (!known) UP_TRY(with_values(p, opcode));
    }
    if (!p->size || p->data[p->opcode] != STOP)
        return up_fail(UP_ERR_FORMAT, p->path, "its pickle has no end");
    if (p->depth != 1 || !p->stack[0]) return broken(p, "wanted one value at the end");
    p->root = p->stack[0];
    return UP_OK;
}

up_status up_pickle_open(const char *path, const void *data, size_t size, up_pickle **out) {
    up_status status = UP_OK;
    *out = NULL;
    up_pickle *p = calloc(1, sizeof *p);
    if (!p) return up_fail(UP_ERR_MEMORY, path, "no memory for its pickle");
    p->path = path;
    p->data = data;
    p->size = size;
    p->globals.kind = UP_PICKLE_LIST;
    p->room = size < MOST_VALUES ? size + 1 : MOST_VALUES;
    p->stack = calloc(p->room, sizeof *p->stack);
    p->memo = calloc(p->room, sizeof *p->memo);
    if (!p->stack || !p->memo) UP_GO(no_memory(p));
    UP_GO(run(p));
    *out = p;
    p = NULL;
done:
    up_pickle_close(p);
    return status;
}

void up_pickle_close(up_pickle *p) {
    if (!p) return;
    for (block *next, *b = p->blocks; b; b = next) {
        next = b->next;
        for (int i = 0; i < BLOCK; i++) {
            if (b->values[i].kind == UP_PICKLE_GLOBAL) free((char *)b->values[i].text);
            free(b->values[i].items);
        }
        free(b);
    }
    free(p->globals.items);
    free(p->stack);
    free(p->memo);
    free(p);
}

const up_pickle_value *up_pickle_root(const up_pickle *p) {
    return p->root;
}

const up_pickle_value *up_pickle_globals(const up_pickle *p) {
    return &p->globals;
}

int up_pickle_is(const up_pickle_value *v, up_pickle_kind kind, const char *text) {
    return v->kind == kind && v->size == strlen(text) && (!v->size || !memcmp(v->text, text, v->size));
}

const up_pickle_value *up_pickle_get(const up_pickle_value *dict, const char *key) {
    for (size_t i = dict->kind == UP_PICKLE_DICT ? dict->count : 0; i > 0; i -= 2)
        if (up_pickle_is(dict->items[i - 2], UP_PICKLE_TEXT, key)) return dict->items[i - 1];
    return NULL;
}
