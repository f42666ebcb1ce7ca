// The server's addresses, as functions. Every error is an Error whose message is a sentence of the server's.

let key = sessionStorage.getItem("videopoet-key") ?? "";
let askForKey = async () => "";

/** Say how to ask a person for a key; it is kept until the tab is closed. */
export function onMissingKey(ask) {
  askForKey = ask;
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  if (answer.status === 401) {
    key = await askForKey();
    sessionStorage.setItem("videopoet-key", key);
    return call(path, options);
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    const error = new Error(body.error?.message ?? `The server answered ${answer.status}.`);
    Object.assign(error, { status: answer.status, code: body.error?.code, param: body.error?.param });
    throw error;
  }
  return answer;
}

const json = async (path, options) => (await call(path, options)).json();

export const tasks = async () => (await json("/v1/tasks")).data;
export const job = (id) => json(`/v1/videos/${id}`);
export const jobs = (after) => json(`/v1/videos?limit=24${after ? `&after=${after}` : ""}`);
export const remove = (id) => json(`/v1/videos/${id}`, { method: "DELETE" });
export const cancel = (id) => json(`/v1/videos/${id}/cancel`, { method: "POST" });

const posted = (path, values) => json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) });

/** What a storyboard may say: choices, limits, defaults. */
export const storyboards = () => json("/v1/storyboards");
/** A storyboard of an idea, and what of the idea is not in it. */
export const writeStoryboard = (values) => posted("/v1/storyboards", values);
/** Ask for the movie of a storyboard; scenes that another movie has are taken from there. */
export const createMovie = (storyboard, takesOf, metadata) => posted("/v1/movies", { storyboard, metadata, ...(takesOf && { takes_of: takesOf }) });

/** Whether a job would begin at once, and if not why. */
export async function readiness() {
  try {
    const answer = await fetch("/ready");
    return await answer.json();
  } catch {
    return { ready: false, reason: "the server does not answer" };
  }
}

/** Ask for a job: `fields` are plain values, `files` are File, Blob, or the id of a result. */
export function create(fields, files) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  for (const [name, value] of Object.entries(files)) {
    if (value.id) form.append(`${name}[id]`, value.id);
    else form.append(name, value.file, value.file.name ?? name);
  }
  return json("/v1/videos", { method: "POST", body: form });
}

/** Follow all jobs until the connection ends; one stream, because browsers open few connections to a server. */
export async function follow(onChange, onFrames, onDeleted) {
  const answer = await call("/v1/events");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (name === "deleted") onDeleted(JSON.parse(data).id);
      else if (name === "frames") onFrames(JSON.parse(data));
      else if (name) onChange(JSON.parse(data));
    }
  }
}

const kept = new Map();

/** An address in this page for a file of a result. Files never change, so that each is loaded once. */
export function media(id, variant = "video") {
  const name = `${id}/${variant}`;
  if (!kept.has(name)) {
    const loading = call(`/v1/videos/${id}/content?variant=${variant}`)
      .then((answer) => answer.blob())
      .then((blob) => URL.createObjectURL(blob));
    loading.catch(() => kept.delete(name));
    kept.set(name, loading);
  }
  return kept.get(name);
}
