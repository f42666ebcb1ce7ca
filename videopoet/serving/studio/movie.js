// The storyboard of a movie: written from an idea or by hand, scene by scene along a timeline, then made.

import * as api from "./api.js";
import { button, element, note } from "./elements.js";

const KEPT = "videopoet-storyboard";
const JOINS = { fade: "cross-fade", cut: "cut", continue: "go on" };
const SHAPES = { portrait: "portrait, 9:16", square: "square", landscape: "landscape, 16:9" };
const FITS = { pad: "shown whole", crop: "cut to the shape" };
const COUNTS = [1, 2, 3, 4, 5, 6, 8, 10, 12];

/** What is being edited: an idea, the storyboard, and the movie whose scenes need not be made again. */
const draft = { idea: "", count: 5, board: { title: "", scenes: [] }, warnings: [], takesOf: null, metadata: true };
Object.assign(draft, kept());
let choices = null;

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {}; // not ours, or not whole
  }
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(draft));
  } catch {
    // a browser that keeps nothing; the page does until it is closed
  }
}

/** Take over the storyboard of a movie, to change it; what stays as it is will not be made again. */
export function take(job) {
  const board = structuredClone(job.settings.storyboard);
  Object.assign(draft, { idea: board.idea ?? "", board, warnings: [], takesOf: job.id, metadata: job.settings.metadata !== false });
  keep();
}

/** Ask the server what a storyboard may say; to be awaited before the first drawing. */
export async function prepare() {
  choices ??= await api.storyboards();
}

/** Draw the editor into `form`; `made(job)` is called with what was asked for. */
export function draw(form, made) {
  const redraw = (focus) => {
    keep();
    fill(form, made, redraw);
    if (focus !== undefined) form.querySelectorAll(".scene textarea")[focus]?.focus();
  };
  redraw();
}

function fill(form, made, redraw) {
  const { board } = draft;
  const begun = board.scenes.length > 0;
  const make = element("button", { class: "primary", text: "Make the movie", disabled: !begun });
  const parts = [
    element("p", { class: "what", text: "Several scenes under a title, each with its sound; or one long take with words for every stretch of it." }),
    idea(redraw),
    ...draft.warnings.map((warning) => element("p", { class: "warning", text: warning })),
    begun ? look(redraw) : null,
    begun ? timeline(form) : null,
    element("ol", { class: "scenes" }, ...board.scenes.map((scene, number) => sceneCard(scene, number, form, redraw))),
    element("div", { class: "row between" }, button(begun ? "Add a scene" : "Write it myself", () => add(redraw)), begun ? element("small", { class: "length", text: length() }) : null),
    begun ? element("div", { class: "go alone" }, make) : null,
  ];
  form.replaceChildren(...parts.filter(Boolean));
  form.onsubmit = (event) => {
    event.preventDefault();
    submit(make, made);
  };
}

function idea(redraw) {
  const count = element(
    "select",
    { "aria-label": "How many scenes", change: (event) => ((draft.count = Number(event.target.value)), keep()) },
    ...COUNTS.map((number) => element("option", { value: String(number), text: number === 1 ? "1 scene" : `${number} scenes`, selected: number === draft.count })),
  );
  const write = button("Write the story", async () => {
    if (!draft.idea) return note("Say first what it is about, such as: a raccoon travels to the sea.");
    write.disabled = true;
    try {
      const seed = Math.floor(Math.random() * 2 ** 31);
      const { storyboard, warnings } = await api.writeStoryboard({ idea: draft.idea, scenes: draft.count, seed });
      const { shape, fit, transition } = draft.board;
      const looks = Object.fromEntries(Object.entries({ shape, fit, transition }).filter(([, value]) => value));
      Object.assign(draft, { board: { ...storyboard, ...looks }, warnings, takesOf: null });
      redraw();
    } catch (error) {
      note(error.message);
      write.disabled = false;
    }
  });
  const area = element("textarea", {
    name: "idea",
    rows: 2,
    maxlength: 500,
    placeholder: "a raccoon travels to the sea",
    value: draft.idea,
    input: (event) => ((draft.idea = event.target.value.trim()), keep()),
    keydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && write.click(),
  });
  return element("div", { class: "idea" }, element("label", { class: "field prompt" }, element("span", { text: "idea" }), area), element("div", { class: "row" }, count, write));
}

/** What belongs to the whole movie. */
function look(redraw) {
  const { board } = draft;
  const choice = (name, label, names, usual, kind = "") =>
    element(
      "label",
      { class: `field ${kind}` },
      element("span", { text: label }),
      element(
        "select",
        { name, change: (event) => ((board[name] = event.target.value), redraw()) },
        ...Object.entries(names).map(([value, text]) => element("option", { value, text, selected: (board[name] ?? usual) === value })),
      ),
    );
  const title = element("input", { type: "text", name: "title", maxlength: choices.longest_title, placeholder: "none", value: board.title ?? "", input: (event) => ((board.title = event.target.value.trim()), keep()) });
  const metadata = element("input", { type: "checkbox", name: "metadata", checked: draft.metadata, change: (event) => ((draft.metadata = event.target.checked), keep()) });
  return element(
    "div",
    { class: "grid look" },
    element("label", { class: "field wide" }, element("span", { text: "title" }), title),
    choice("shape", "shape", SHAPES, choices.defaults.shape),
    choice("fit", "picture", FITS, choices.defaults.fit),
    choice("transition", "between scenes", JOINS, choices.defaults.transition, "wide"),
    element("label", { class: "field switch wide" }, metadata, element("span", { text: "keep in the file how it was made" })),
  );
}

