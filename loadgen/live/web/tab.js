// Shows the page of the run below the table of our tab: Locust's own tabs show tables only.

const { title } = document.getElementById("llm-tab").dataset;
const frame = Object.assign(document.createElement("iframe"), { src: "llm", title: "Charts and result of the run" });
Object.assign(frame.style, { display: "block", width: "100%", border: "0" });

function place() {
  const chosen = document.querySelector("#root [role=tab][aria-selected=true]")?.textContent === title;
  if (chosen && !frame.isConnected) document.querySelector("#root main").append(frame);
  if (!chosen) frame.remove();
}

const changes = { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-selected"] };
new MutationObserver(place).observe(document.getElementById("root"), changes);
place();
