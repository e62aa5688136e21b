/* decoders.h - pictures and clips read by processes beside this one, so that what crashes, never ends or
 * takes all memory inside a library of decoders costs that sample and no more. A process (the program
 * uniperceiver_decoder, src/decoder) does all that up_pixels_read does, and the patches come back through
 * memory that both share. */
#ifndef UP_DATA_DECODERS_H
#define UP_DATA_DECODERS_H

#include "data/picture.h"

/* What is asked and what is answered: one packet of a socket each. The memory is a file of the parent's:
 * patches first, then the bytes of the picture or clip where no file holds them. */
enum { UP_DECODER_SOCKET = 3, UP_DECODER_MEMORY = 4, UP_DECODER_PATH = 4096 };
typedef struct up_decoder_request {
    up_config config;
    up_pixels_wanted wanted;
    int64_t max_pixels;
    double seconds; /* of processor time */
    size_t patches, bytes;
    char name[UP_DECODER_PATH];
} up_decoder_request;

typedef struct up_decoder_answer {
    up_status status;
    char message[512];
} up_decoder_answer;

typedef struct up_decoders up_decoders;

/* Up to `count` processes, each begun when it is first needed and anew after it has died; `seconds` of
 * processor time for a sample. UP_ERR_UNSUPPORTED where their program is not there. */
up_status up_decoders_open(int count, double seconds, up_decoders **out);
void up_decoders_close(up_decoders *decoders); /* NULL is fine */

/* up_pixels_read by one of them; called from any number of threads. One that dies, or takes too long or too
 * much memory, is UP_ERR_FORMAT with the reason. decoders NULL: in this process. */
up_status up_decoders_read(up_decoders *decoders, const up_config *config, const up_media *media,
                           const up_image_limits *limits, const up_pixels_wanted *wanted, uint8_t *out);

#endif
