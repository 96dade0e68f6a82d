// The page at "/": asks a model, shows its answer as it comes, and takes what a person says of it.
// Whatever a model or a server wrote is put in as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("asking");
const READY_EVERY = 3000; // milliseconds

let models = [];
let isHead = false;
let running = null; // AbortController of the questions that are being answered

const say = (text) => { byId("told").textContent = text; };

function headers() {
  const key = byId("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

class Fault extends Error {}

async function faultOf(response) {
  let told = `the server answered ${response.status}`;
  try {
    told = (await response.json()).error.message;
  } catch { /* no error object: the status says it */ }
  if (response.status === 401) {
    byId("key-field").hidden = false;
    byId("key").focus();
  }
  const later = response.headers.get("Retry-After");
  return new Fault(later && !told.includes("Try again") ? `${told} Try again in ${later} s.` : told);
}

async function send(path, body, signal) {
  const response = await fetch(path, {
    method: "POST", headers: headers(), body: JSON.stringify(body), signal,
  });
  if (!response.ok) throw await faultOf(response);
  return response;
}

// --- the model's state -------------------------------------------------------------------------

async function look() {
  const state = byId("state");
  try {
    const told = await (await fetch("readyz", { cache: "no-store" })).json();
    const isReady = told.status === "ready";
    state.className = `tag ${isReady ? "yes" : "no"}`;
    const version = told.version ? `version ${told.version}` : told.address;
    const text = isReady ? `ready – ${version}` : `${told.status} – ${told.reason}`;
    if (state.textContent !== text) state.textContent = text;
    isHead = told.engine === "head";
    byId("schema-field").hidden = byId("settings").hidden = isHead;
    if (isReady && !models.length) await list();
    if (isReady) return;
  } catch (error) {
    state.className = "tag no";
    state.textContent = "the server does not answer";
  }
  setTimeout(look, READY_EVERY);
}

async function list() {
  const response = await fetch("v1/models", { headers: headers(), cache: "no-store" });
  if (!response.ok) {
    say((await faultOf(response)).message);
    return;
  }
  models = (await response.json()).data.map((model) => model.id);
  byId("beside").hidden = models.length < 2;
  if (byId("told").textContent) say("");
}

// --- one answer --------------------------------------------------------------------------------

class Answer {
  constructor(model) {
    const made = byId("one").content.cloneNode(true);
    this.root = made.querySelector("section");
    this.model = model;
    this.id = "";
    this.root.setAttribute("aria-label", `Answer of ${model}`);
    this.find(".model").textContent = model;
    byId("answers").append(made);
  }

  find(selector) { return this.root.querySelector(selector); }

  async ask(body, signal) {
    const shown = this.find(".answer");
    shown.setAttribute("aria-busy", "true");
    try {
      await (isHead ? this.classify(body, signal) : this.stream(body, signal));
      if (this.id && form.dataset.feedback === "yes") this.letJudge();
    } catch (error) {
      this.fail(error.name === "AbortError" ? "Stopped." : this.tell(error));
    } finally {
      shown.setAttribute("aria-busy", "false");
    }
  }

  tell(error) {
    return error instanceof Fault ? error.message : "The server does not answer; is it running?";
  }

  fail(text) {
    const fault = this.find(".fault");
    fault.hidden = false;
    fault.textContent = text;
  }

  async classify(body, signal) {
    const told = await (await send("classify", { text: body.question }, signal)).json();
    this.id = told.id;
    this.find(".answer").textContent = told.label;
    this.table(["label", "probability"], Object.entries(told.probabilities)
      .map(([label, value]) => [label, value.toFixed(4)]), "All labels");
  }

  async stream(body, signal) {
    const begun = performance.now();
    let first = null;
    let tokens = 0;
    const response = await send("v1/chat/completions", { ...body.chat, model: this.model }, signal);
    for await (const event of events(response)) {
      if (event.error) throw new Fault(event.error.message);
      this.id = event.id;
      const [choice] = event.choices;
      if (choice?.delta.content) {
        first ??= performance.now();
        this.find(".answer").textContent += choice.delta.content;
      }
      if (choice?.validation) this.showTried(choice.validation);
      if (event.usage) tokens = event.usage.completion_tokens;
      // A query is tried behind the last token: that is not the model's time.
      if (choice?.finish_reason) this.ended = performance.now();
    }
    this.showFigures(tokens, begun, first ?? this.ended);
  }

  showFigures(tokens, begun, first) {
    const seconds = (this.ended - begun) / 1000;
    const rate = tokens && seconds > 0 ? ` · ${(tokens / seconds).toFixed(1)} tokens a second` : "";
    const wait = ((first - begun) / 1000).toFixed(2);
    this.find(".figures").textContent = `${tokens} tokens${rate} · first after ${wait} s`;
  }

  showTried(tried) {
    if (!tried.runs) {
      const place = this.find(".tried");
      place.hidden = false;
      const tag = Object.assign(document.createElement("span"),
        { className: "tag no", textContent: `does not run: ${tried.reason}` });
      const why = Object.assign(document.createElement("p"),
        { className: "note", textContent: tried.detail });
      place.replaceChildren(tag, why);
      return;
    }
    const rows = tried.rows.length === 1 ? "1 row" : `${tried.rows.length} rows`;
    this.table(tried.columns, tried.rows, `The query runs: ${tried.more ? "the first " : ""}${rows}`);
  }

  table(columns, rows, caption) {
    const place = this.find(".tried");
    const table = document.createElement("table");
    table.createCaption().textContent = caption;
    const head = table.createTHead().insertRow();
    for (const name of columns) {
      head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: name }));
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const value of row) line.insertCell().textContent = value ?? "NULL";
    }
    place.replaceChildren(table);
    place.hidden = false;
  }

  // --- what a person says of it ---

  letJudge() {
    const judging = this.find(".judging");
    judging.hidden = false;
    judging.querySelector("[role=group]").setAttribute("aria-label", `Judge ${this.model}`);
    this.find(".good").onclick = () => this.judge("good");
    this.find(".bad").onclick = () => this.judge("bad");
    const correct = this.find(".correct");
    const area = this.find(".correcting");
    area.querySelector("textarea").value = this.find(".answer").textContent;
    correct.onclick = () => {
      area.hidden = !area.hidden;
      correct.setAttribute("aria-expanded", String(!area.hidden));
      if (!area.hidden) area.querySelector("textarea").focus();
    };
    this.find(".send").onclick = () => {
      const correction = area.querySelector("textarea").value.trim();
      if (correction) this.judge("bad", correction);
      else this.find(".judged").textContent = "Write what it should have answered.";
    };
  }

  async judge(rating, correction) {
    const judged = this.find(".judged");
    try {
      const id = this.id;
      await send("v1/feedback", { id, rating, ...(correction ? { correction } : {}) });
      this.find(".good").setAttribute("aria-pressed", String(rating === "good"));
      this.find(".bad").setAttribute("aria-pressed", String(rating === "bad"));
      judged.textContent = correction ? "Thank you: the correction is kept." : "Thank you.";
    } catch (error) {
      judged.textContent = this.tell(error);
    }
  }
}

