// The page: tasks, the form, the gallery, and dropping files anywhere.

import * as api from "./api.js";
import * as detail from "./detail.js";
import { button, element, note, words } from "./elements.js";
import { draw, give, given, kindOf } from "./form.js";
import * as gallery from "./gallery.js";
import * as movie from "./movie.js";

const form = document.querySelector("#form");
const state = document.querySelector("#state");
const more = document.querySelector("#more");
const GROUPS = [
  ["From words", (task) => !task.requires.some((name) => name !== "prompt")],
  ["From a picture", (task) => task.requires.includes("image")],
  ["From a clip", (task) => task.requires.includes("video")],
  ["From a sound", (task) => task.requires.includes("audio") && !task.requires.includes("image")],
];
const MOVIE = { name: "movie", description: "Several scenes under a title, from an idea.", inputs: [], requires: [], available: true };
let tasks = [];
let current = null;

api.onMissingKey(
  () =>
    new Promise((resolve) => {
      const dialog = document.querySelector("#key");
      dialog.onclose = () => resolve(document.querySelector("#key-value").value);
      if (!dialog.open) dialog.showModal();
    }),
);
gallery.onOpen((id) => detail.open(id, tasks, goOn, again));

function drawTasks() {
  const place = document.querySelector("#tasks");
  const makesMovies = tasks.some((task) => task.name === "text_to_video" && task.available);
  place.replaceChildren(
    ...[...GROUPS, ["From a story", (task) => task === MOVIE && makesMovies]].map(([title, belongs]) =>
      element(
        "div",
        { class: "group" },
        element("h2", { text: title }),
        ...[...tasks, MOVIE].filter((task) => task !== MOVIE || title === "From a story").filter(belongs).map((task) => {
          const made = button(words(task.name), () => choose(task));
          made.disabled = !task.available;
          made.title = task.available ? task.description : "This model was not trained for it.";
          if (task === current) made.setAttribute("aria-current", "true");
          return made;
        }),
      ),
    ),
  );
}

function choose(task) {
  current = task;
  drawTasks();
  document.querySelector("#tasks [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (task === MOVIE) movie.draw(form, shown);
  else draw(form, task, submit);
}

async function submit(fields, files, takes) {
  try {
    const made = [];
    for (let number = 0; number < takes; number++) {
      const seed = fields.seed === undefined ? {} : { seed: String(BigInt(fields.seed) + BigInt(number)) };
      made.push(await api.create({ ...fields, ...seed }, files));
    }
    shown(...made);
  } catch (error) {
    note(error.message);
  }
}

function shown(...made) {
  gallery.show(made);
  document.querySelector("#gallery").scrollIntoView({ behavior: "smooth", block: "nearest" });
}

function goOn(task, media) {
  for (const name of Object.keys(given.files)) delete given.files[name];
  for (const [name, medium] of Object.entries(media)) give(name, medium);
  choose(task);
  document.querySelector(".composer").scrollIntoView({ behavior: "smooth" });
  form.querySelector("textarea")?.focus();
}

function again(job) {
  if (job.task === MOVIE.name) {
    movie.take(job);
    return choose(MOVIE);
  }
  const fields = { ...job.settings };
  const size = fields.width ? { size: `${fields.width}x${fields.height}` } : {};
  given.fields = Object.fromEntries(Object.entries({ ...fields, ...size }).map(([name, value]) => [name, String(value)]));
  choose(tasks.find((task) => task.name === job.task) ?? current);
  form.querySelector("textarea")?.focus();
}

function takeFile(file, target) {
  const kind = kindOf(file);
  if (!kind) return note(`${file.name} is no picture, clip or sound that a browser knows.`);
  const named = target?.closest?.(".drop")?.dataset.input;
  const takes = (task) => task.inputs.some((input) => input.name === kind);
  const task = named || takes(current) ? current : tasks.find((one) => one.available && one.requires.includes(kind));
  if (!task) return note(`This model has no task that begins with a ${kind}.`);
  give(named ?? kind, { file, kind });
  choose(task);
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) takeFile(event.dataTransfer.files[0], event.target);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) takeFile(event.clipboardData.files[0], null);
});

async function loadMore() {
  const shown = [...gallery.known.keys()];
  const oldest = document.querySelector("#gallery")?.lastElementChild?.dataset.id;
  const page = await api.jobs(shown.length ? oldest : undefined);
  gallery.show(page.data, { older: true });
  more.hidden = !page.has_more;
}
more.addEventListener("click", () => loadMore().catch((error) => note(error.message)));

async function watchState() {
  for (;;) {
    const { ready, reason } = await api.readiness();
    if (ready && state.dataset.state !== "ready") await begin();
    state.dataset.state = ready ? "ready" : "waiting";
    state.textContent = ready ? "ready" : reason;
    await new Promise((resolve) => setTimeout(resolve, ready ? 10000 : 1000));
  }
}

async function begin() {
  try {
    const [found] = await Promise.all([api.tasks(), movie.prepare()]);
    // Drawing the form again would take the cursor from someone who is typing.
    if (JSON.stringify(found) === JSON.stringify(tasks)) return;
    tasks = found;
    if (current === MOVIE) return drawTasks();
    choose(tasks.find((task) => task.name === current?.name) ?? tasks.find((task) => task.available) ?? tasks[0]);
  } catch (error) {
    note(error.message);
  }
}

await begin();
await loadMore().catch((error) => note(error.message));
watchState();
gallery.watch();
