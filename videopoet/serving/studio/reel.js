// Frames of a clip that is still being made: kept as they come, and played in a loop that grows.

import { element } from "./elements.js";

const reels = new Map();
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Keep the frames of an event; the promise is kept once they can be drawn. */
export function takeFrames(event) {
  const strip = new Image();
  strip.src = event.image;
  const known = reels.get(event.id) ?? { frames: [] };
  reels.set(event.id, known);
  known.rate = event.frame_rate;
  // Where a job is made anew, its frames begin anew.
  known.frames = known.frames.filter((frame) => frame.index < event.first);
  for (let number = 0; number < event.num_frames; number++) {
    known.frames.push({ index: event.first + number, strip, left: number * event.width, width: event.width, height: event.height });
  }
  return strip.decode();
}

/** Let go of the frames of a job. */
export function forgetFrames(id) {
  reels.delete(id);
}

/** A canvas that plays what there is of a job, for as long as it is on the page; who wants no motion sees the latest. */
export function reel(id) {
  const canvas = element("canvas", { role: "img", "aria-label": "The frames that there are so far" });
  const pen = canvas.getContext("2d");
  let began = null;
  let shown = null;
  const draw = (now) => {
    if (began !== null && !canvas.isConnected) return;
    began ??= now;
    const { frames, rate } = reels.get(id) ?? { frames: [] };
    const ready = frames.filter((frame) => frame.strip.complete);
    const at = still.matches ? ready.length - 1 : Math.floor(((now - began) / 1000) * rate) % ready.length;
    const frame = ready[at];
    if (frame && frame !== shown) {
      if (canvas.width !== frame.width || canvas.height !== frame.height) Object.assign(canvas, { width: frame.width, height: frame.height });
      pen.drawImage(frame.strip, frame.left, 0, frame.width, frame.height, 0, 0, frame.width, frame.height);
      Object.assign(canvas.dataset, { frames: ready.length, shown: frame.index });
      shown = frame;
    }
    requestAnimationFrame(draw);
  };
  requestAnimationFrame(draw);
  return canvas;
}