// Yields the objects of a stream of server-sent events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (left + value).split("\n\n");
    left = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// --- asking ------------------------------------------------------------------------------------

function readBody() {
  const question = byId("question").value.trim();
  const schema = byId("schema").value.trim();
  const number = (id) => (byId(id).value === "" ? null : Number(byId(id).value));
  const most = number("most");
  const temperature = number("temperature");
  return {
    question,
    chat: {
      // The server puts it into the wording of the version's rows.
      messages: [{ role: "user", content: question }],
      as_scored: true,
      ...(schema ? { schema } : {}),
      stream: true,
      stream_options: { include_usage: true },
      ...(most === null ? {} : { max_tokens: most }),
      ...(temperature === null ? {} : { temperature }),
      ...(schema && byId("validate").checked ? { validate: true } : {}),
    },
  };
}

async function ask() {
  if (running || !form.reportValidity()) return;
  if (!models.length) await list();
  if (!models.length) return;
  const asked = byId("both").checked ? models : models.slice(0, 1);
  const body = readBody();
  running = new AbortController();
  byId("answers").replaceChildren();
  byId("ask").disabled = true;
  byId("stop").disabled = false;
  say("The model is writing …");
  const answers = (isHead ? asked.slice(0, 1) : asked).map((model) => new Answer(model));
  await Promise.all(answers.map((answer) => answer.ask(body, running.signal)));
  running = null;
  byId("ask").disabled = false;
  byId("stop").disabled = true;
  say(answers.length > 1 ? "All answers are there." : "The answer is there.");
}

form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
byId("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  if (event.key === "Escape") running?.abort();
});
look();
