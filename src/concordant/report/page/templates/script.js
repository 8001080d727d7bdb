/* What the page does: draws figures as SVG at the width they have, shows numbers on pointing, sorts tables, saves
   pictures and CSV. Colours of text and grid are the page's own variables, so that a change of theme redraws nothing. */
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const style = getComputedStyle(root), SANS = style.getPropertyValue("--sans");
  const LIGHT = { ground: "#ffffff", raised: "#f6f6f3", ink: "#1c2024", soft: "#59616b", line: "#d9dce0", accent: "#1a6b4f" };
  const MOST = 24; // pixels from the pointer to the mark that it points at
  const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const range = (count) => Array.from({ length: count }, (_, place) => place);
  const known = (value) => value !== null && value !== undefined;
  const at = (value, place) => (Array.isArray(value) ? value[place] : value);
  const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

  /* Text */
  const ruler = document.createElement("canvas").getContext("2d");
  function widthOf(text) {
    ruler.font = `12px ${SANS}`;
    return ruler.measureText(text).width;
  }
  function fitted(text, most) {
    let found = String(text);
    while (found.length > 2 && widthOf(found) > most) found = `${found.slice(0, found.endsWith("…") ? -2 : -1)}…`;
    return found;
  }
  function written(text, x, y, more = "", most = Infinity) {
    const shown = fitted(text, most), title = shown === String(text) ? "" : `<title>${escaped(text)}</title>`;
    return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(shown)}${title}</text>`;
  }

  /* Symbols, around (0, 0) within a radius of 1 */
  const turned = (count, turn, radii = [1]) => `M${range(count).map((n) => {
    const angle = Math.PI * (turn + 2 * n / count), radius = radii[n % radii.length];
    return `${(radius * Math.cos(angle)).toFixed(3)},${(radius * Math.sin(angle)).toFixed(3)}`;
  }).join("L")}Z`;
  const CROSS = "M-.35,-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z";
  const SALTIRE = "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z";
  const SYMBOLS = {
    circle: "M1,0A1,1 0 1 1 -1,0A1,1 0 1 1 1,0Z", square: "M-.85,-.85H.85V.85H-.85Z", diamond: turned(4, 0, [1.15]),
    "triangle-up": turned(3, -0.5, [1.15]), "triangle-down": turned(3, 0.5, [1.15]), cross: CROSS, x: SALTIRE,
    star: turned(10, -0.5, [1.25, 0.55]), hexagon: turned(6, 0, [1.05]), pentagon: turned(5, -0.5, [1.1]),
  };
  function symbol(series, x, y, radius, open) {
    const fill = open ? "var(--ground)" : series.color;
    return `<path d="${SYMBOLS[series.symbol] || SYMBOLS.circle}" transform="translate(${x.toFixed(1)},${y.toFixed(1)}) ` +
      `scale(${radius})" fill="${fill}" stroke="${series.color}" stroke-width="1.5" vector-effect="non-scaling-stroke"/>`;
  }

  /* Axes */
  function stepOf(reach, count) {
    const power = 10 ** Math.floor(Math.log10(reach / count));
    return [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= reach / count * 0.999);
  }
  function scaleOf(axis, values, count) {
    let [low, high] = axis.range || [Math.min(...values), Math.min(Math.max(...values), axis.score ? 100 : Infinity)];
    if (!Number.isFinite(low)) [low, high] = [0, 1];
    if (axis.log) {
      [low, high] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
      if (low === high) high += 1;
      const every = Math.ceil((high - low) / 5);
      const ticks = range(high - low + 1).filter((n) => n % every === 0).map((n) => 10 ** (low + n));
      return { share: (value) => (Math.log10(value) - low) / (high - low), ticks, low: 10 ** low, name: short };
    }
    if (axis.zero || (axis.score && low < 0.4 * high && low > 0)) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const step = stepOf(high - low, count);
    if (!axis.range) [low, high] = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    const ticks = range(last - first + 1).map((n) => (first + n) * step).filter((one) => !axis.score || one <= 100.001);
    const name = (value) => (axis.percent ? `${Math.round(100 * value)} %` : String(Number(value.toPrecision(6))));
    const most = axis.score ? 100 : Infinity; // a deviation does not reach beyond the best score
    return { share: (value) => (Math.min(value, most) - low) / (high - low), ticks, low, name };
  }
  const labelOf = (axis, scale) =>
    (axis.score && scale.low > 0 ? `axis from ${scale.name(scale.low)}: ` : "") + (axis.label || "");

  /* Colours of heat maps */
  const SCALES = {
    diverging: ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"],
    sequential: ["#f4f1ea", "#bcd7cc", "#6fae97", "#2f8266", "#0c4a35"],
  };
  function shade(name, share) {
    const stops = SCALES[name].map((one) => [1, 3, 5].map((from) => parseInt(one.slice(from, from + 2), 16)));
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1), left = Math.min(Math.floor(place), stops.length - 2);
    return stops[left].map((one, n) => Math.round(one + (place - left) * (stops[left + 1][n] - one)));
  }
  function raster(rows, columns, colour) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [columns, rows];
    const pen = canvas.getContext("2d");
    for (const row of range(rows)) for (const column of range(columns)) {
      pen.fillStyle = colour(row, column);
      pen.fillRect(column, row, 1, 1);
    }
    return canvas.toDataURL();
  }

  /* A figure: {svg, height, points: what can be pointed at} */
  function valuesOf(panels, axis) {
    const found = [];
    for (const { marks } of panels) for (const mark of marks) {
      const sides = axis === "y" ? ["y", ...(mark.k === "line" ? ["low", "high"] : [])]
        : ["x", ...(mark.k === "dots" ? ["low", "high"] : [])];
      for (const side of sides) found.push(...(mark[side] || []).filter(known));
    }
    return found;
  }

  function legendOf(figure, spec, width) {
    if (spec.legend === false || figure.series.length < 2) return { svg: "", height: 0 };
    const used = new Set(spec.panels.flatMap(({ marks }) => marks.flatMap((one) => (one.k === "cloud" ? figure.places.of : one.s))));
    let x = 0, y = 12, svg = "";
    figure.series.forEach((series, number) => {
      if (!used.has(number)) return;
      const name = fitted(series.name, width - 40), wide = widthOf(name) + 46;
      if (x && x + wide > width) [x, y] = [0, y + 20];
      const line = spec.panels[0].marks.some((one) => one.k === "line")
        ? `<path d="M0,0H26" stroke="${series.color}" stroke-width="${series.width}" stroke-dasharray="${series.dash}"/>` : "";
      svg += `<g class="entry" data-series="${number}" role="button" tabindex="0" aria-pressed="${!figure.hidden.has(number)}" ` +
        `transform="translate(${x.toFixed(1)},${y})" opacity="${figure.hidden.has(number) ? 0.35 : 1}">` +
        `<rect x="-2" y="-10" width="${(wide - 8).toFixed(1)}" height="20" fill="transparent"/>` +
        `${line}${series.symbol ? symbol(series, 13, 0, 4.5) : ""}${written(name, 32, 4)}</g>`;
      x += wide;
    });
    return { svg, height: y + 16 };
  }

  function drawing(figure, spec, width) {
    const { x: across, y: up } = spec, names = up.names, gap = 28;
    const legend = legendOf(figure, spec, width), points = [];
    const columns = Math.max(1, Math.min(spec.columns, spec.panels.length, Math.floor((width + gap) / (spec.least + gap))));
    const each = (width - (columns - 1) * gap) / columns, rows = Math.ceil(spec.panels.length / columns);
    const wanted = Math.max(2, Math.min(6, Math.floor(each / 70)));
    const shared = (axis, key, count) => scaleOf(axis, valuesOf(spec.panels, key), count);
    const whole = { x: shared(across, "x", wanted), y: names || up.own ? null : shared(up, "y", 4) };
    const scales = spec.panels.map((panel) => whole.y || (names ? null : scaleOf(up, valuesOf([panel], "y"), 4)));
    const titled = spec.panels.some((one) => one.title) ? 20 : 0, labelled = up.label ? 16 : 0;
    const foot = (across.hidden ? 8 : 20) + (across.label ? 17 : 0);
    const marks = names || scales.flatMap((one) => one.ticks.map(one.name));
    const left = up.hidden ? 2 : Math.min(Math.max(...marks.map(widthOf)) + 12, 0.44 * each);
    const tall = spec.height + titled + labelled + foot + 18;
    let svg = legend.svg;
    spec.panels.forEach((panel, place) => {
      const row = Math.floor(place / columns), column = place % columns;
      const x0 = column * (each + gap), top = legend.height + row * tall + titled + labelled;
      const box = { left: x0 + left, right: x0 + each - 12, top, bottom: top + spec.height };
      const y = scales[place], scale = { x: whole.x, y };
      if (panel.title) svg += written(panel.title, x0, top - labelled - 7, 'font-weight="600"', each);
      if (up.label) svg += written(labelOf(up, y || {}), x0, top - 6, 'class="soft"', each);
      svg += panel.marks.some((one) => one.k === "heat") ? heat(panel.marks[0], spec, box, points)
        : axes(spec, scale, box) + panel.marks.map((one) => drawn(figure, spec, one, scale, box, points)).join("");
      const label = labelOf(across, whole.x);
      if (label) svg += written(label, box.right, box.bottom + foot - 2, 'class="soft" text-anchor="end"', each);
    });
    const height = Math.ceil(legend.height + rows * tall - 10);
    return { svg: `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `font-family="${escaped(SANS)}" font-size="12" fill="none">${svg}</svg>`, height, points };
  }

  const PAD = 7; // pixels between the ends of an axis and the first mark
  const placeX = (scale, box) => (value) => box.left + PAD + scale.x.share(value) * (box.right - box.left - 2 * PAD);
  function placeY(spec, scale, box) {
    const room = box.bottom - box.top, names = spec.y.names;
    if (names) return (value) => box.top + (value + 0.5) * room / names.length;
    return (value) => box.bottom - PAD - scale.y.share(value) * (room - 2 * PAD);
  }

  function axes(spec, scale, box) {
    const x = placeX(scale, box), y = placeY(spec, scale, box);
    let svg = "";
    if (!spec.x.hidden) for (const tick of scale.x.ticks) {
      const place = x(tick).toFixed(1), strong = spec.x.zero && tick === 0;
      svg += `<path d="M${place},${box.top}V${box.bottom}" class="${strong ? "zero" : "grid"}"/>` +
        written(scale.x.name(tick), x(tick), box.bottom + 15, 'class="soft" text-anchor="middle"');
    }
    if (spec.y.names) spec.y.names.forEach((name, row) => {
      svg += written(name, box.left - 8, y(row) + 4, 'text-anchor="end"', box.left - 8);
    });
    else if (!spec.y.hidden) for (const tick of scale.y.ticks) {
      svg += `<path d="M${box.left},${y(tick).toFixed(1)}H${box.right}" class="${spec.y.zero && tick === 0 ? "zero" : "grid"}"/>` +
        written(scale.y.name(tick), box.left - 6, y(tick) + 4, 'class="soft" text-anchor="end"');
    }
    return `${svg}<path d="M${box.left},${box.top}V${box.bottom}H${box.right}" class="axis"/>`;
  }

  function drawn(figure, spec, mark, scale, box, points) {
    const x = placeX(scale, box), y = placeY(spec, scale, box), count = mark.x.length;
    const say = (n, series, text) => [series && series.name, text].filter(Boolean).join("\n");
    if (mark.k === "diagonal") return `<path d="M${x(0)},${y(0)}L${x(1)},${y(1)}" class="guide"/>`;
    if (mark.k === "cloud") {
      let svg = "";
      for (const n of range(count)) {
        const number = figure.places.of[n], series = figure.series[number];
        if (!known(mark.x[n]) || figure.hidden.has(number)) continue;
        svg += `<g opacity="0.85">${symbol(series, x(mark.x[n]), y(mark.y[n]), 3.6)}</g>`;
        points.push([x(mark.x[n]), y(mark.y[n]), say(n, series, figure.places.text[n])]);
      }
      return svg;
    }
    if (mark.k === "dots") return range(count).map((n) => {
      const series = figure.series[at(mark.s, n)];
      if (!known(mark.x[n])) return "";
      const [px, py] = [x(mark.x[n]), y(mark.y[n])];
      const ends = mark.low && known(mark.low[n]) ? `<path d="M${x(mark.low[n]).toFixed(1)},${py.toFixed(1)}H${x(mark.high[n]).toFixed(1)}" stroke="${series.color}" stroke-width="2"/>` : "";
      points.push([px, py, say(n, series, mark.text[n])]);
      return ends + symbol(series, px, py, 4.6, mark.open && mark.open[n]);
    }).join("");
    if (figure.hidden.has(mark.s)) return "";
    const series = figure.series[mark.s], xs = mark.x;
    const path = (values) => values.map((one, n) => (known(one)
      ? `${n && known(values[n - 1]) ? "L" : "M"}${x(xs[n]).toFixed(1)},${y(one).toFixed(1)}` : "")).join("");
    let svg = "";
    if (mark.low) {
      const there = range(count).filter((n) => known(mark.low[n]) && known(mark.high[n]));
      const edge = (side, order) => order.map((n) => `${x(xs[n]).toFixed(1)},${y(side[n]).toFixed(1)}`).join("L");
      if (there.length) svg += `<path d="M${edge(mark.high, there)}L${edge(mark.low, [...there].reverse())}Z" fill="${series.color}" fill-opacity="0.16"/>`;
    }
    svg += `<path d="${path(mark.y)}" stroke="${series.color}" stroke-width="${series.width}" stroke-dasharray="${series.dash}" stroke-linejoin="round"/>`;
    for (const n of range(count)) {
      if (!known(mark.y[n])) continue;
      if (mark.dots && series.symbol) svg += symbol(series, x(xs[n]), y(mark.y[n]), mark.size ? mark.size[n] : 3.2);
      const where = mark.text ? mark.text[n] : `${spec.x.label || "x"}: ${scale.x.name(xs[n])}`;
      points.push([x(xs[n]), y(mark.y[n]), say(n, series, `${where}\n${short(mark.y[n])}${spec.y.unit || ""}`)]);
    }
    return svg;
  }

  function heat(mark, spec, box, points) {
    const rows = mark.z.length, columns = Math.max(...mark.z.map((row) => row.length), 1);
    const [wide, high] = [(box.right - box.left) / columns, (box.bottom - box.top) / Math.max(rows, 1)];
    const share = (value) => (value - mark.low) / (mark.high - mark.low);
    const colour = (row, column) => (known(mark.z[row][column]) ? `rgb(${shade(mark.scale, share(mark.z[row][column]))})` : "transparent");
    const picture = (href, x, y, w, h) => `<image href="${href}" x="${x}" y="${y}" width="${w}" height="${h}" preserveAspectRatio="none" style="image-rendering:pixelated"/>`;
    let svg = picture(raster(rows, columns, colour), box.left, box.top, box.right - box.left, box.bottom - box.top);
    mark.rows.forEach((name, row) => {
      svg += written(name, box.left - 8, box.top + (row + 0.5) * high + 4, 'text-anchor="end"', box.left - 8);
    });
    const few = Math.ceil(columns / Math.max(2, Math.floor((box.right - box.left) / 60)));
    for (const column of range(columns)) if (mark.columns || column % few === 0) {
      svg += written(mark.columns ? mark.columns[column] : column, box.left + (column + 0.5) * wide, box.bottom + 15,
        `text-anchor="middle" ${mark.columns ? "" : 'class="soft"'}`, mark.columns ? wide : Infinity);
    }
    for (const row of range(rows)) for (const column of range(mark.z[row].length)) {
      const value = mark.z[row][column], [x, y] = [box.left + (column + 0.5) * wide, box.top + (row + 0.5) * high];
      if (!known(value)) continue;
      if (mark.write) svg += `<text x="${x}" y="${y + 4}" text-anchor="middle" style="fill:${share(value) > 0.6 ? "#fff" : "#1c2024"}">${value.toFixed(2)}</text>`;
      points.push([x, y, `${mark.rows[row]}, ${mark.columns ? mark.columns[column] : `feature ${column}`}\n${value.toFixed(3)}`]);
    }
    if (mark.scale !== "diverging") return svg;
    const bar = raster(1, 60, (_, n) => `rgb(${shade(mark.scale, n / 59)})`), from = box.right - 120;
    return svg + picture(bar, from, box.top - 14, 80, 9) + written(short(mark.low), from - 4, box.top - 6, 'class="soft" text-anchor="end"') +
      written(short(mark.high), from + 84, box.top - 6, 'class="soft"');
  }

  /* Figures on the page: drawn when they have a width, anew when it changes */
  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  function point(figure, [x, y, text]) {
    const box = figure.plot.getBoundingClientRect();
    Object.assign(tip, { hidden: false, textContent: text });
    const left = Math.min(box.left + x + 12, root.clientWidth - tip.offsetWidth - 6);
    Object.assign(tip.style, { left: `${Math.max(6, left) + scrollX}px`, top: `${box.top + y - tip.offsetHeight - 10 + scrollY}px` });
  }

  function specOf(figure) {
    return figure.specs[all("[data-choice]", figure.element).map((select) => select.value).join("-")];
  }

  function draw(figure) {
    const width = Math.floor(figure.plot.clientWidth);
    if (!width) return;
    const focus = document.activeElement.closest && document.activeElement.closest(".entry");
    const { svg, height, points } = drawing(figure, specOf(figure), width);
    Object.assign(figure, { width, points, current: -1 });
    figure.plot.innerHTML = svg;
    figure.plot.style.minHeight = `${height}px`;
    tip.hidden = true;
    if (focus) (figure.plot.querySelector(`[data-series="${focus.dataset.series}"]`) || figure.plot).focus();
  }

  const figures = all("[data-figure]").map((element) => {
    const plot = element.querySelector(".plot"), given = JSON.parse(element.querySelector(".spec").textContent);
    const figure = { ...given, element, plot, hidden: new Set(), points: [], places: given.points, width: 0 };
    for (const { panels } of Object.values(given.specs)) for (const { marks } of panels) for (const one of marks) {
      if ("from" in one) one.x = one.y.map((_, place) => one.from + place * one.by);
    }
    return figure;
  });
  for (const figure of figures) {
    const { element, plot } = figure;
    const toggle = (event) => {
      const entry = event.target.closest(".entry");
      if (!entry) return false;
      const number = Number(entry.dataset.series);
      if (!figure.hidden.delete(number)) figure.hidden.add(number);
      draw(figure);
      return true;
    };
    plot.addEventListener("click", toggle);
    plot.addEventListener("keydown", (event) => {
      if ((event.key === "Enter" || event.key === " ") && toggle(event)) event.preventDefault();
      const turn = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") tip.hidden = true;
      if (!turn || !figure.points.length) return;
      event.preventDefault();
      figure.current = (figure.current + turn + figure.points.length) % figure.points.length;
      point(figure, figure.points[figure.current]);
    });
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let [best, found] = [MOST, null];
      for (const one of figure.points) {
        const far = Math.hypot(one[0] - x, one[1] - y);
        if (far <= best) [best, found] = [far, one];
      }
      if (found) point(figure, found); else tip.hidden = true;
    });
    for (const event of ["pointerleave", "blur"]) plot.addEventListener(event, () => { tip.hidden = true; });
    for (const select of all("[data-choice]", element)) select.addEventListener("change", () => draw(figure));
    for (const button of all("[data-image]", element)) button.addEventListener("click", () => saveImage(figure, button.dataset.image));
    draw(figure);
    new ResizeObserver(() => {
      if (Math.floor(plot.clientWidth) !== figure.width) draw(figure);
    }).observe(plot);
  }

  addEventListener("beforeprint", () => {
    for (const details of all("details")) details.open = true;
    figures.forEach(draw);
  });

  /* Downloads: data URLs, which nothing can revoke while the browser still reads */
  function save(href, name) {
    Object.assign(document.createElement("a"), { href, download: name }).click();
  }
  function saveImage(figure, format) {
    // Always in light colours and one width, whatever the screen: for a paper.
    const { svg, height } = drawing(figure, specOf(figure), 900);
    const rules = ".soft{fill:#59616b}text{fill:#1c2024}.grid{stroke:#e3e5e8}.axis{stroke:#59616b}.zero{stroke:#59616b;stroke-width:1.5}.guide{stroke:#1c2024;stroke-dasharray:5 4}";
    const alone = svg.replace(/>/, `><style>${rules}</style><rect width="900" height="${height}" fill="#ffffff"/>`)
      .replace(/var\(--(\w+)\)/g, (_, name) => LIGHT[name]);
    const address = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(alone)}`;
    if (format === "svg") return save(address, `${figure.id}.svg`);
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 1800, height: 2 * height });
      canvas.getContext("2d").drawImage(image, 0, 0, 1800, 2 * height);
      save(canvas.toDataURL("image/png"), `${figure.id}.png`);
    });
    image.src = address;
  }

  /* Theme */
  const button = document.getElementById("theme");
  const mark = () => button.setAttribute("aria-pressed", String(root.dataset.theme === "dark"));
  mark();
  button.addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("concordant-theme", root.dataset.theme); } catch { /* the choice lasts as long as the page */ }
    mark();
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
  for (const csv of all("[data-csv]")) csv.addEventListener("click", () => {
    const rows = all(`#${csv.dataset.csv} tr`);
    const text = rows.map((row) => [...row.cells].map((cell) => field(cell.textContent.trim())).join(",")).join("\r\n");
    save(`data:text/csv;charset=utf-8,${encodeURIComponent(`${text}\r\n`)}`, `${csv.dataset.csv}.csv`);
  });

  /* A link into a folded part opens it */
  function unfold() {
    const found = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let one = found; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
  }
  addEventListener("hashchange", unfold);
  unfold();

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
