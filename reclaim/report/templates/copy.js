"use strict";
/* A button that copies each command. Without a script the commands are there all the same. */
for (const command of document.querySelectorAll(".command")) {
  const code = command.querySelector("code");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  name(button, code);
  button.addEventListener("click", () => copy(code, button));
  command.append(button);
}

function name(button, code) {
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${code.textContent}`);
}

async function copy(code, button) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code); /* a page that is served without TLS has no clipboard */
    copied = document.execCommand("copy");
  }
  button.removeAttribute("aria-label");
  button.textContent = copied ? "Copied" : "Press Ctrl-C";
  setTimeout(name, 2000, button, code);
}