const joinOf = (scene) => scene.transition ?? draft.board.transition ?? choices.defaults.transition;
const secondsOf = (scene) => (Number.isFinite(scene.seconds) && scene.seconds > 0 ? scene.seconds : 0);

/** The scenes along time: each as wide as it is long. */
function timeline(form) {
  return element(
    "div",
    { class: "timeline", role: "group", "aria-label": "Timeline" },
    ...draft.board.scenes.map((scene, number) => {
      const made = button(String(number + 1), () => {
        const card = form.querySelectorAll(".scene")[number];
        card.scrollIntoView({ behavior: "smooth", block: "center" });
        card.querySelector("textarea").focus({ preventScroll: true });
      });
      made.style.flexGrow = String(Math.max(secondsOf(scene), 0.2));
      made.dataset.join = number ? joinOf(scene) : "";
      made.title = scene.prompt || "no words yet";
      made.setAttribute("aria-label", `Scene ${number + 1}, ${secondsOf(scene)} seconds: ${made.title}`);
      return made;
    }),
  );
}

const length = () => `${draft.board.scenes.reduce((sum, scene) => sum + secondsOf(scene), 0).toFixed(1)} of at most ${choices.most_seconds} s`;

function sceneCard(scene, number, form, redraw) {
  const { scenes } = draft.board;
  const changed = () => {
    keep();
    form.querySelector(".timeline")?.replaceWith(timeline(form));
    form.querySelector(".length").textContent = length();
  };
  const words = element("textarea", {
    rows: 2,
    maxlength: 2000,
    "aria-label": `Words of scene ${number + 1}`,
    placeholder: "What is seen: who, doing what, and where",
    value: scene.prompt,
    input: (event) => ((scene.prompt = event.target.value), changed()),
    keydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.requestSubmit(),
  });
  const seconds = element("input", { type: "number", min: 0.1, max: 60, step: "any", value: String(scene.seconds), "aria-label": `Seconds of scene ${number + 1}`, input: (event) => ((scene.seconds = event.target.valueAsNumber), changed()) });
  const camera = element(
    "select",
    { "aria-label": `Camera of scene ${number + 1}`, change: (event) => (set(scene, "camera", event.target.value), changed()) },
    element("option", { value: "", text: "camera at rest" }),
    ...choices.cameras.map((move) => element("option", { value: move, text: move, selected: scene.camera === move })),
  );
  const usual = JOINS[draft.board.transition ?? choices.defaults.transition];
  const join = element(
    "select",
    { "aria-label": `How scene ${number + 1} begins`, change: (event) => (set(scene, "transition", event.target.value), changed()) },
    element("option", { value: "", text: `${usual} (as all)` }),
    ...Object.entries(JOINS).map(([value, text]) => element("option", { value, text, selected: scene.transition === value })),
  );
  const move = (by) => {
    scenes.splice(number, 1);
    scenes.splice(number + by, 0, scene);
    redraw(number + by);
  };
  const tool = (sign, label, press, disabled) => {
    const made = button(sign, press, "tool");
    made.setAttribute("aria-label", `${label} scene ${number + 1}`);
    made.title = label;
    made.disabled = disabled ?? false;
    return made;
  };
  const again = () => {
    scene.seed = Math.floor(Math.random() * 2 ** 31);
    keep();
    note(`Scene ${number + 1} will be made anew.`, "good");
  };
  return element(
    "li",
    { class: "scene" },
    element(
      "div",
      { class: "head" },
      element("strong", { text: String(number + 1) }),
      number ? join : null,
      element("span", { class: "tools" }, tool("↻", "Another take of", again), tool("↑", "Move up", () => move(-1), number === 0), tool("↓", "Move down", () => move(1), number === scenes.length - 1), tool("✕", "Remove", () => (scenes.splice(number, 1), redraw(Math.min(number, scenes.length - 1))))),
    ),
    words,
    element("div", { class: "foot" }, element("label", {}, seconds, element("span", { text: "s" })), camera),
  );
}

function set(scene, name, value) {
  if (value) scene[name] = value;
  else delete scene[name];
}

function add(redraw) {
  const { scenes } = draft.board;
  if (scenes.length >= choices.most_scenes) return note(`A storyboard has at most ${choices.most_scenes} scenes.`);
  const last = scenes.at(-1);
  scenes.push({ prompt: last?.prompt ?? "", seconds: last?.seconds ?? 2 });
  redraw(scenes.length - 1);
}

async function submit(make, made) {
  const wordless = draft.board.scenes.findIndex((scene) => !scene.prompt.trim());
  if (wordless >= 0) return note(`Scene ${wordless + 1} has no words; say what is seen, or remove it.`);
  const timeless = draft.board.scenes.findIndex((scene) => !secondsOf(scene));
  if (timeless >= 0) return note(`Scene ${timeless + 1} has no length; give its seconds.`);
  make.disabled = true;
  try {
    const job = await api.createMovie(draft.board, draft.takesOf, draft.metadata).catch((error) => {
      if (error.param !== "takes_of") throw error;
      return api.createMovie(draft.board, null, draft.metadata); // the movie before was deleted, and its scenes with it
    });
    draft.takesOf = job.id;
    keep();
    made(job);
  } catch (error) {
    note(error.message);
  }
  make.disabled = false;
}
