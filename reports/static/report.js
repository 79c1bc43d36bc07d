// Draws the charts of the report in the theme of the page; all data stands in the page itself.
(() => {
  "use strict";
  const PRINT_WIDTH = 660; // pixels that fit on an A4 page inside its margins
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const isTouch = matchMedia("(pointer: coarse)");
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const plots = [...document.querySelectorAll(".plot")];
  const hidden = new Map(); // plot -> names the reader has switched off
  let isPrinting = false;

  const color = (name) => {
    const source = isPrinting ? document.getElementById("light-theme") : document.documentElement;
    return getComputedStyle(source).getPropertyValue("--" + name).trim();
  };

  // Theme colours are written "@name" and stand only under keys that end in "color".
  const themed = (value, key) => {
    if (typeof value === "string") {
      return key.endsWith("color") && value.startsWith("@") ? color(value.slice(1)) : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, ""));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, k)]));
  };

  const draw = (plot) => {
    const figure = themed(JSON.parse(document.getElementById(plot.id + "-data").textContent), "");
    const off = hidden.get(plot) ?? new Set();
    for (const trace of figure.data) if (off.has(trace.meta)) trace.visible = false;
    figure.layout.autosize = !isPrinting;
    figure.layout.dragmode = isTouch.matches ? false : "zoom";
    if (isPrinting) Object.assign(figure.layout, { width: PRINT_WIDTH, height: plot.clientHeight });
    plot.dataset.drawn = "";
    return Plotly.react(plot, figure.data, figure.layout, config);
  };
  const isDrawn = (plot) => "drawn" in plot.dataset;
  const isShown = (plot) => plot.offsetParent !== null; // what is away has no width to draw for
  const redraw = () => plots.filter((plot) => isDrawn(plot) && isShown(plot)).forEach(draw);

  // A chart is drawn when it comes near the screen: dozens at once would block the page.
  const nearScreen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !isDrawn(target)) draw(target);
    }
  }, { rootMargin: "600px" });
  plots.forEach((plot) => nearScreen.observe(plot));

  isDark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { isPrinting = true; plots.forEach(draw); });
  addEventListener("afterprint", () => { isPrinting = false; redraw(); });

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const plot = document.getElementById(button.dataset.chart);
      const off = hidden.get(plot) ?? new Set();
      const isOn = button.getAttribute("aria-pressed") === "true";
      if (isOn) off.add(button.dataset.trace); else off.delete(button.dataset.trace);
      hidden.set(plot, off);
      button.setAttribute("aria-pressed", String(!isOn));
      draw(plot);
    });
  }

  // Without a script every scenario is shown; with one, the picked one.
  const picker = document.querySelector(".picker");
  const pick = (number) => {
    document.body.dataset.picked = number;
    for (const button of picker.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.pick === number));
    }
    for (const panel of document.querySelectorAll("[data-scenario]")) {
      panel.toggleAttribute("data-away", panel.dataset.scenario !== number);
    }
    redraw();
  };
  document.body.dataset.picked = "0"; // the heading of each panel need not name the scenario
  if (picker) {
    picker.hidden = false;
    picker.addEventListener("click", (event) => {
      const button = event.target.closest("[data-pick]");
      if (button) pick(button.dataset.pick);
    });
    pick("0");
  }
})();
