// The form of a task, drawn from what the server says of it: its inputs, then its settings.

import * as api from "./api.js";
import { button, element, note, words } from "./elements.js";
import { paint } from "./painter.js";

const ACCEPT = { image: "image/*", video: "video/*,image/gif", audio: "audio/*,video/*", depth: "image/*,video/*" };
const HINTS = {
  prompt: "What should be seen and heard?",
  negative_prompt: "What to stay away from",
  image: "Drop a picture here, or choose one",
  video: "Drop a clip here, or choose one",
  audio: "Drop a sound here, or choose one",
  depth: "Drop a picture or clip of the depth",
};
const LABELS = {
  guidance_scale: "Closeness to the words",
  top_p: "Likeliest tokens (share)",
  top_k: "Likeliest tokens (number)",
  start: "Begin at second",
  seconds: "Seconds",
  sound: "With sound",
  metadata: "Keep in the file how it was made",
};

/** What a person has put in; it outlives a change of task, where the other task takes it too. */
export const given = { fields: {}, files: {} };

/** Give a medium to a field: `{file}` of this machine or `{id, kind}` of a result. */
export function give(name, medium) {
  given.files[name] = medium;
  if (name === "video") delete given.files.mask;
}

/** Draw a task's form into `form`; `submit(fields, files, takes)` is called with what fits the task. */
export function draw(form, task, submit) {
  const redraw = () => draw(form, task, submit);
  const settings = task.settings.map((setting) => settingField(setting));
  const takes = element(
    "select",
    { "aria-label": "How many takes" },
    ...[1, 2, 4].map((count) => element("option", { value: String(count), text: count === 1 ? "1 take" : `${count} takes` })),
  );
  const make = element("button", { class: "primary", text: task.available ? "Make it" : "Not in this model", disabled: !task.available });
  const inputs = task.inputs.filter((input) => input.name !== "box" && input.name !== "depth");
  const rare = task.inputs.filter((input) => input.name === "depth").map((input) => inputField(input, task, redraw));
  form.replaceChildren(
    element("p", { class: "what", text: task.description }),
    ...inputs.map((input) => inputField(input, task, redraw)),
    element(
      "details",
      { class: "settings", open: form.querySelector("details")?.open },
      element("summary", { text: "Settings" }),
      element("div", { class: "grid" }, ...rare, ...settings),
    ),
    element("div", { class: "go" }, make, takes),
  );
  form.onsubmit = (event) => {
    event.preventDefault();
    const { fields, files, missing } = collect(task);
    if (missing) return note(`${words(task.name)} needs ${missing === "prompt" ? "words" : `a ${missing}`}; give it first.`);
    submit({ task: task.name, ...fields }, files, Number(takes.value));
  };
}

/** The tasks' names for what a file of this machine could be given to. */
export function kindOf(file) {
  const [kind, format] = file.type.split("/");
  if (format === "gif") return "video";
  return ["image", "video", "audio"].includes(kind) ? kind : null;
}

function collect(task) {
  const names = [...task.inputs, ...task.settings].map((one) => one.name);
  const fields = Object.fromEntries(Object.entries(given.fields).filter(([name, value]) => names.includes(name) && value !== "" && value !== null));
  const files = Object.fromEntries(Object.entries(given.files).filter(([name]) => names.includes(name)));
  if (files.mask) delete fields.mask;
  if (!fields.prompt) for (const name of ["negative_prompt", "guidance_scale"]) delete fields[name];
  const missing = task.requires.find((name) => !(name in fields) && !(name in files));
  return { fields, files, missing };
}

function inputField(input, task, redraw) {
  if (input.kind === "text") return textField(input, HINTS.prompt, "prompt");
  if (input.kind === "region") return maskField(input, task, redraw);
  return dropField(input, redraw);
}

function textField(field, hint, kind = "") {
  return element(
    "label",
    { class: `field ${kind}` },
    element("span", { text: words(field.name) + (field.required || kind !== "prompt" ? "" : " (if you like)") }),
    element("textarea", {
      name: field.name,
      rows: kind === "prompt" ? 3 : 2,
      maxlength: 2000,
      placeholder: hint ?? "",
      value: given.fields[field.name] ?? "",
      input: (event) => (given.fields[field.name] = event.target.value.trim()),
      keydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit();
      },
    }),
  );
}

