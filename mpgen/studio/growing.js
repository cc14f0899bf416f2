// Plays videos while they are written: bytes go to the player as they come, which a plain <video src> would hold back.
"use strict";

const taken = new WeakSet();

function start() {
    for (const video of document.querySelectorAll("video[data-live]")) {
        if (taken.has(video)) continue;
        taken.add(video);
        play(video).catch(() => {});  // the page shows the finished video in any case
    }
}

async function play(video) {
    if (!window.MediaSource) {
        video.src = video.dataset.live;
        return;
    }
    const response = await fetch(video.dataset.live);
    if (!response.ok) return;
    const reader = response.body.getReader();
    const media = new MediaSource();
    video.src = URL.createObjectURL(media);
    await new Promise(done => media.addEventListener("sourceopen", done, {once: true}));
    let head = new Uint8Array(), buffer = null;
    while (video.isConnected) {
        const {done, value} = await reader.read();
        if (done) break;
        if (buffer) {
            await append(video, buffer, value);
            continue;
        }
        head = joined(head, value);
        const codec = codecOf(head);
        if (!codec) continue;
        buffer = media.addSourceBuffer(`video/mp4; codecs="${codec}"`);
        await append(video, buffer, head);
    }
    reader.cancel();
    if (media.readyState === "open") media.endOfStream();
}

// Waits where the player holds as much as it can, and forgets what was seen long ago.
async function append(video, buffer, bytes) {
    for (;;) {
        try {
            buffer.appendBuffer(bytes);
            break;
        } catch (error) {
            if (error.name !== "QuotaExceededError" || !video.isConnected) throw error;
            await new Promise(done => setTimeout(done, 1000));
        }
    }
    await ended(buffer);
    if (video.currentTime > 120) {
        buffer.remove(0, video.currentTime - 60);
        await ended(buffer);
    }
}

function ended(buffer) {
    return new Promise(done => buffer.addEventListener("updateend", done, {once: true}));
}

function joined(first, second) {
    const both = new Uint8Array(first.length + second.length);
    both.set(first);
    both.set(second, first.length);
    return both;
}

// The profile and level of H.264, as the file's head says them.
function codecOf(bytes) {
    for (let i = 0; i + 8 <= bytes.length; i++) {
        if (String.fromCharCode(...bytes.subarray(i, i + 4)) !== "avcC") continue;
        return "avc1." + [...bytes.subarray(i + 5, i + 8)].map(byte => byte.toString(16).padStart(2, "0")).join("");
    }
    return null;
}

new MutationObserver(start).observe(document, {subtree: true, childList: true});
start();
