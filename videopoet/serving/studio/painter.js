// A mask painted on the first frame that is used of a clip: white where something is to be made.

import * as api from "./api.js";
import { button, element } from "./elements.js";

const SIDE = 512;

/** Let a person paint on the frame at `start` seconds; a PNG with the shape of the clip, or null when they change their mind. */
export async function paint(medium, title, start = 0) {
  const dialog = document.querySelector("#painter");
  const video = element("video", { muted: true, playsinline: true, preload: "auto" });
  video.src = medium.file ? URL.createObjectURL(medium.file) : await api.media(medium.id);
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error("This clip cannot be shown here; choose a region by its name."));
  });
  if (start > 0) await seek(video, start);
  const scale = SIDE / Math.max(video.videoWidth, video.videoHeight);
  const size = { width: Math.round(video.videoWidth * scale), height: Math.round(video.videoHeight * scale) };
  const picture = element("canvas", size);
  picture.getContext("2d").drawImage(video, 0, 0, size.width, size.height);
  const mask = element("canvas", { ...size, class: "mask", tabindex: 0, "aria-label": "Paint here" });
  const context = mask.getContext("2d");
  context.fillStyle = context.strokeStyle = "#fff";
  context.lineCap = context.lineJoin = "round";
  const width = element("input", { type: "range", min: 10, max: 160, value: "70", "aria-label": "Width of the brush" });

  let last = null;
  const at = (event) => {
    const box = mask.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * size.width, ((event.clientY - box.top) / box.height) * size.height];
  };
  mask.addEventListener("pointerdown", (event) => {
    mask.setPointerCapture(event.pointerId);
    last = at(event);
    stroke(event);
  });
  mask.addEventListener("pointermove", (event) => last && stroke(event));
  for (const end of ["pointerup", "pointercancel"]) mask.addEventListener(end, () => (last = null));
  function stroke(event) {
    context.lineWidth = Number(width.value);
    context.beginPath();
    context.moveTo(...last);
    last = at(event);
    context.lineTo(last[0] + 0.01, last[1]);
    context.stroke();
  }

  return new Promise((resolve) => {
    const done = (value) => {
      dialog.onclose = null;
      dialog.close();
      resolve(value);
    };
    const whole = () => {
      const out = element("canvas", size);
      const drawn = out.getContext("2d");
      drawn.fillRect(0, 0, size.width, size.height);
      drawn.drawImage(mask, 0, 0);
      out.toBlob(done, "image/png");
    };
    const clear = () => context.clearRect(0, 0, size.width, size.height);
    dialog.replaceChildren(
      element("h2", { text: title }),
      element("div", { class: "stack" }, picture, mask),
      element("label", { class: "field" }, element("span", { text: "Brush" }), width),
      element("div", { class: "row end" }, button("Clear", clear, "quiet"), button("Cancel", () => done(null)), button("Use it", whole, "primary")),
    );
    dialog.onclose = () => resolve(null);
    dialog.showModal();
    mask.focus();
  });
}

/** Show the frame that is on screen at `start` seconds, which is the first one that the server uses. */
async function seek(video, start) {
  if (start >= video.duration) {
    throw new Error(`The clip ends after ${video.duration.toFixed(2)} seconds and is to begin at ${start}; choose an earlier second to paint on it.`);
  }
  await new Promise((resolve, reject) => {
    video.onseeked = resolve;
    video.onerror = () => reject(new Error(`This clip cannot be shown at ${start} seconds; choose a region by its name.`));
    video.currentTime = start + 1e-4; // a time that a frame begins at shows that frame, and not the one before
  });
}
