/* narrow.c - the last layer at the rows that are read out. Behind the keys and values, nothing of the last
 * layer mixes tokens, and only read-out rows are used: computing those alone is exact. With a picture of 196
 * patches one row of 197 remains, with a vocabulary entry one of 3. */
#include "ref/model/run.h"

#include <stdlib.h>
#include <string.h>

/* Queries of a sequence must be the last of its keys (backend.h) unless all keys are seen: so a doubled
 * sequence keeps its slots, all of them and nothing else, or nothing. */
static int fits(const up_run *r, const int32_t *q) {
    if (q[UP_SEQ_KIND] == UP_MASK_FULL) return 1;
    int kept = 0, slots = 0;
    for (int t = 0; t < q[UP_SEQ_Q_COUNT]; t++) {
        int keep = r->keep_index[q[UP_SEQ_Q_START] + t] >= 0;
        kept += keep;
        slots += keep && t >= q[UP_SEQ_PREFIX] + q[UP_SEQ_WORDS];
    }
    return kept == slots && (kept == 0 || kept == q[UP_SEQ_WORDS]);
}

/* Decide, and number the kept rows in ascending order. */
up_status up_plan_narrow(up_run *r, const up_batch *b) {
    r->kept = 0;
    if (r->keep_all || !(b->queries + b->targets)) return UP_OK;
    if (b->tokens > r->keep_room) {
        int32_t *grown = realloc(r->keep_index, (size_t)b->tokens * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "packed batch", "%d rows to number", b->tokens);
        r->keep_index = grown;
        r->keep_room = b->tokens;
    }
    memset(r->keep_index, 0xff, (size_t)b->tokens * sizeof *r->keep_index); /* -1 */
    for (int i = 0; i < b->queries; i++) r->keep_index[b->query_row[i]] = 0;
    for (int i = 0; i < b->targets; i++) r->keep_index[b->target_row[i]] = 0;
    for (int s = 0; s < b->sequences; s++)
        if (!fits(r, b->sequence + (size_t)s * UP_SEQ_FIELDS)) return UP_OK;
    int kept = 0;
    for (int t = 0; t < b->tokens; t++)
        if (r->keep_index[t] == 0) r->keep_index[t] = kept++;
    r->kept = kept < b->tokens ? kept : 0;
    return UP_OK;
}

static void count_kept(const up_run *r, const up_batch *b, int32_t *rows, int32_t *sequence) {
    int kept = 0;
    memcpy(sequence, b->sequence, (size_t)b->sequences * UP_SEQ_FIELDS * sizeof *sequence);
    for (int s = 0; s < b->sequences; s++) {
        int32_t *q = sequence + (size_t)s * UP_SEQ_FIELDS;
        int first = q[UP_SEQ_Q_START], end = first + q[UP_SEQ_Q_COUNT];
        q[UP_SEQ_Q_START] = kept;
        for (int t = first; t < end; t++)
            if (r->keep_index[t] >= 0) rows[kept++] = t;
        q[UP_SEQ_Q_COUNT] = kept - q[UP_SEQ_Q_START];
    }
}

/* Kept rows, sequences over them, and the read-out as places among them. */
up_status up_upload_narrow(up_run *r, const up_batch *b) {
    up_backend *be = r->model->backend;
    up_status status = UP_OK;
    int readouts = b->queries + b->targets;
    int32_t *rows =
        malloc(((size_t)r->kept + (size_t)readouts + (size_t)b->sequences * UP_SEQ_FIELDS) * sizeof *rows);
    if (!rows) return up_fail(UP_ERR_MEMORY, "packed batch", "%d rows to keep", r->kept);
    int32_t *places = rows + r->kept, *sequence = places + readouts;
    count_kept(r, b, rows, sequence);
    for (int i = 0; i < b->queries; i++) places[i] = r->keep_index[b->query_row[i]];
    for (int i = 0; i < b->targets; i++) places[b->queries + i] = r->keep_index[b->target_row[i]];
    UP_GO(be->ops->upload(be, r->kept_rows, rows));
    UP_GO(be->ops->upload(be, r->kept_sequence, sequence));
    UP_GO(be->ops->upload(be, r->readout, places));
done:
    free(rows);
    return status;
}
