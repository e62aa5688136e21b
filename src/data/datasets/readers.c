/* readers.c - the table of formats. A new format is a new row. The first row whose ending fits a file's name
 * is the guess. */
#include "data/datasets/reader.h"

const up_reader up_readers[] = {
    {"tsv", "tab-separated cells under a line of column names", ".tsv", .open = up_open_tsv,
     .index = up_read_tsv, .parse = up_parse_tsv},
    {"csv", "comma-separated cells, quoted where needed, under a line of column names", ".csv", .several = 1,
     .open = up_open_csv, .index = up_read_csv, .parse = up_parse_csv},
    {"jsonl", "a JSON object a line", ".jsonl .ndjson", .index = up_read_lines, .parse = up_parse_jsonl},
    {"text", "a sentence or paragraph a line, filled from the lines that follow", ".txt", .document = 1,
     .index = up_read_lines, .parse = up_parse_line},
    {"folder", "a folder a class, with its pictures or clips", .folder = 1, .index = up_read_folder},
    {"webdataset", "tar shards: the files of a sample have one name and several endings", ".tar",
     .index = up_read_shards},
    {"imagenet", "ImageNet-1k or 21k: class folders by wnid, or a list of files", .index = up_read_imagenet},
    {"kinetics", "Kinetics-400 or 700: CSV of label, youtube_id, time_start, time_end, split",
     .index = up_read_kinetics},
    {"moments", "Moments in Time: lines of class/file.mp4,label", .index = up_read_moments},
    {"karpathy", "COCO Caption or Flickr30k as split by Karpathy: dataset_coco.json",
     "dataset_coco.json "
     "dataset_flickr30k.json dataset_flickr8k.json",
     .index = up_read_karpathy},
    {"msrvtt", "MSR-VTT: videodatainfo.json",
     "videodatainfo.json train_val_videodatainfo.json "
     "test_videodatainfo.json",
     .index = up_read_msrvtt},
    {"regions", "Visual Genome: region_descriptions.json", "region_descriptions.json",
     .index = up_read_regions},
    {"vqa", "VQA v2: questions, with `annotations` for the answers", "questions.json", .index = up_read_vqa},
    {"coco", "COCO Caption: captions_train2014.json", ".json", .index = up_read_coco},
    {"flickr30k", "Flickr30k: results_20130124.token", ".token", .index = up_read_flickr30k},
    {"msvd", "MSVD: lines of a clip's name and a caption", .index = up_read_msvd},
    {"glue", "a task of GLUE: its TSV", .open = up_open_glue, .index = up_read_tsv, .parse = up_parse_glue},
    {.name = NULL},
};
