// Looks through the rows of a report: filters, a list that keys lead through, one row side by side.
// Whatever a model or a row says is put in as text, never as HTML.
"use strict";

(() => {
  const byId = (id) => document.getElementById(`explorer-${id}`);
  const { roles, rows } = JSON.parse(byId("rows").textContent);
  if (!rows.length) return;

  const MOST_CELLS = 4e6; // of one comparison of words: beyond that nothing is marked
  const PAGE = 10; // rows that Page Up and Page Down go
  const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: PAGE, PageUp: -PAGE,
    Home: -Infinity, End: Infinity };
  const TAGS = { won: "better", lost: "worse", tied: "none", unscored: "none" };
  const NO_GROUP = "(none)";
  const DRAWN = 50; // rows of the list on either side of the chosen one: screen readers read them all
  const list = byId("list");
  let shown = []; // places of the rows that the filters leave
  let at = 0; // position among those
  let drawn = [0, 0]; // positions that the list holds, from and to

  const make = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const number = (count) => count.toLocaleString("en");
  const groupOf = (row) => row.group ?? NO_GROUP;
  const texts = rows.map((row) =>
    [row.row_id, row.question, row.reference, ...Object.values(row.answers)]
      .filter((text) => text !== null).join("\n").toLowerCase());

  // --- filters -----------------------------------------------------------------------------------

  function offer(select, values) {
    for (const [value, label] of values) {
      const option = make("option", label);
      option.value = value;
      select.append(option);
    }
  }

  function count(keyOf) {
    const found = new Map();
    for (const row of rows) found.set(keyOf(row), (found.get(keyOf(row)) ?? 0) + 1);
    return found;
  }

  const outcomes = count((row) => row.outcome);
  const groups = count(groupOf);
  offer(byId("outcome"), [["", `all (${number(rows.length)})`], ...Object.keys(TAGS).map(
    (name) => [name, `${name} (${number(outcomes.get(name) ?? 0)})`])]);
  offer(byId("group"), [["", `all (${number(groups.size)})`], ...[...groups].sort(
    ([one], [other]) => (one < other ? -1 : 1)).map(
    ([name, size]) => [`=${name}`, `${name} (${number(size)})`])]);
  offer(byId("basis"), [["reference", "Reference"], ...roles, ["", "nothing"]]);

  function filter() {
    const outcome = byId("outcome").value;
    const group = byId("group").value;
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = [...rows.keys()].filter((place) =>
      (!outcome || rows[place].outcome === outcome)
      && (!group || `=${groupOf(rows[place])}` === group)
      && words.every((word) => texts[place].includes(word)));
    byId("count").textContent = `${number(shown.length)} of ${number(rows.length)} rows`;
    drawn = [0, 0];
    choose(0);
  }

  function draw(from, to) {
    drawn = [Math.max(0, from), Math.min(to, shown.length)];
    const positions = [...shown.keys()].slice(...drawn);
    list.replaceChildren(...positions.map(optionOf));
  }

  // Draws further rows where the list is scrolled to an end, and leaves in place what is seen.
  function drawMore() {
    const [from, to] = drawn;
    const atEnd = list.scrollTop + list.clientHeight > list.scrollHeight - 20;
    const grows = atEnd ? to < shown.length : list.scrollTop < 20 && from > 0;
    if (!grows) return;
    const seen = optionAt(atEnd ? to - 1 : from);
    const offset = seen.offsetTop - list.scrollTop;
    draw(from - (atEnd ? 0 : DRAWN), to + (atEnd ? DRAWN : 0));
    list.scrollTop = optionAt(atEnd ? to - 1 : from).offsetTop - offset;
  }

  const optionAt = (position) => list.children[position - drawn[0]];

  function optionOf(position) {
    const row = rows[shown[position]];
    const option = make("div");
    option.id = `explorer-option-${position}`;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", String(position === at));
    option.setAttribute("aria-setsize", shown.length);
    option.setAttribute("aria-posinset", position + 1);
    const group = row.group === null ? "" : ` ${row.group}`;
    option.append(make("span", row.outcome, `tag ${TAGS[row.outcome]}`),
      make("span", group, "soft"), make("span", row.question, "asked"));
    return option;
  }

  // --- one row -----------------------------------------------------------------------------------

  function choose(position) {
    optionAt(at)?.setAttribute("aria-selected", "false");
    at = Math.max(0, Math.min(position, shown.length - 1));
    if (at < drawn[0] || at >= drawn[1]) draw(at - DRAWN, at + DRAWN);
    const option = optionAt(at);
    if (option) {
      option.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else {
      list.removeAttribute("aria-activedescendant");
    }
    show();
  }

  function show() {
    const place = byId("row");
    if (!shown.length) {
      place.replaceChildren(make("p", "No row is like this.", "soft"));
      return;
    }
    const row = rows[shown[at]];
    const group = row.group === null ? "" : ` · group ${row.group}`;
    const parts = [make("h3", row.question),
      make("p", `${row.outcome} · row ${row.row_id}${group}`, "soft")];
    if (row.prompt !== null) {
      const prompt = make("details");
      prompt.append(make("summary", "The whole prompt"), make("code", row.prompt));
      parts.push(prompt);
    }
    const sides = make("div", undefined, "sides");
    const basis = byId("basis").value;
    const told = { reference: row.reference, ...row.answers };
    for (const [name, label] of [["reference", "Reference"], ...roles]) {
      if (name in told) sides.append(sideOf(label, told[name], row.right[name],
        name === basis ? null : told[basis]));
    }
    place.replaceChildren(...parts, sides);
  }

  function sideOf(label, text, right, basis) {
    const side = make("div");
    const title = make("h4", label);
    if (typeof right === "boolean") {
      const verdict = right ? "right" : "wrong";
      title.append(" ", make("span", verdict, `small ${verdict}`));
    }
    const code = make("code");
    if (text === null) code.append("(not asked)");
    else if (typeof basis === "string") code.append(...mark(basis, text));
    else code.append(text || "(nothing)");
    side.append(title, code);
    return side;
  }

  // --- words that differ -------------------------------------------------------------------------

  // A word or a sign, with the space before it; space at the end is one of its own.
  const WORDS = /\s*(?:[\p{L}\p{M}\p{N}_]+|[^\p{L}\p{M}\p{N}_\s])|\s+$/gu;
  const split = (text) => text.match(WORDS) ?? [];

  function mark(from, to) {
    const ours = split(to);
    const theirs = split(from);
    if (!to) return ["(nothing)"];
    if (ours.length * theirs.length > MOST_CELLS) return [to];
    const found = [];
    for (const [kind, word] of compare(theirs, ours)) {
      const last = found.at(-1);
      if (last && last.kind === kind) last.text += word;
      else found.push({ kind, text: word });
    }
    return found.map(({ kind, text }) => (kind ? make(kind, text) : text));
  }

  // Yields every word with "ins" or "del", or with "" where both have it: a longest common
  // subsequence, words compared without the space before them.
  function* compare(theirs, ours) {
    const [one, other] = [theirs, ours].map((words) => words.map((word) => word.trim()));
    const width = other.length + 1;
    const lengths = new Uint32Array((one.length + 1) * width);
    for (let i = one.length - 1; i >= 0; i -= 1) {
      for (let j = other.length - 1; j >= 0; j -= 1) {
        lengths[i * width + j] = one[i] === other[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
      }
    }
    let [i, j] = [0, 0];
    while (i < one.length || j < other.length) {
      if (i < one.length && j < other.length && one[i] === other[j]) {
        yield ["", ours[j]];
        i += 1;
        j += 1;
      } else if (j === other.length
        || (i < one.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
        yield ["del", theirs[i]];
        i += 1;
      } else {
        yield ["ins", ours[j]];
        j += 1;
      }
    }
  }

  // --- keys and clicks ---------------------------------------------------------------------------

  list.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    choose(at + step);
  });
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose(drawn[0] + [...list.children].indexOf(option));
  });
  list.addEventListener("scroll", drawMore);
  for (const name of ["outcome", "group"]) byId(name).addEventListener("change", filter);
  byId("search").addEventListener("input", filter);
  byId("basis").addEventListener("change", show);

  document.getElementById("explorer").hidden = false;
  document.getElementById("samples-alone").hidden = true;
  filter();
})();