function dropField(input, redraw) {
  const medium = given.files[input.name];
  const chooser = element("input", {
    type: "file",
    accept: ACCEPT[input.name] ?? "",
    "aria-label": words(input.name),
    change: (event) => {
      if (event.target.files[0]) give(input.name, { file: event.target.files[0], kind: kindOf(event.target.files[0]) });
      redraw();
    },
  });
  const zone = element("div", { class: "drop", "data-input": input.name });
  if (medium) {
    const clear = button("Remove", () => (delete given.files[input.name], redraw()), "quiet");
    zone.append(preview(medium, input.name), element("span", { class: "name", text: medium.file?.name ?? "a result of yours" }), clear);
    zone.classList.add("filled");
  } else {
    zone.append(element("label", { class: "choose" }, chooser, element("span", { text: HINTS[input.name] ?? words(input.name) })));
  }
  for (const kind of ["dragenter", "dragover"]) zone.addEventListener(kind, () => zone.classList.add("over"));
  for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, () => zone.classList.remove("over"));
  return element("div", { class: "field" }, element("span", { text: words(input.name) + (input.required ? "" : " (if you like)") }), zone);
}

function preview(medium, name) {
  const place = element("div", { class: "preview" });
  const url = medium.file ? Promise.resolve(URL.createObjectURL(medium.file)) : api.media(medium.id, name === "image" && medium.kind === "video" ? "thumbnail" : "video");
  url.then(
    (address) => {
      const kind = name === "image" ? "image" : medium.kind;
      if (kind === "image") place.append(element("img", { src: address, alt: "" }));
      else if (kind === "audio") place.append(element("audio", { src: address, controls: true }));
      else place.append(element("video", { src: address, muted: true, autoplay: true, loop: true, playsinline: true }));
    },
    (error) => note(error.message),
  );
  return place;
}

function maskField(input, task, redraw) {
  const painted = given.files.mask;
  const keeps = task.name === "outpainting";
  const choice = element(
    "select",
    { name: "mask", disabled: Boolean(painted), change: (event) => (given.fields.mask = event.target.value) },
    element("option", { value: "", text: keeps ? "keep the middle" : "the middle" }),
    ...input.choices.filter((name) => name !== "central").map((name) => element("option", { value: name, text: words(name), selected: given.fields.mask === name })),
  );
  const open = button(painted ? "Paint again" : "Paint it", async () => {
    const video = given.files.video;
    if (!video) return note("Choose the clip first; then paint on it.");
    const start = task.settings.some((one) => one.name === "start") ? Number(given.fields.start) : 0;
    const title = keeps ? "Paint what is made new; the rest is kept" : "Paint what to replace";
    const blob = await paint(video, title, start || 0).catch((error) => note(error.message));
    if (blob) give("mask", { file: blob, kind: "image" });
    redraw();
  });
  const row = element("div", { class: "row" }, choice, open);
  if (painted) row.append(preview(painted, "image"), button("Remove", () => (delete given.files.mask, redraw()), "quiet"));
  return element("div", { class: "field" }, element("span", { text: keeps ? "What is kept" : "What is replaced" }), row);
}

function settingField(setting) {
  const { name } = setting;
  const label = LABELS[name] ?? words(name);
  const remember = (value) => (given.fields[name] = value);
  if (setting.kind === "text") return textField(setting, HINTS[name]);
  if (setting.kind === "switch") {
    const box = element("input", { type: "checkbox", checked: given.fields[name] !== "false", change: (event) => remember(event.target.checked ? null : "false") });
    return element("label", { class: "field switch" }, box, element("span", { text: label }));
  }
  let control;
  if (setting.kind === "choice") {
    const usual = setting.default === null ? "as the model likes" : `${setting.default} (usual)`;
    control = element(
      "select",
      { change: (event) => remember(event.target.value) },
      element("option", { value: "", text: usual }),
      ...setting.choices.filter((one) => one !== setting.default).map((one) => element("option", { value: String(one), text: words(String(one)), selected: given.fields[name] === String(one) })),
    );
  } else {
    control = element("input", {
      type: "number",
      min: setting.least,
      max: setting.most,
      step: setting.kind === "whole" ? 1 : "any",
      placeholder: name === "seed" ? "any" : setting.default === null ? "" : String(setting.default),
      value: given.fields[name] ?? "",
      input: (event) => remember(event.target.value),
    });
  }
  return element("label", { class: "field" }, element("span", { text: label }), control);
}
