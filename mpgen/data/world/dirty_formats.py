"""Files of unusual shapes, rates, formats and names, most of which are as good as any."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mpgen.data.world.films import HEIGHT_PX, LENGTH, WIDTH_PX, Kinds, rotate, walk, write_film

KINDS = Kinds()


@KINDS.add("rotated_90.mp4", "held upright by a phone, shown landscape", 1)
def _rotated_90(path: Path) -> None:
    write_film(path, np.rot90(walk(), 1, (1, 2)))
    rotate(path, (0, 1, 0, -1, 0, 0))


@KINDS.add("rotated_180.mp4", "upside down, turned by the player", 1)
def _rotated_180(path: Path) -> None:
    write_film(path, walk())
    rotate(path, (-1, 0, 0, 0, -1, 0))


@KINDS.add("rotated_270.mp4", "held upright the other way", 1)
def _rotated_270(path: Path) -> None:
    write_film(path, np.rot90(walk(), -1, (1, 2)))
    rotate(path, (0, -1, 0, 1, 0, 0))


@KINDS.add("portrait.mp4", "taller than wide", reasons="portrait")
def _portrait(path: Path) -> None:
    write_film(path, walk(height_px=WIDTH_PX, width_px=HEIGHT_PX))


@KINDS.add("rotated_portrait.mp4", "stored landscape, shown taller than wide", reasons="portrait")
def _rotated_portrait(path: Path) -> None:
    write_film(path, walk())
    rotate(path, (0, 1, 0, -1, 0, 0))


@KINDS.add("wide_pixels.mp4", "pixels of 4:3, as on a DVD", 1)
def _wide_pixels(path: Path) -> None:
    write_film(path, walk(width_px=120), aspect=Fraction(4, 3))


@KINDS.add("small.mp4", "would be enlarged by more than half", reasons="low_resolution")
def _small(path: Path) -> None:
    write_film(path, walk(height_px=48, width_px=80))


@KINDS.add("huge.mkv", "larger than 8K", reasons="too_large")
def _huge(path: Path) -> None:
    write_film(path, np.zeros((1, 4736, 8192, 3), np.uint8), options={"preset": "ultrafast"}, container="matroska")


@KINDS.add("ten_bit.mp4", "10-bit HEVC", 1)
def _ten_bit(path: Path) -> None:
    options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"}
    write_film(path, walk(), codec="libx265", pix_fmt="yuv420p10le", options=options)


@KINDS.add("odd_444.mp4", "odd sizes and full colour", 1)
def _odd_444(path: Path) -> None:
    write_film(path, walk(height_px=97, width_px=161), pix_fmt="yuv444p")


@KINDS.add("alpha_vp9.webm", "VP9 with transparency, which the decoder drops", 1, flags="alpha")
def _alpha_vp9(path: Path) -> None:
    options = {"deadline": "realtime", "cpu-used": "8"}
    alpha = np.full((HEIGHT_PX, WIDTH_PX), 255, np.uint8)
    write_film(path, walk(), codec="libvpx-vp9", pix_fmt="yuva420p", container="webm", options=options, alpha=alpha)


@KINDS.add("alpha_png.mov", "half of the picture is half transparent", 1, flags="alpha")
def _alpha_png(path: Path) -> None:
    alpha = np.full((HEIGHT_PX, WIDTH_PX), 255, np.uint8)
    alpha[:, : WIDTH_PX // 2] = 160
    write_film(path, walk(), codec="png", pix_fmt="rgba", container="mov", alpha=alpha)


@KINDS.add("no_duration.webm", "a live recording: no length, no index", 1)
def _no_duration(path: Path) -> None:
    options = {"deadline": "realtime", "cpu-used": "8"}
    write_film(path, walk(), codec="libvpx-vp9", container="webm", options=options, muxer={"live": "1"})


@KINDS.add("late_start.mkv", "cut out without encoding: its time begins at 3 s", 1)
def _late_start(path: Path) -> None:
    write_film(path, walk(), ticks=range(80, 80 + LENGTH), container="matroska")


@KINDS.add("cut_at_keyframe.mp4", "cut out without encoding: an edit list says when it begins", 1)
def _cut_at_keyframe(path: Path) -> None:
    whole = path.with_suffix(".whole.mp4")
    write_film(whole, walk(96))
    with av.open(str(whole)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.dts * packet.time_base >= 1:
                packet.stream = stream
                output.mux(packet)
    whole.unlink()


@KINDS.add("cover_picture.mp4", "a cover picture stands before the film", 1)
def _cover_picture(path: Path) -> None:
    film, cover = path.with_suffix(".film.mp4"), path.with_suffix(".png")
    write_film(film, walk())
    write_film(cover, walk(1), codec="png", pix_fmt="rgb24", container="image2pipe")
    with av.open(str(film)) as moving, av.open(str(cover)) as still, av.open(str(path), "w") as output:
        first = output.add_stream_from_template(still.streams.video[0])
        second = output.add_stream_from_template(moving.streams.video[0])
        first.disposition = av.stream.Disposition.attached_pic
        for source, stream in ((still, first), (moving, second)):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    film.unlink()
    cover.unlink()


@KINDS.add("one_frame.mp4", "a single frame", reasons="too_short")
def _one_frame(path: Path) -> None:
    write_film(path, walk(1))


@KINDS.add("short.mp4", "shorter than a section", reasons="too_short")
def _short(path: Path) -> None:
    write_film(path, walk(12))


@KINDS.add("slow_8.mp4", "8 frames a second", reasons="low_fps")
def _slow_8(path: Path) -> None:
    write_film(path, walk(24), time_base=Fraction(1, 8))


@KINDS.add("doubled.mp4", "12 frames a second, each stored twice", 1, flags="stutters")
def _doubled(path: Path) -> None:
    write_film(path, walk(36, step=3).repeat(2, 0))


@KINDS.add("rate_30.mp4", "30 frames a second", 1)
def _rate_30(path: Path) -> None:
    write_film(path, walk(90), time_base=Fraction(1, 30))


@KINDS.add("rate_60.mp4", "60 frames a second", 1)
def _rate_60(path: Path) -> None:
    write_film(path, walk(180), time_base=Fraction(1, 60))


@KINDS.add("ntsc.mp4", "23.976 frames a second", 1)
def _ntsc(path: Path) -> None:
    write_film(path, walk(), time_base=Fraction(1001, 24000))


@KINDS.add("interlaced.mp4", "two half pictures in each frame", 1, flags="interlaced")
def _interlaced(path: Path) -> None:
    write_film(path, walk(), options={"flags": "+ildct+ilme", "x264-params": "interlaced=1"})


@KINDS.add("old.avi", "MPEG-4 part 2 in an AVI", 1)
def _old(path: Path) -> None:
    write_film(path, walk(), codec="mpeg4", container="avi", options={"qscale": "4"})


@KINDS.add("naïve señor 日本 Ж.mp4", "a name in four scripts", 1)
def _unicode(path: Path) -> None:
    write_film(path, walk())


@KINDS.add('it\'s, "quoted".mp4', "quotes and a comma in its name", 1)
def _quoted(path: Path) -> None:
    write_film(path, walk())


@KINDS.add("two\nlines %d.mp4", "a line break in its name, and what looks like a pattern", 1)
def _newline(path: Path) -> None:
    write_film(path, walk())


@KINDS.add("-dash.mp4", "begins like an option", 1)
def _dash(path: Path) -> None:
    write_film(path, walk())


@KINDS.add("truth.MP4", "capital letters in its ending", 1)
def _capitals(path: Path) -> None:
    write_film(path, walk())
