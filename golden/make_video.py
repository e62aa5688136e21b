#!/usr/bin/env python3
"""Makes golden/video: small clips in several codecs and the frames that the ffmpeg command decodes from them.

    python3 golden/make_video.py          (ffmpeg and numpy; made with FFmpeg 5.1)

X.<container> comes with X.npy [frames, height, width, 3] u8: every frame in presentation order, upright, through
swscale's accurate path. sound.wav and empty.avi hold no picture.
"""
import pathlib
import subprocess

import numpy as np

import arrays

FOLDER = pathlib.Path(__file__).parent / "video"
WIDTH, HEIGHT, FRAMES = 48, 32, 12
ACCURATE = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
QUIET = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-bitexact"]


def moving(frames):
    """A coloured square that crosses a ramp: every frame differs from every other, and no turn maps it on itself."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    clip = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(frames):
        clip[t] = np.stack([x * 5, y * 7, np.full_like(x, 20 + 15 * t)], -1)
        clip[t, 4 : 4 + 9, 2 * t : 2 * t + 10] = [250, 30, 60]
    return clip


CLIPS = {  # name: frames, encoder options
    "h264.mp4": (FRAMES, "-c:v libx264 -preset slow -bf 2 -crf 18 -pix_fmt yuv420p -threads 1"),
    "bt709.mp4": (6, "-vf scale=out_color_matrix=bt709 -colorspace bt709 -color_primaries bt709 -color_trc bt709 "
                     "-c:v libx264 -crf 18 -pix_fmt yuv420p -threads 1"),
    "full.mkv": (6, "-vf scale=out_range=full -color_range pc -c:v libx264 -crf 18 -pix_fmt yuv444p -threads 1"),
    "mpeg4.avi": (FRAMES, "-c:v mpeg4 -q:v 2 -bf 2 -flags +bitexact -pix_fmt yuv420p"),
    "mjpeg.avi": (4, "-c:v mjpeg -q:v 2 -pix_fmt yuvj422p"),
    "vp9.webm": (FRAMES, "-c:v libvpx-vp9 -crf 15 -b:v 0 -pix_fmt yuv420p -threads 1"),
    "gif.gif": (6, "-c:v gif"),
    "ten.mkv": (4, "-c:v ffv1 -pix_fmt yuv420p10le"),
    "odd.mkv": (4, "-vf crop=37:29:0:0:exact=1 -c:v ffv1 -pix_fmt bgr0"),
    "vfr.mkv": (8, "-vf setpts=N*N*0.04/TB -fps_mode vfr -enc_time_base 1/1000 -c:v libx264 -bf 2 -crf 18 "
                   "-pix_fmt yuv420p -threads 1"),
    "short.mp4": (3, "-c:v libx264 -crf 18 -pix_fmt yuv420p -threads 1"),
}


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, stdout=subprocess.PIPE, **options).stdout


def encode(name, frames, options):
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "25", "-i", "-"]
    run(*QUIET, *raw, *options.split(), "-map_metadata", "-1", FOLDER / name, input=moving(frames).tobytes())


def decode(path, turned, *options):
    data = run(*QUIET, *options, "-i", path, "-map", "v:0", "-fps_mode", "passthrough", "-sws_flags", ACCURATE, "-f", "rawvideo",
               "-pix_fmt", "rgb24", "-")
    size = run("ffprobe", "-loglevel", "error", "-select_streams", "v", "-show_entries", "stream=width,height", "-of",
               "csv=p=0", path).decode()
    width, height = (int(v) for v in size.strip().strip(",").split(",")[:2])
    return np.frombuffer(data, np.uint8).reshape(-1, *((width, height) if turned else (height, width)), 3)


def expected(path):
    """Turned clips are turned here, after the conversion to RGB. The ffmpeg command turns before it, which moves chroma by a
    fraction of a pixel: its frames must be near, and they are not under any other turn."""
    turn = int(path.stem[6:]) if path.stem.startswith("turned") else 0  # degrees, counter-clockwise
    array = np.rot90(decode(path, False, "-noautorotate"), turn // 90, (1, 2))
    distance = np.abs(array.astype(int) - decode(path, turn in (90, 270))).mean()
    assert distance < (5 if turn else 1e-9), (path, distance)
    assert len(np.unique(array.reshape(len(array), -1), axis=0)) == len(array), path
    arrays.save(FOLDER, path.stem, array)


def main():
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    for name, (frames, options) in CLIPS.items():
        encode(name, frames, options)
    for turn in (90, 180, 270):
        run(*QUIET, "-i", FOLDER / "short.mp4", "-c", "copy", "-metadata:s:v", f"rotate={turn}", FOLDER / f"turned{turn}.mp4")
    for path in sorted(FOLDER.iterdir()):
        expected(path)
    run(*QUIET, "-f", "lavfi", "-i", "sine=frequency=440:duration=0.1:sample_rate=8000", FOLDER / "sound.wav")
    avi = (FOLDER / "mjpeg.avi").read_bytes()
    (FOLDER / "empty.avi").write_bytes(avi[: avi.index(b"movi") + 4])  # its headers promise frames, none follows
    arrays.manifest(FOLDER)


if __name__ == "__main__":
    main()
