// One result, large: to play, with its settings, what led to it, what came of it, and where to go on from here.

import * as api from "./api.js";
import { button, element, note, words } from "./elements.js";
import { forget, isOver, known } from "./gallery.js";

const dialog = document.querySelector("#detail");
const VERBS = {
  video_continuation: "Continue",
  inpainting: "Replace a part",
  outpainting: "Extend the picture",
  stylization: "Paint anew",
  video_to_audio: "Hear it",
  video_captioning: "Describe it",
  image_to_video: "Bring to life",
  audio_to_video: "See it",
  audio_video_continuation: "Go on with its sound",
};

dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => dialog.replaceChildren());

/** Open a job; `goOn(task, media)` begins a new request from it, and `again(job)` the same one. */
export async function open(id, tasks, goOn, again) {
  let job = known.get(id);
  try {
    job = await api.job(id);
  } catch (error) {
    return note(error.message);
  }
  const reopen = (other) => open(other, tasks, goOn, again);
  dialog.replaceChildren(
    element("div", { class: "stage" }, await player(job)),
    element(
      "div",
      { class: "about" },
      element("div", { class: "row between" }, element("h2", { text: job.prompt ?? words(job.task) }), button("Close", () => dialog.close(), "quiet")),
      ...job.warnings.map((warning) => element("p", { class: "warning", text: warning })),
      job.error && element("p", { class: "warning", text: job.error.message }),
      actions(job, tasks, goOn, again),
      tree(job, reopen),
      settings(job),
    ),
  );
  if (!dialog.open) dialog.showModal();
}

async function player(job) {
  if (job.status !== "completed") return element("p", { class: "waiting", text: isOver(job) ? job.status : `${words(job.status)}, ${job.progress}%` });
  if (job.kind === "text") return element("blockquote", { text: job.text });
  const src = await api.media(job.id);
  if (job.kind === "image") return element("img", { src, alt: job.prompt ?? "" });
  if (job.kind === "audio") return element("audio", { src, controls: true, autoplay: true });
  return element("video", { src, controls: true, autoplay: true, loop: true, playsinline: true });
}

function actions(job, tasks, goOn, again) {
  const row = element("div", { class: "actions" });
  const close = (act) => () => {
    dialog.close();
    act();
  };
  if (job.status === "completed") {
    const verbs = Object.keys(VERBS);
    const rank = (task) => (verbs.indexOf(task.name) + verbs.length + 1) % (verbs.length + 1); // unnamed ones last
    for (const task of tasks.filter((one) => one.available).sort((one, other) => rank(one) - rank(other))) {
      const needs = task.requires.filter((name) => name !== "prompt");
      const has = { video: ["video", "image", ...(job.variants.includes("audio") ? ["audio"] : [])], image: ["image"], audio: ["audio"], text: [] }[job.kind];
      if (!needs.length || !needs.every((name) => has.includes(name))) continue;
      const media = Object.fromEntries(needs.map((name) => [name, { id: job.id, kind: name === "audio" ? job.kind : name === "image" ? "image" : job.kind }]));
      row.append(button(VERBS[task.name] ?? words(task.name), close(() => goOn(task, media)), task.name === "video_continuation" ? "primary" : ""));
    }
  }
  const files = element("div", { class: "actions" });
  files.append(button(job.task === "movie" ? "Edit the storyboard" : "Same again", close(() => again(job))));
  if (job.status === "completed") {
    files.append(button("Download", () => download(job)));
  } else if (!isOver(job)) {
    files.append(button("Cancel", close(() => api.cancel(job.id).catch((error) => note(error.message)))));
  }
  const remove = button("Delete", () => {
    if (remove.dataset.sure) api.remove(job.id).then(close(() => forget(job.id)), (error) => note(error.message));
    remove.dataset.sure = "yes";
    remove.textContent = "Really delete?";
  }, "danger");
  files.append(remove);
  return element("div", { class: "ways" }, element("h3", { text: row.childElementCount ? "Go on from here" : "" }), row, files);
}

async function download(job) {
  const suffix = { video: "mp4", image: "png", audio: "wav", text: "txt" }[job.kind];
  element("a", { href: await api.media(job.id), download: `${(job.prompt ?? job.task).slice(0, 40).replace(/[^\w ]/g, "")}-${job.seed}.${suffix}` }).click();
}

/** What this came from, and all that came of the same source and of this: takes. */
function tree(job, reopen) {
  const all = [...known.values()].filter((one) => one.status === "completed");
  const strip = (title, jobs) =>
    jobs.length ? element("div", { class: "strip" }, element("h3", { text: title }), element("div", { class: "takes" }, ...jobs.map((one) => take(one, job, reopen)))) : null;
  const path = [];
  for (let one = known.get(job.parent_id); one && path.length < 20; one = known.get(one.parent_id)) path.unshift(one);
  return element(
    "div",
    { class: "tree" },
    strip("Came from", path),
    strip("Takes from the same beginning", job.parent_id ? all.filter((one) => one.parent_id === job.parent_id && one.task === job.task) : []),
    strip("Went on to", all.filter((one) => one.parent_id === job.id)),
  );
}

function take(job, current, reopen) {
  const made = element("button", { type: "button", class: "take", "aria-current": job.id === current.id ? "true" : null, click: () => reopen(job.id), "aria-label": `${words(job.task)}, seed ${job.seed}` });
  if (!["video", "image"].includes(job.kind)) return made.append(element("span", { text: job.kind === "audio" ? "♪" : "“ ”" })), made;
  api.media(job.id).then((address) =>
    made.append(job.kind === "video" ? element("video", { src: address, muted: true, autoplay: true, loop: true, playsinline: true }) : element("img", { src: address, alt: "" })),
  );
  return made;
}

function settings(job) {
  const rows = { task: words(job.task), seed: job.seed, size: job.kind === "video" || job.kind === "image" ? job.size : null, seconds: job.seconds, model: job.model, ...job.settings, ...job.metadata };
  const shown = Object.entries(rows).filter(([name, value]) => value !== null && value !== undefined && !["prompt", "generator", "width", "height", "storyboard"].includes(name));
  return element(
    "details",
    { class: "settings" },
    element("summary", { text: "How it was made" }),
    element("dl", {}, ...shown.flatMap(([name, value]) => [element("dt", { text: words(name) }), element("dd", { text: typeof value === "object" ? JSON.stringify(value) : words(String(value)) })])),
  );
}

