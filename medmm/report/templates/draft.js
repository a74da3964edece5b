"use strict";
// The draft can be edited in place and copied as plain text; nothing is kept or sent.
(function () {
  const draft = document.getElementById("draft-text"), bar = document.getElementById("draft-bar");
  if (!draft || !bar) return;
  const edit = document.getElementById("draft-edit"), copy = document.getElementById("draft-copy"), said = document.getElementById("draft-said");

  function asText() {
    const lines = [draft.dataset.title, draft.dataset.disclaimer];
    for (const part of draft.querySelectorAll("h3, li")) {
      const bare = part.cloneNode(true);
      bare.querySelectorAll(".source").forEach((link) => link.remove());
      const text = bare.textContent.replace(/\s+/g, " ").trim();
      if (text) lines.push(part.tagName === "H3" ? `\n${text.toUpperCase()}` : `- ${text}`);
    }
    return `${lines.join("\n")}\n`;
  }

  function copyOldWay(text) {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  edit.addEventListener("click", () => {
    const isOn = draft.isContentEditable;
    draft.contentEditable = isOn ? "false" : "plaintext-only";
    edit.setAttribute("aria-pressed", String(!isOn));
    if (!isOn) draft.focus();
  });
  copy.addEventListener("click", async () => {
    const text = asText();
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch { done = copyOldWay(text); }
    said.textContent = done ? said.dataset.done : said.dataset.failed;
    draft.dataset.copied = text;
  });
  bar.hidden = false;
})();
