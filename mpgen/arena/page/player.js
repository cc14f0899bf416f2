// Two videos as one: they play, stop, seek and step together.

const SPEEDS = [0.25, 0.5, 1, 2];
const MAX_GAP_SECONDS = 0.1;
const WATCHED = 0.95; // of a video, played at any speed; the server allows for less

export class Player {
  constructor(left, right, changed) {
    this.videos = [left, right];
    this.changed = changed;
    this.speed = 1;
    this.loop = false;
    this.playing = false;
    this.fps = 24;
    const tick = () => { this.#follow(); this.changed(); requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
  }

  async show(urls, fps) {
    this.playing = false;
    this.fps = fps;
    await Promise.all(this.videos.map((video, i) => new Promise((resolve, reject) => {
      video.oncanplay = resolve;
      video.onerror = () => reject(new Error("This browser cannot play a video of this pair."));
      video.src = urls[i];
      video.load();
    })));
    this.play();
  }

  get ready() { return this.videos.every((video) => video.readyState >= 1 && video.duration > 0); }
  get longer() { return this.videos[this.videos[0].duration >= this.videos[1].duration ? 0 : 1]; }
  get duration() { return this.ready ? this.longer.duration : 0; }
  get time() { return this.ready ? this.longer.currentTime : 0; }

  get watched() {
    return this.ready && this.videos.every((video) => {
      let seconds = 0;
      for (let i = 0; i < video.played.length; i++) seconds += video.played.end(i) - video.played.start(i);
      return seconds >= WATCHED * video.duration;
    });
  }

  play() {
    if (this.time >= this.duration) this.seek(0);
    this.playing = true;
    for (const video of this.videos) if (video.currentTime < video.duration) this.#run(video);
  }

  pause() {
    this.playing = false;
    for (const video of this.videos) video.pause();
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  seek(seconds) {
    for (const video of this.videos) video.currentTime = Math.max(0, Math.min(seconds, video.duration));
    if (this.playing) this.play();
  }

  step(frames) {
    this.pause();
    const frame = Math.floor(this.time * this.fps + 1e-3) + frames;
    this.seek((Math.max(0, frame) + 0.5) / this.fps); // the middle of a frame: no rounding shows its neighbour
  }

  lastSeconds(seconds) { this.seek(Math.max(0, this.duration - seconds)); this.play(); }

  faster(by) {
    const at = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.max(0, Math.min(at, SPEEDS.length - 1))];
    for (const video of this.videos) video.playbackRate = this.speed;
  }

  nextSpeed() {
    if (this.speed === SPEEDS.at(-1)) this.faster(-SPEEDS.length); else this.faster(1);
  }

  // Neither runs ahead: the one that does waits for the other, so that on a slow machine, too, nothing is skipped.
  #follow() {
    if (!this.ready || !this.playing) return;
    if (this.videos.every((video) => video.ended)) {
      if (this.loop) this.play(); else this.pause();
      return;
    }
    if (this.videos.some((video) => video.seeking)) return;
    const [behind, ahead] = this.videos.filter((video) => !video.ended).sort((a, b) => a.currentTime - b.currentTime);
    this.#run(behind);
    if (!ahead) return;
    const gap = ahead.currentTime - behind.currentTime;
    behind.playbackRate = this.speed * (1 + Math.min(gap, 0.05));
    if (gap > MAX_GAP_SECONDS) ahead.pause(); else if (gap < MAX_GAP_SECONDS / 3) this.#run(ahead);
  }

  #run(video) {
    if (!video.paused) return;
    video.playbackRate = this.speed;
    video.play().catch((error) => { if (error.name === "NotAllowedError") this.pause(); });
  }
}
