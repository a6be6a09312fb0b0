// Pointing at a trial (mouse, finger, keyboard) shows it; on paper, everything unfolds but the picture of each trial.
(function () {
  var panel = document.getElementById("pointed"), data = document.getElementById("trials");
  if (panel && data) {
    var trials = JSON.parse(data.textContent), drawn = {};
    document.querySelectorAll("[data-samples]").forEach(function (one) { drawn[one.getAttribute("data-samples")] = one.src; });
    var show = function (event) {
      var id = event.target.getAttribute && event.target.getAttribute("data-trial"), trial = trials[id];
      if (!trial) return;
      panel.textContent = "";
      if (drawn[id]) { var image = new Image(); image.src = drawn[id]; image.alt = "samples of " + id; panel.appendChild(image); }
      var text = document.createElement("p"), strong = document.createElement("strong");
      strong.textContent = id + ": " + trial.score;
      text.appendChild(strong);
      text.appendChild(document.createTextNode(" · " + trial.cost + " · " + trial.origin + (trial.changed.length ? " · differs from the default in " + trial.changed.join(", ") : " · the default network") + (trial.reason ? " · the model: " + trial.reason : "")));
      panel.appendChild(text);
    };
    ["mouseover", "click", "focusin"].forEach(function (kind) { document.addEventListener(kind, show); });
  }
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not(.picture)").forEach(function (one) { one.open = true; });
  });
})();
