// What the pages do beyond being read: a number, a result, a model, questions are shown beside the table, by the address's #.
// Data comes as scripts (lntune.site.record), since a page that is opened from the disk may load nothing else; all of it is
// put into the page as text.
"use strict";
(() => {
  const panel = document.getElementById("panel");
  const page = document.body.dataset.page;
  const pieces = new Map();
  const MORE = 40;

  globalThis.lntune = (name, text) => pieces.get(name)?.resolve(JSON.parse(text));

  function load(name) {
    if (!/^\w[\w.-]*(\/\w[\w.-]*)*$/.test(name)) return Promise.reject(new Error(`${name}: no such address`));
    if (!pieces.has(name)) {
      const piece = {};
      piece.promise = new Promise((resolve, reject) => Object.assign(piece, { resolve, reject }));
      pieces.set(name, piece);
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.addEventListener("error", () => piece.reject(new Error(`${name}: is not in this site`)));
      document.head.append(script);
    }
    return pieces.get(name).promise;
  }

  // --- elements ------------------------------------------------------------------------------------------------------

  function put(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat(Infinity).filter((one) => one !== undefined && one !== null && one !== ""));
    return element;
  }
  const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) =>
    put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const to = (...parts) => `#${parts.map(encodeURIComponent).join("/")}`;
  const way = (kind, ...names) => `#!${[kind, ...names].join("/")}`;
  const resultLink = (name) => h("a", { href: way("result", name) }, name);
  const facts = (pairs) => {
    const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
    return h("dl", {}, known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value instanceof Node ? value : String(value))]));
  };
  const flat = (value, before = "") =>
    Object.entries(value ?? {}).flatMap(([name, its]) =>
      its !== null && typeof its === "object" && !Array.isArray(its) && Object.keys(its).length
        ? flat(its, `${before}${name}.`)
        : [[before + name, typeof its === "string" ? its : JSON.stringify(its)]]);
  const folded = (title, ...content) => h("details", {}, h("summary", {}, title), ...content);
  const table = (caption, header, rows) =>
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      h("table", {}, h("caption", {}, caption),
        h("thead", {}, h("tr", {}, header.map((one) => h("th", { scope: "col" }, one)))),
        h("tbody", {}, rows.map((row) => h("tr", {}, row.map((one) => h("td", {}, one instanceof Node ? one : String(one ?? ""))))))));
  const seconds = (value) =>
    value < 120 ? `${Number(value.toPrecision(3))} s` : value < 7200 ? `${(value / 60).toFixed(1)} min` : `${(value / 3600).toFixed(1)} h`;

  // --- a cell --------------------------------------------------------------------------------------------------------

  async function cell(item, group, title, column) {
    if (!document.querySelector(`nav a[data-item="${CSS.escape(item)}"]`)) throw new Error(`${item}: is not in this site`);
    if (page !== item) {
      location.replace(`${item}.html${location.hash}`);
      return [];
    }
    const known = (await load(`cells/${item}`)).filter(({ key }) => key[0] === group && key[1] === title);
    const found = known.find(({ key }) => key[2] === column) ?? known.find(({ key }) => column.startsWith(`${key[2]} `));
    if (!found) throw new Error(`${item}: has no cell ${group}: ${title}, ${column}`);
    const asked = found.beside[column];
    const several = found.from.length > 1;
    const links = h("ul", {});
    for (const { result, seed } of found.from) {
      const whose = seed === null ? "" : ` (seed ${seed})`;
      if (result.startsWith("score-")) load(`answers/${result}`).then(
        () => links.append(h("li", {}, h("a", { href: way("questions", result) }, `Questions, pictures and answers${whose}`))), () => {});
      model(result).then((name) => name && links.append(h("li", {}, h("a", { href: way("model", name) }, `Training and search${whose}`))), () => {});
    }
    return [
      h("h2", { tabindex: "-1" }, `${column} of ${group}: ${title}`),
      h("p", { class: "value" }, asked ?? found.value),
      facts([
        ...(asked === undefined ? [] : [[found.key[2], found.value]]),
        ...Object.entries(found.beside).filter(([name]) => name !== column),
        ["the paper's", found.paper], ["ours minus the paper's", found.difference], ["note", found.note],
      ]),
      links,
      h("h3", {}, "What it was made from"),
      found.from.length
        ? h("ul", { class: "tree" }, found.from.map(({ result, seed }) =>
            h("li", {}, tree({ result }, several && seed !== null ? `seed ${seed}` : "read from", several ? 0 : 2))))
        : h("p", {}, found.note || "nothing that was made here"),
      h("p", {}, "In a terminal: ", h("code", {}, `lntune trace ${item} '${group}: ${title}' '${column}'`)),
    ];
  }

  // Of a score the selection or the training of the model that answered.
  async function model(name) {
    const its = await load(`results/${name}`);
    if (its.curves || its.selection) return name;
    const next = its.inputs.find(({ role }) => role === "tuned") ?? its.inputs.find(({ role }) => role === "answers");
    return next && model(next.result);
  }

  function tree(use, role, depth) {
    const body = h("div", {});
    const node = h("details", {}, h("summary", {}, `${role}: ${use.result}${use.part ? `, its folder ${use.part}/` : ""}`), body);
    let filled = false;
    const fill = async () => {
      if (filled) return;
      filled = true;
      try {
        const its = await load(`results/${use.result}`);
        const chosen = new Map((its.selection?.candidates ?? []).map((one) => [one.result, one]));
        const name = (one) => {
          const candidate = chosen.get(one.result);
          return candidate ? `${candidate.chosen ? "chosen" : "not chosen"}, learning rate ${candidate.learning_rate}` : one.role;
        };
        body.append(
          h("p", {}, h("a", { href: way("result", use.result) }, "All of this result"), its.state === "there" ? "" : ` (${its.state} since)`),
          ...(use.changed ? [h("p", { class: "wrong" }, "CHANGED since it was used")] : []),
          ...(its.summary ?? []).map((line) => h("p", {}, line)),
          ...(its.raw ? [h("p", {}, `${its.raw.about}; licence: ${its.raw.licence}`), ...its.raw.files.map((file) =>
            h("p", { class: "hash" }, `${file.sha256 ?? "CHANGED or deleted"}  ${file.name}`))] : []),
          h("ul", {}, its.inputs.map((one) => h("li", {}, tree(one, name(one), depth - 1)))));
      } catch (error) {
        body.append(h("p", {}, error.message));
      }
    };
    node.addEventListener("toggle", () => node.open && fill());
    if (depth > 0) {
      node.open = true;
      fill();
    }
    return node;
  }

  // --- a result ------------------------------------------------------------------------------------------------------

  async function result(stage, label) {
    const name = `${stage}/${label}`;
    const its = await load(`results/${name}`);
    const outputs = Object.entries(its.outputs ?? {});
    const made = its.machine;
    return [
      h("h2", { tabindex: "-1" }, name),
      its.state === "there" ? "" : h("p", { class: "wrong" }, `${its.state} since it was used. ${its.problem ?? ""}`),
      ...(its.summary ?? []).map((line) => h("p", {}, line)),
      made && facts([
        ["made", `${its.started.slice(0, 19).replace("T", " ")}, in ${seconds(its.wall_seconds)}`],
        ["on", its.where], ["ranks", made.ranks], ["SLURM job", made.slurm_job_id],
        ["CPU time", its.cpu_seconds === null ? null : seconds(its.cpu_seconds)],
        ["peak memory", `${(its.peak_memory_bytes / 1e9).toFixed(2)} GB`], ["seed", its.seed],
        ["commit", its.git ? `${its.git.commit}${its.git.dirty ? ", with uncommitted changes" : ""}` : "none"],
        ["linked from", its.origin && `${stage}/${its.origin.label}-${its.origin.id}`], ["content", h("span", { class: "hash" }, its.content)],
        ["lntune verify", its.verified.join("; ") || "has not looked at it"],
        ["log", its.log && h("a", { href: its.log }, its.log)],
        ["declared equivalent", (its.accepted ?? []).map((one) => one.because).join("; ")],
      ]),
      (its.curves || its.selection) && h("p", {}, h("a", { href: way("model", name) }, "Training and search")),
      its.raw && [h("h3", {}, "Raw files"), facts([["what", its.raw.about], ["licence", its.raw.licence]]),
        table("Raw files by sha256", ["file", "sha256", "from"], its.raw.files.map((file) =>
          [file.name, h("span", { class: "hash" }, file.sha256 ?? "CHANGED or deleted since it was made"), source(file)]))],
      its.inputs.length ? [h("h3", {}, "Made from"), h("ul", {}, its.inputs.map((one) =>
        h("li", {}, `${one.role}: `, resultLink(one.result), one.part ? `, its folder ${one.part}/` : "", one.changed ? " CHANGED since" : "")))] : "",
      its.into.length ? [h("h3", {}, "Went into"), h("ul", {}, its.into.map((one) => h("li", {}, resultLink(one.result), ` (${one.role})`)))] : "",
      its.drops && drops(its.drops),
      similarity(its),
      outputs.length ? folded(`Files (${outputs.length})`, table("Files by BLAKE3", ["file", "bytes", "BLAKE3"], outputs.map(([file, one]) =>
        [file, one.bytes.toLocaleString("en"), h("span", { class: "hash" }, one.blake3)]))) : "",
      ...[["Settings", its.settings], ["Metrics", its.metrics], ["Execution", its.execution], ["Packages", its.packages],
        ["Code, by module", its.code], ["Environment", its.environment]]
        .filter(([, value]) => value && Object.keys(value).length)
        .map(([title, value]) => folded(title, facts(flat(value)))),
    ];
  }

  const source = (file) => {
    const from = file.url ?? file.path ?? "";
    return /^https?:/.test(from) ? h("a", { href: from, rel: "noreferrer" }, from) : from;
  };

  const drops = (its) => [
    h("h3", {}, "Read, left out, kept"),
    facts([["read", its.read], ...Object.entries(its.dropped), ["kept", `${its.kept} ${its.unit}`]]),
    its.listed ? folded(its.listed > its.list.length ? `${its.list.length} of the ${its.listed} that were left out for a fault` : "Left out for a fault",
      table("Left out", ["source", "reason", "more"], its.list.map(({ source, reason, ...more }) => [source, reason, Object.values(more).join("; ")]))) : "",
  ];

  const similarity = (its) => its.similarity && [h("h3", {}, "Similarity of layers"),
    ...Object.entries(its.similarity).map(([tokens, rows]) => heat(`Tokens: ${tokens}`, rows))];

  // --- a model -------------------------------------------------------------------------------------------------------

  async function training(stage, label) {
    const name = `${stage}/${label}`;
    const its = await load(`results/${name}`);
    const candidates = its.selection?.candidates ?? [{ result: name, chosen: true }];
    const loaded = await Promise.all(candidates.map(async (one) => {
      try {
        return { ...one, curves: await load(`curves/${one.result}`) };
      } catch {
        return { ...one, curves: one.chosen && its.curves ? await load(`curves/${name}`) : null };
      }
    }));
    const read = await Promise.all(its.into.filter(({ result }) => result.startsWith("similarity/")).map(({ result }) => load(`results/${result}`)));
    const drawn = loaded.filter(({ curves }) => curves);
    const called = (one) => (one.learning_rate === undefined ? "this training" : `learning rate ${one.learning_rate}${one.chosen ? ", chosen" : ""}`);
    const titles = [...new Set(drawn.flatMap(({ curves }) => Object.keys(curves.lines)))];
    const chosen = drawn.find((one) => one.chosen) ?? drawn[0];
    return [
      h("h2", { tabindex: "-1" }, `Training of ${name}`),
      h("p", {}, resultLink(name)),
      its.selection && table(`Candidates, by ${its.selection.metric}`, ["learning rate", "CIDEr", "outcome", "training", "its score"], candidates.map((one) => [
        one.learning_rate, one.CIDEr === null ? ended(one) : one.CIDEr.toFixed(2), one.chosen ? h("strong", {}, "chosen") : "not chosen",
        resultLink(one.result), resultLink(one.score)])),
      drawn.length ? "" : h("p", {}, "No log of its training is there any more."),
      ...titles.map((title) => chart(title, drawn.filter(({ curves }) => curves.lines[title])
        .map((one) => ({ name: called(one), chosen: one.chosen, x: one.curves.step, y: one.curves.lines[title] })))),
      chosen && Object.keys(chosen.curves.norms).length ? [h("h3", {}, "Gradients of the norms"),
        heat("Variance of each norm's gradient over the steps (darker: larger, on a log scale)",
          Object.values(chosen.curves.norms).map((row) => row.map((value) => Math.log10(Math.max(value, 1e-12)))),
          Object.keys(chosen.curves.norms))] : "",
      ...read.filter((one) => one.similarity).map((one) => [similarity(one), h("p", {}, "From ", resultLink(one.name))]),
    ];
  }

  const ended = (one) => one.diverged_at ? `diverged at step ${one.diverged_at}` : one.stopped_at ? `stopped at step ${one.stopped_at}` : "unknown";

  const DASHES = ["", "7 4", "2 3", "9 3 2 3", "12 6", "4 2 1 2"];

  function chart(title, series) {
    const [width, height, left, bottom] = [640, 240, 64, 28];
    const xs = series.flatMap(({ x }) => x), ys = series.flatMap(({ y }) => y);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - 10);
    const py = (y) => height - bottom - ((y - y0) / (y1 - y0 || 1)) * (height - bottom - 12);
    const text = (x, y, anchor, value) => s("text", { x, y, "text-anchor": anchor }, String(value));
    const dash = (one, place) => (one.chosen ? "" : DASHES[1 + (place % (DASHES.length - 1))]);
    return h("div", {},
      h("h3", {}, title),
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} over ${x1} steps; the values are in the table below` },
        s("path", { class: "axis", fill: "none", d: `M${left} 8V${height - bottom}H${width - 8}` }),
        text(left - 6, 18, "end", Number(y1.toPrecision(3))), text(left - 6, height - bottom, "end", Number(y0.toPrecision(3))),
        text(left, height - 8, "start", x0), text(width - 10, height - 8, "end", `step ${x1}`),
        series.map((one, place) => s("polyline", {
          class: one.chosen ? "line chosen" : "line", "stroke-dasharray": dash(one, place),
          points: one.x.map((x, at) => `${px(x).toFixed(1)},${py(one.y[at]).toFixed(1)}`).join(" ") }))),
      h("ul", {}, series.map((one, place) => h("li", {}, one.name, ": ", s("svg", { viewBox: "0 0 60 8", role: "img", "aria-label": one.chosen ? "thick line" : "dashed line", class: "key" },
        s("path", { class: one.chosen ? "line chosen" : "line", "stroke-dasharray": dash(one, place), d: "M0 4H60" }))))),
      folded(`${title} as numbers`, table(title, ["step", ...series.map(({ name }) => name)],
        series[0].x.map((x, at) => [x, ...series.map(({ y }) => y[at])]))));
  }

  function heat(title, rows, names) {
    const values = rows.flat(), low = Math.min(...values), span = Math.max(...values) - low || 1;
    const [width, size] = [Math.max(...rows.map((row) => row.length)), 12];
    return h("div", {},
      s("svg", { viewBox: `0 0 ${width * size} ${rows.length * size}`, role: "img", "aria-label": `${title}; the values are in the table below` },
        rows.map((row, y) => row.map((value, x) => s("rect", { x: x * size, y: y * size, width: size, height: size, fill: "currentColor",
          "fill-opacity": (0.05 + 0.95 * ((value - low) / span)).toFixed(2) })))),
      folded(`${title} as numbers`, table(title, ["", ...rows[0].map((_, x) => x + 1)],
        rows.map((row, y) => [names ? names[y] : y + 1, ...row.map((value) => Number(value.toPrecision(3)))]))));
  }

  // --- questions -----------------------------------------------------------------------------------------------------

  async function questions(stage, label, otherStage, otherLabel) {
    const name = `${stage}/${label}`, other = otherStage && `${otherStage}/${otherLabel}`;
    const ours = await load(`answers/${name}`);
    if (ours.problem) throw new Error(ours.problem);
    const [asked, known, theirs] = await Promise.all([load(`questions/${ours.questions}`), load("asked"), other && load(`answers/${other}`)]);
    if (theirs && theirs.questions !== ours.questions) throw new Error(`${other}: was asked other questions`);
    const marked = ours.shown.some(([, , passed]) => passed !== null);
    const kinds = [...new Set(asked.shown.map((one) => one[3]).filter(Boolean))];
    const choice = (title, id, options) => h("label", { for: id }, `${title} `, h("select", { id }, options.map(([value, text]) => h("option", { value }, text))));
    const difference = (at) => (theirs ? Math.abs(ours.shown[at][1] - theirs.shown[at][1]) : 0);
    const controls = h("div", { class: "controls" },
      marked ? choice("Answers", "marks", [["", "all"], ["true", "right"], ["false", "wrong"]]) : "",
      kinds.length ? choice("Type", "kinds", [["", "all"], ...kinds.map((one) => [one, one])]) : "",
      choice("Beside", "models", [["", "no other model"], ...known[ours.questions].filter(([one]) => one !== name)]),
      choice("Order", "order", [...(theirs ? [["differ", "where they differ most"]] : []), ["", "as asked"], ["worst", "worst first"], ["best", "best first"]]));
    const cards = h("ul", { class: "cards" });
    const count = h("p", { role: "status" });
    const more = h("button", { type: "button" }, "Show more");
    const pick = (id) => controls.querySelector(`#${id}`)?.value ?? "";
    controls.querySelector("#models").value = other ?? "";
    let order = [], shown = 0;

    const one = (title, [answer, , passed, described]) => h("p", {}, theirs ? `${title}: ` : "answer: ", h("q", {}, answer || "(nothing)"), " ",
      h("span", { class: passed === null ? "" : passed ? "right" : "wrong" }, passed === null ? described : `${passed ? "✓" : "✗"} ${described}`));
    const card = (at) => {
      const [id, picture, text, kind, right, image] = asked.shown[at];
      return h("li", {},
        picture ? h("img", { src: picture, loading: "lazy", width: 96, height: 96, alt: `picture ${image}` }) : h("span", { class: "none" }, "no picture"),
        h("div", {}, h("p", {}, h("strong", {}, text), kind ? ` (${kind})` : ""), one(ours.title, ours.shown[at]), theirs && one(theirs.title, theirs.shown[at]),
          h("p", {}, "right: ", [...new Set(right)].join(" | ")), h("p", {}, h("code", {}, id))));
    };
    const grow = () => {
      cards.append(...order.slice(shown, shown + MORE).map(card));
      shown = Math.min(order.length, shown + MORE);
      more.hidden = shown >= order.length;
      count.textContent = `${order.length.toLocaleString("en")} questions, ${shown} of them below`;
    };
    const filter = () => {
      const [marks, kind, by] = [pick("marks"), pick("kinds"), pick("order")];
      order = [...asked.shown.keys()].filter((at) => (!marks || String(ours.shown[at][2]) === marks) && (!kind || asked.shown[at][3] === kind));
      const rank = { differ: (at) => -difference(at), worst: (at) => ours.shown[at][1], best: (at) => -ours.shown[at][1] }[by];
      if (rank) order.sort((a, b) => rank(a) - rank(b) || a - b);
      cards.replaceChildren();
      shown = 0;
      grow();
    };
    controls.addEventListener("change", (event) => {
      if (event.target.id === "models") location.hash = way("questions", name, ...(event.target.value ? [event.target.value] : []));
      else filter();
    });
    more.addEventListener("click", grow);
    filter();
    const sampled = asked.shown.length < asked.questions;
    return [
      h("h2", { tabindex: "-1" }, `${asked.column}: ${ours.title}${theirs ? ` and ${theirs.title}` : ""}`),
      h("p", {}, resultLink(name), other ? [" and ", resultLink(other)] : ""),
      ours.blind ? h("p", {}, "The model was blind to the pictures.") : "",
      ours.passed === null ? "" : h("p", {}, `${ours.passed.toLocaleString("en")} of ${ours.of.toLocaleString("en")} answered rightly.`),
      sampled ? h("p", {}, `A sample: ${asked.shown.length.toLocaleString("en")} of ${asked.questions.toLocaleString("en")} questions, those whose ids have the smallest hashes.`) : "",
      controls, count, cards, more,
    ];
  }

  // --- addresses -----------------------------------------------------------------------------------------------------

  const VIEWS = { result, model: training, questions };
  let turn = 0;
  let opened = "";

  async function show() {
    const hash = location.hash.slice(1), mine = ++turn;
    const parts = hash.replace(/^!/, "").split("/").map((one) => { try { return decodeURIComponent(one); } catch { return one; } });
    if (!hash.startsWith("!") && parts.length !== 4) {
      close();
      return;
    }
    let content;
    try {
      const [kind, ...rest] = parts;
      if (hash.startsWith("!") && !Object.hasOwn(VIEWS, kind)) throw new Error(`${hash}: no such address`);
      content = hash.startsWith("!") ? await VIEWS[kind](...rest) : await cell(...parts);
    } catch (error) {
      content = [h("h2", { tabindex: "-1" }, "Not here"), h("p", {}, error.message)];
    }
    if (mine !== turn) return;
    const back = h("button", { type: "button" }, "Close");
    back.addEventListener("click", leave);
    panel.replaceChildren(back, ...content.flat(Infinity).filter(Boolean));
    panel.hidden = false;
    document.body.classList.add("open");
    panel.scrollTop = 0;
    opened = `#${hash}`;
    panel.querySelector("h2")?.focus();
  }

  function close() {
    panel.hidden = true;
    document.body.classList.remove("open");
  }

  function leave() {
    const from = [...document.links].find((one) => !panel.contains(one) && one.getAttribute("href") === opened);
    history.pushState(null, "", location.pathname + location.search);
    close();
    (from ?? document.getElementById("main")).focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) leave();
  });
  addEventListener("hashchange", show);

  // --- search --------------------------------------------------------------------------------------------------------

  const form = document.getElementById("search"), words = document.getElementById("words"), found = document.getElementById("found");
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    found.querySelector("a")?.click();
  });
  words.addEventListener("input", async () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const known = await load("search");
    const hits = wanted.length ? known.filter(([text]) => wanted.every((one) => text.toLowerCase().includes(one))).slice(0, MORE) : [];
    found.replaceChildren(...hits.map(([text, address]) => h("li", {}, h("a", { href: address }, text))),
      ...(wanted.length && !hits.length ? [h("li", {}, "nothing found")] : []));
    found.hidden = !wanted.length;
  });
  found.addEventListener("click", () => { found.hidden = true; });

  document.querySelector(`nav a[href="${CSS.escape(page)}.html"]`)?.setAttribute("aria-current", "page");
  show();
})();
