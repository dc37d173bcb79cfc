// The crosshair: one vertical line through all lanes, and what every lane says at that time.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("lanes").textContent);
  const svg = document.getElementById("timeline");
  const line = document.getElementById("crosshair");
  const box = document.getElementById("hover");
  const unit = svg.viewBox.baseVal.width;

  function put(tag, text, parent) {
    const element = document.createElement(tag);
    element.textContent = text;
    parent.appendChild(element);
    return element;
  }

  function show(t, x) {
    const cell = Math.max(0, Math.floor((t - data.start) / data.cell));
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.style.visibility = "visible";
    box.textContent = "";
    put("div", t.toFixed(2) + " s", box).className = "at";
    for (const lane of data.lanes) {
      const row = put("div", "", box);
      put("b", lane.name, row);
      put("span", lane.values[cell] || "–", row);
    }
    box.style.visibility = "visible";
  }

  function hide() {
    line.style.visibility = box.style.visibility = "hidden";
  }

  svg.addEventListener("mousemove", function (event) {
    const frame = svg.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * unit;
    if (x < data.left || x > data.right) return hide();
    const share = (x - data.left) / (data.right - data.left);
    show(data.start + share * (data.end - data.start), x);
    const toLeft = event.clientX - frame.left > frame.width / 2;
    const aside = toLeft ? -box.offsetWidth - 16 : 16;
    box.style.left = event.clientX - frame.left + aside + "px";
    box.style.top = Math.min(event.clientY - frame.top, frame.height - box.offsetHeight) + "px";
  });
  svg.addEventListener("mouseleave", hide);
})();

// A link to a trace opens it.
(function () {
  "use strict";
  function open() {
    const found = location.hash && document.getElementById(location.hash.slice(1));
    const details = found && found.closest("details");
    if (details) {
      details.open = true;
      found.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", open);
  open();
})();
