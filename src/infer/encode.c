/* encode.c - inputs to features: packed some at a time, encoded, handed on. */
#include "infer/session.h"

up_status up_input_pack(up_session *s, const up_input *input, up_side side, up_batch *batch) {
    up_pieces pieces;
    up_status status = up_pieces_make(s, input, 0, &pieces);
    if (status == UP_OK) status = up_batch_open(batch, side, !pieces.slot);
    if (status == UP_OK) status = up_pieces_pack(s, &pieces, pieces.count, batch);
    if (status == UP_OK &&
        pieces.slot) /* the appended <SPE> stands at position 0, as in the released models */
        status = up_batch_text(batch, (int32_t[]){UP_ID_SPE}, 1, 0, (uint8_t[]){1});
    if (status == UP_OK) status = up_batch_close(batch);
    up_pieces_free(&pieces);
    return status;
}

up_status up_encode_batch(up_session *s) {
    UP_TRY(up_encoder_stage(s->encoder, &s->batch, NULL));
    UP_TRY(up_features_resize(&s->features, up_encoder_readouts(s->encoder)));
    UP_TRY(up_encoder_forward(s->encoder, s->features.raw));
    return up_features_normalize(&s->features);
}

up_status up_encode_each(up_session *s, const up_input *inputs, int n, up_side side, up_take_features take,
                         void *context) {
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    for (int i = 0, first = 0; i < n; i++) {
        UP_TRY(up_input_pack(s, &inputs[i], side, &s->batch));
        if (s->batch.tokens < UP_ENCODE_TOKENS && i + 1 < n) continue;
        UP_TRY(up_encode_batch(s));
        UP_TRY(take(context, first, i + 1 - first));
        UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
        first = i + 1;
    }
    return UP_OK;
}

typedef struct reading {
    const up_session *session;
    float *out;
} reading;

static up_status read_features(void *context, int first, int rows) {
    const reading *r = context;
    (void)rows;
    return up_features_read(&r->session->features,
                            r->out + (size_t)first * (size_t)up_session_width(r->session));
}

up_status up_encode(up_session *s, const up_input *inputs, int n, up_side side, float *out) {
    reading r = {s, out};
    UP_TRY(up_given(s, "session"));
    UP_TRY(up_given_list(inputs, n, "inputs"));
    UP_TRY(up_given_list(out, n, "features"));
    if (side != UP_SIDE_INPUT && side != UP_SIDE_TARGET)
        return up_fail(UP_ERR_ARGUMENT, "side", "%d; wanted UP_SIDE_INPUT or UP_SIDE_TARGET", (int)side);
    return up_encode_each(s, inputs, n, side, read_features, &r);
}
