// Every job as a card: how far it is, then what it became.

import * as api from "./api.js";
import { element, note, words } from "./elements.js";
import { forgetFrames, reel, takeFrames } from "./reel.js";

const cards = new Map();
const place = document.querySelector("#gallery");
let openDetail = () => {};

/** Say what opening a card does. */
export function onOpen(open) {
  openDetail = open;
}

/** All jobs that are shown, by id. */
export const known = new Map();

/** Show jobs: new ones before the others, older ones after them. */
export function show(jobs, { older = false } = {}) {
  for (const job of jobs) {
    if (!cards.has(job.id)) {
      const card = element("article", { class: "card", "data-id": job.id });
      cards.set(job.id, card);
      if (older) place.append(card);
      else place.prepend(card);
    }
    update(job);
  }
  tellIfEmpty();
}

/** Take a job's card away. */
export function forget(id) {
  cards.get(id)?.remove();
  cards.delete(id);
  known.delete(id);
  forgetFrames(id);
  tellIfEmpty();
}

export const isOver = (job) => ["completed", "failed", "cancelled"].includes(job.status);

function tellIfEmpty() {
  document.querySelector("#empty").hidden = cards.size > 0;
}

/** Keep the cards true for as long as the page is open; jobs that begin elsewhere appear too. */
export async function watch() {
  const opened = Date.now() / 1000 - 5;
  for (;;) {
    try {
      const change = (job) => (cards.has(job.id) ? update(job) : job.created_at > opened && show([job]));
      await api.follow(change, showFrames, forget);
    } catch {
      // the server is being started again, perhaps; the page says so by its state
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** Show frames of a job that is being made; the first of them take the place of the large number. */
async function showFrames(event) {
  await takeFrames(event);
  if (known.get(event.id)?.status !== "in_progress") return forgetFrames(event.id);
  const box = cards.get(event.id)?.querySelector(".face");
  if (!box || box.querySelector("canvas")) return;
  box.classList.add("early");
  box.prepend(reel(event.id));
}

function update(job) {
  const before = known.get(job.id);
  known.set(job.id, job);
  const card = cards.get(job.id);
  if (!card || (before && before.status === job.status && before.progress === job.progress && before.queue_position === job.queue_position && card.childElementCount)) return;
  card.dataset.status = job.status;
  if (before?.status === "in_progress" && job.status === "in_progress") {
    card.querySelector("progress").value = job.progress;
    card.querySelector(".share").textContent = `${job.progress}%`;
    return;
  }
  if (job.status !== "in_progress") forgetFrames(job.id);
  card.replaceChildren(face(job), caption(job));
}

function caption(job) {
  const title = job.prompt ?? words(job.task);
  const facts = [words(job.task), job.kind === "video" || job.kind === "audio" ? `${Number(job.seconds).toFixed(1)} s` : null];
  return element(
    "button",
    { type: "button", class: "caption", click: () => openDetail(job.id), "aria-label": `${title}: ${job.status.replace("_", " ")}` },
    element("strong", { text: title }),
    element("small", { text: facts.filter(Boolean).join(" · ") }),
  );
}

function face(job) {
  const box = element("div", { class: "face", click: () => openDetail(job.id) });
  if (job.status === "queued") {
    const before = job.queue_position;
    box.append(element("p", { class: "waiting", text: before ? `waiting, ${before} before it` : "next in line" }));
  } else if (job.status === "in_progress") {
    box.append(
      element("p", { class: "share", text: `${job.progress}%` }),
      element("progress", { max: 100, value: job.progress, "aria-label": "How far it is" }),
    );
  } else if (job.status === "failed") box.append(element("p", { class: "failed", text: job.error.message }));
  else if (job.status === "cancelled") box.append(element("p", { class: "waiting", text: "cancelled" }));
  else if (job.kind === "text") box.append(element("blockquote", { text: job.text }));
  else if (job.kind === "audio") box.append(element("p", { class: "sound", text: "♪" }));
  else picture(box, job);
  return box;
}

function picture(box, job) {
  const image = element("img", { alt: job.prompt ?? words(job.task), loading: "lazy" });
  box.append(image);
  api.media(job.id, "thumbnail").then(
    (address) => (image.src = address),
    (error) => note(error.message),
  );
  if (job.kind !== "video") return;
  let video = null;
  const play = async () => {
    video ??= element("video", { muted: true, loop: true, playsinline: true, src: await api.media(job.id) });
    if (!video.isConnected) box.append(video);
    video.play().catch(() => {});
  };
  box.parentElement?.addEventListener("focusin", play);
  box.addEventListener("pointerenter", () => play().catch(() => {}));
  box.addEventListener("pointerleave", () => video?.remove());
}
