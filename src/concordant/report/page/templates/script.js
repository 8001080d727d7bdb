/* What the page does: draws figures when they come into view, themes them, sorts tables, saves pictures and CSV. */
(() => {
  "use strict";
  const root = document.documentElement;
  const SANS = getComputedStyle(root).getPropertyValue("--sans");
  const PALETTE = {
    light: { ground: "#ffffff", ink: "#1c2024", soft: "#59616b", line: "#e3e5e8", zero: "#9aa1a9" },
    dark: { ground: "#15181b", ink: "#e3e6e9", soft: "#a0a8b1", line: "#2c3238", zero: "#6b747d" },
  };
  const PANEL = { least: 190, gapX: 56, gapY: 74 };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const themeNow = () => (root.dataset.theme === "dark" ? "dark" : "light");

  /* Figures */
  const figures = new Map();

  /* Put back what was kept once, {"$": n} for entry n of the pool, and the styles that were set apart under "&". */
  function expanded(value, pool) {
    if (Array.isArray(value)) return value.map((one) => expanded(one, pool));
    if (value === null || typeof value !== "object") return value;
    if ("$" in value) return expanded(pool[value.$], pool);
    const style = "&" in value ? expanded(value["&"], pool) : {};
    const own = Object.entries(value).filter(([key]) => key !== "&").map(([key, one]) => [key, expanded(one, pool)]);
    return { ...style, ...Object.fromEntries(own) };
  }

  /* The spec that is chosen: a fresh copy each time, since Plotly writes into what it is given. */
  function specOf(figure) {
    const key = all("[data-choice]", figure.element).map((select) => select.value).join("-");
    return expanded(figure.spec.value[key], figure.spec.pool);
  }

  function themed(spec, theme, width) {
    const colours = PALETTE[theme];
    const axis = {
      gridcolor: colours.line, linecolor: colours.soft, tickcolor: colours.soft, zerolinecolor: colours.zero,
      showline: true, ticks: "outside", ticklen: 4, tickfont: { size: 11, color: colours.soft },
      title: { font: { size: 12, color: colours.soft }, standoff: 8 },
    };
    const template = {
      layout: {
        font: { family: SANS, size: 12, color: colours.ink }, paper_bgcolor: colours.ground, plot_bgcolor: colours.ground,
        xaxis: axis, yaxis: axis, legend: { font: { size: 12, color: colours.ink }, bgcolor: "rgba(0,0,0,0)" },
        hoverlabel: { bgcolor: colours.ground, bordercolor: colours.soft, font: { family: SANS, size: 12, color: colours.ink }, align: "left" },
        colorway: ["#3f82c4"],
      },
    };
    const data = spec.data;
    for (const trace of data) if (trace.meta === "ink") trace.line.color = colours.ink;
    const layout = { ...spec.layout, template, width, dragmode: false };
    if (spec.layout.dragmode && !matchMedia("(pointer: coarse)").matches) layout.dragmode = spec.layout.dragmode;
    flow(layout, width, data);
    return { data, layout };
  }

  /* Lay panels out in as many columns as there is room for; leave room for the legend's lines. */
  function flow(layout, width, data) {
    const meta = layout.meta, margin = layout.margin;
    const lines = legendLines(data, layout, width - margin.l - margin.r);
    const titles = meta.panels ? 22 : 0;
    const top = (lines ? 12 + 20 * lines : 8) + titles;
    if (!meta.panels) {
      layout.height = meta.height - margin.t + top;
      margin.t = top;
      return;
    }
    const room = width - margin.l - margin.r;
    const columns = Math.max(1, Math.min(meta.columns, Math.floor((room + PANEL.gapX) / (PANEL.least + PANEL.gapX))));
    const rows = Math.ceil(meta.panels / columns);
    const each = (room - (columns - 1) * PANEL.gapX) / columns;
    const tall = rows * meta.panel + (rows - 1) * PANEL.gapY;
    margin.t = top;
    layout.height = tall + margin.t + margin.b;
    for (let place = 0; place < meta.panels; place += 1) {
      const row = Math.floor(place / columns), column = place % columns, number = place ? String(place + 1) : "";
      const left = column * (each + PANEL.gapX) / room, high = 1 - row * (meta.panel + PANEL.gapY) / tall;
      layout[`xaxis${number}`].domain = [left, Math.min(1, left + each / room)];
      layout[`yaxis${number}`].domain = [Math.max(0, high - meta.panel / tall), high];
      Object.assign(layout.annotations[place], { x: left, y: high, yshift: 2 });
    }
  }

  const ruler = document.createElement("canvas").getContext("2d");
  function legendLines(data, layout, room) {
    if (layout.showlegend === false) return 0;
    const names = data.filter((trace) => trace.name && trace.showlegend !== false && trace.type !== "heatmap").map((trace) => trace.name);
    if (names.length < 2) return 0;
    ruler.font = `12px ${SANS}`;
    // Plotly gives every entry of a horizontal legend the width of the widest one.
    const widest = Math.max(...names.map((name) => ruler.measureText(name).width)) + 52;
    return Math.ceil(names.length / Math.max(1, Math.floor(room / widest)));
  }

  function draw(figure) {
    const plot = figure.plot, width = Math.floor(plot.clientWidth);
    if (!width) return;
    figure.width = width;
    const { data, layout } = themed(specOf(figure), themeNow(), width);
    plot.style.minHeight = `${layout.height}px`;
    Plotly.react(plot, data, layout, { displayModeBar: false, responsive: false });
    figure.drawn = true;
  }

  function load(element) {
    if (figures.has(element)) return figures.get(element);
    const spec = JSON.parse(element.querySelector(".spec").textContent);
    const figure = { element, spec, plot: element.querySelector(".plot"), drawn: false, width: 0 };
    figures.set(element, figure);
    new ResizeObserver(() => {
      if (figure.drawn && Math.floor(figure.plot.clientWidth) !== figure.width) requestAnimationFrame(() => draw(figure));
    }).observe(figure.plot);
    return figure;
  }

  function save(figure, format) {
    // Always in light colours and one width, whatever the screen: for a paper.
    const { data, layout } = themed(specOf(figure), "light", 900);
    Plotly.downloadImage({ data, layout }, { format, width: 900, height: layout.height, scale: 2, filename: figure.spec.id });
  }

  const elements = all("[data-figure]");
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      draw(load(entry.target));
    }
  }, { rootMargin: "400px 0px" });
  for (const element of elements) {
    watch.observe(element);
    for (const select of all("[data-choice]", element)) select.addEventListener("change", () => draw(load(element)));
    for (const button of all("[data-image]", element)) {
      button.addEventListener("click", () => save(load(element), button.dataset.image));
    }
  }

  function redraw() {
    for (const figure of figures.values()) if (figure.drawn) draw(figure);
  }

  addEventListener("beforeprint", () => {
    for (const details of all("details")) details.open = true;
    for (const element of elements) draw(load(element));
  });

  /* Theme */
  const button = document.getElementById("theme");
  const mark = () => button.setAttribute("aria-pressed", String(themeNow() === "dark"));
  mark();
  button.addEventListener("click", () => {
    root.dataset.theme = themeNow() === "dark" ? "light" : "dark";
    try { localStorage.setItem("concordant-theme", root.dataset.theme); } catch { /* the choice lasts as long as the page */ }
    mark();
    redraw();
  });

  /* Tables */
  function valueOf(row, column) {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  for (const table of all("table")) {
    const heads = all("th", table), body = table.tBodies[0];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const empty = (row) => row.cells[column].textContent.trim() === "-";
      const rows = [...body.rows].sort((one, other) =>
        empty(one) - empty(other) || (descending ? -1 : 1) * compare(valueOf(one, column), valueOf(other, column)));
      body.append(...rows);
    }));
  }

  function field(text) {
    // A spreadsheet takes what starts so for a formula; numbers may.
    const safe = /^[=+\-@\t\r]/.test(text) && !/^(-|[+-]?[\d.]+( (±|to) [+-]?[\d.]+)?)$/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  for (const csv of all("[data-csv]")) {
    csv.addEventListener("click", () => {
      const rows = all(`#${csv.dataset.csv} tr`);
      const text = rows.map((row) => [...row.cells].map((cell) => field(cell.textContent.trim())).join(",")).join("\r\n");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv;charset=utf-8" }));
      link.download = `${csv.dataset.csv}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }

  /* The section that is read */
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const reading = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(entry.target.id);
      link.setAttribute("aria-current", "true");
      const list = link.closest("ol");
      list.scrollLeft = link.offsetLeft - list.clientWidth / 2 + link.offsetWidth / 2;
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of all("main > section")) reading.observe(section);
})();
