"""MiraData's tables, by the header of the published sample of v0 and by what the scripts read of v1."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.curate.sources.base import BadRow
from mpgen.data.curate.sources.mira import MiraV0, MiraV1, parse_timestamp
from mpgen.errors import UserError

V0_HEADER = (
    "index,video_id,start_frame,end_frame,main_object_caption,background_caption,style_caption,camera_caption,"
    "short_caption,dense_caption,fps,start_timestep,end_timestep,,\r\n"
)
V0_ROW = (
    "000000008783_AJp_ANXoGoM-000114,AJp_ANXoGoM,163272,166872,a train,a station,plain,still,"
    '"A group of people, looking at cars on display."," dense, as in the sample",30,1:30:42,1:32:42,,\r\n'
)
V0_CUT = "miradata/clip_video/000000008/000000008783_AJp_ANXoGoM-000114.mp4"
V0_RAW = "miradata/raw_video/000000008/000000008783_AJp_ANXoGoM.mp4"
BLANK = ",,,,,,,,,,,,,,\r\n"


def v0_row(index: str = "000000000012_bFPlCi36RSQ-000003", first: str = "30", last: str = "90", fps: str = "30") -> str:
    return f"{index},bFPlCi36RSQ,{first},{last},a,b,c,d,e,f,{fps},0:00:01,0:00:03,,\r\n"


def test_v0_reads_the_published_header_with_its_last_row_of_commas(read_source, touch):
    found, rejects = read_source(MiraV0(), V0_HEADER + V0_ROW + BLANK, touch(V0_CUT))
    assert rejects == []
    clip = found[0].clip
    assert clip.captions == {
        "short": "A group of people, looking at cars on display.",
        "dense": "dense, as in the sample",
        "main_object": "a train",
        "background": "a station",
        "style": "plain",
        "camera": "still",
    }
    assert (clip.clip_id, clip.video_id, clip.row) == ("000000008783_AJp_ANXoGoM-000114", "AJp_ANXoGoM", 2)
    assert found[0].seconds == 120.0


def test_v0_takes_the_cut_clip_whole_and_before_the_raw_video(read_source, touch):
    root = touch(V0_CUT, V0_RAW)
    clip = read_source(MiraV0(), V0_HEADER + V0_ROW, root)[0][0].clip
    assert clip.path == str(root / V0_CUT)
    assert (clip.start_seconds, clip.end_seconds) == (0.0, None)


def test_v0_takes_the_span_of_the_raw_video_where_no_clip_was_cut(read_source, touch):
    """The official script cuts only the first clip of every video."""
    root = touch(V0_RAW)
    clip = read_source(MiraV0(), V0_HEADER + V0_ROW, root)[0][0].clip
    assert clip.path == str(root / V0_RAW)
    assert (clip.start_seconds, clip.end_seconds) == (163272 / 30, 166872 / 30)


@pytest.mark.parametrize("name", ["000000008783_AJp_ANXoGoM-000114.mp4", "deep/er/AJp_ANXoGoM.MKV", "AJp_ANXoGoM.webm"])
def test_v0_finds_other_containers_in_other_folders(read_source, touch, name):
    root = touch(name, "AJp_ANXoGoM.jpg", "AJp_ANXoGoM.mp4.part")
    assert read_source(MiraV0(), V0_HEADER + V0_ROW, root)[0][0].clip.path == str(root / name)


@pytest.mark.parametrize("fps", ["29.97", "29.97002997", "23.97602398", "25", "29.895"])
def test_v0_seconds_are_frames_by_the_rows_own_rate(read_source, touch, fps):
    found, _ = read_source(MiraV0(), V0_HEADER + v0_row(first="100", last="2500", fps=fps), touch("bFPlCi36RSQ.mp4"))
    assert found[0].clip.start_seconds == 100 / float(fps)
    assert found[0].clip.end_seconds == 2500 / float(fps)


def test_v0_a_clip_of_a_video_that_is_not_there_says_what_was_looked_for(read_source, touch):
    found, rejects = read_source(MiraV0(), V0_HEADER + V0_ROW, touch())
    assert found == []
    assert (rejects[0].row, rejects[0].video, rejects[0].reason) == (2, "000000008783_AJp_ANXoGoM-000114", "missing")
    assert "000000008783_AJp_ANXoGoM" in rejects[0].detail


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        (v0_row(index="12_bFPlCi36RSQ"), "bad_id", "000000008783_AJp_ANXoGoM-000114"),
        (v0_row(index=""), "bad_id", "''"),
        (v0_row(first="soon"), "bad_number", "start_frame is 'soon'"),
        (v0_row(last=""), "bad_number", "end_frame is ''"),
        (v0_row(last="nan"), "bad_number", "end_frame is 'nan'"),
        (v0_row(first="-1"), "bad_number", "start_frame is '-1'"),
        (v0_row(fps="0"), "bad_number", "fps is 0"),
        (v0_row(fps="30 fps"), "bad_number", "fps is '30 fps'"),
        (v0_row(first="90", last="30"), "bad_span", "end 1 s is not after start 3 s"),
        ("000000000012_bFPlCi36RSQ-000003,bFPlCi36RSQ,30\r\n", "wrong_columns", "has 3 cells, wanted 13"),
        (v0_row().replace(",,\r\n", ",,,more\r\n"), "wrong_columns", "comma needs quotes"),
    ],
)
def test_v0_a_bad_row_is_told_and_the_others_are_kept(read_source, touch, row, reason, said):
    good = v0_row(index="000000000012_bFPlCi36RSQ-000004")
    found, rejects = read_source(MiraV0(), V0_HEADER + row + good, touch("bFPlCi36RSQ.mp4"))
    assert [found[0].clip.row, rejects[0].row] == [3, 2]
    assert rejects[0].reason == reason
    assert said in rejects[0].detail


def test_of_rows_with_one_id_the_first_that_can_be_read_is_used(read_source, touch):
    content = V0_HEADER + v0_row(fps="") + v0_row(last="60") + v0_row(last="90")
    found, rejects = read_source(MiraV0(), content, touch("bFPlCi36RSQ.mp4"))
    assert [item.clip.end_seconds for item in found] == [2.0]
    assert [(item.row, item.reason) for item in rejects] == [(2, "bad_number"), (4, "duplicate")]
    assert rejects[1].detail == "the same clip as row 3"


def test_v0_is_told_from_v1(read_source, touch):
    with pytest.raises(UserError, match="has no column index, start_frame, end_frame; its columns are clip_id"):
        read_source(MiraV0(), V1_HEADER, touch())
    with pytest.raises(UserError, match="has no column clip_id, timestamp"):
        read_source(MiraV1(), V0_HEADER, touch())


V1_HEADER = (
    "clip_id,source,video_url,video_id,width,height,fps,seconds,timestamp,frame_number,framestamp,file_path,"
    "short_caption,dense_caption,background_caption,main_object_caption,camera_caption,style_caption\n"
)
TIMESTAMP = "['00:05:24.357', '00:06:24.351']"


def v1_row(clip_id: str, file_path: str = "", timestamp: str = TIMESTAMP, video_id: str = "bFPlCi36RSQ") -> str:
    return f'{clip_id},youtube,u,{video_id},1280,720,30,60,"{timestamp}",1800,"[1, 2]",{file_path},s,d,b,m,c,y\n'


def test_v1_ids_are_text_so_12_1_is_not_12_10(read_source, touch):
    root = touch("raw_video/000000000/000000000012.mp4")
    content = V1_HEADER + v1_row("12.1") + v1_row("12.10", timestamp="['00:00:01', '00:00:09.5']")
    found, rejects = read_source(MiraV1(), content, root)
    assert rejects == []
    assert [item.clip.clip_id for item in found] == ["12.1", "12.10"]
    assert len({item.clip.uid for item in found}) == 2
    assert found[0].clip.start_seconds == pytest.approx(324.357)
    assert found[1].clip.end_seconds == 9.5
    assert found[0].clip.captions == {
        "short": "s", "dense": "d", "background": "b", "main_object": "m", "camera": "c", "style": "y"
    }  # fmt: skip


@pytest.mark.parametrize("given", ["a/12_1.mp4", "./a/12_1.mp4", "/a/12_1.mp4", "a\\12_1.mp4"])
def test_v1_takes_the_clip_of_its_file_path_before_the_raw_video(read_source, touch, given):
    root = touch("miradata/clip_video/a/12_1.mp4", "miradata/raw_video/000000000/000000000012.mp4")
    clip = read_source(MiraV1(), V1_HEADER + v1_row("12.1", given), root)[0][0].clip
    assert clip.path == str(root / "miradata/clip_video/a/12_1.mp4")
    assert (clip.start_seconds, clip.end_seconds) == (0.0, None)


def test_v1_a_clip_numbered_like_a_raw_video_is_not_taken_for_it(read_source, touch):
    root = touch("clip_video/000000000/000000000012.mp4")
    found, rejects = read_source(MiraV1(), V1_HEADER + v1_row("12.1", "elsewhere/12_1.mp4"), root)
    assert (found, rejects[0].reason) == ([], "missing")


def test_v1_the_root_may_be_the_folder_of_raw_videos_itself(read_source, touch):
    root = touch("raw_video/000000012/000000012345.mp4")
    found, _ = read_source(MiraV1(), V1_HEADER + v1_row("12345.7"), root / "raw_video")
    assert found[0].clip.path.endswith("/raw_video/000000012/000000012345.mp4")


def test_v1_clips_of_stock_sites_without_a_video_id_go_by_their_download(read_source, touch):
    root = touch("raw_video/000000000/000000000012.mp4")
    found, _ = read_source(MiraV1(), V1_HEADER + v1_row("12.1", video_id=""), root)
    assert found[0].clip.video_id == "12"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("['00:05:24.357', '00:06:24.351']", 324.357, 384.351),
        ("['00:05:24', '00:06:24.3']", 324.0, 384.3),
        ('["1:00:00", "1:00:01."]', 3600.0, 3601.0),
        ("('00:00:00', '100:00:00')", 0.0, 360000.0),
    ],
)
def test_timestamps_are_lists_of_two_clocks(text, start, end):
    assert parse_timestamp(text) == (pytest.approx(start), pytest.approx(end))


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "['00:05:24.357'", "['00:05:24.357']", "['a', 'b']", "[1, 2]", "12", "['00:61:00', '01:00:00']",
        "['00:05:24.357', None]", "__import__('os').system('true')", "[" * 150, "[" * 90 + "]" * 90,
        "['00:00:01', '00:00:02', '00:00:03']", "['-0:00:01', '0:00:02']", "[{}] * 2", "['1:00', '2:00']",
    ],
)  # fmt: skip
def test_a_wrong_timestamp_is_a_bad_row_and_runs_nothing(text):
    with pytest.raises(BadRow) as caught:
        parse_timestamp(text)
    assert caught.value.args[0] == "bad_timestamp"


@given(text=st.text(max_size=250))
def test_any_text_is_a_timestamp_or_a_bad_row(text):
    try:
        start, end = parse_timestamp(text)
    except BadRow:
        return
    assert math.isfinite(start)
    assert math.isfinite(end)


@given(milliseconds=st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)))
def test_a_clock_gives_back_its_milliseconds(milliseconds):
    clocks = [f"{n // 3_600_000:02d}:{n // 60_000 % 60:02d}:{n // 1000 % 60:02d}.{n % 1000:03d}" for n in milliseconds]
    assert [round(seconds * 1000) for seconds in parse_timestamp(repr(clocks))] == list(milliseconds)


names = st.text(st.sampled_from("abzAZ019_-"), min_size=11, max_size=11)


@given(download=st.integers(0, 10**7), video_id=names, clip=st.integers(0, 999_999))
def test_v0_ids_with_any_dashes_and_underscores_are_taken_apart(download, video_id, clip):
    cells = dict.fromkeys(["video_id"], "") | {"start_frame": "0", "end_frame": "1", "fps": "1"}
    listing = MiraV0().parse(cells | {"index": f"{download:012d}_{video_id}-{clip:06d}"})
    assert listing.video_id == video_id
    assert listing.raw[0] == f"{download:012d}_{video_id}"
