// What the Connect UI can do better with JavaScript. Every page works without it.
(() => {
  "use strict";

  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const RESULT_DELAY = 1200; // long enough to read that it worked

  // A provider's answer by POST is sent on from our own page, so that the browser adds our cookie.
  each("form[data-auto]", (form) => form.submit());

  // One click, one request. A page that comes back from the history can be sent again.
  each("form[data-once]", (form) => {
    const button = form.querySelector("button[type=submit]");
    const label = button.textContent;
    let sent = false;
    form.addEventListener("submit", (event) => {
      if (sent) {
        event.preventDefault();
        return;
      }
      sent = true;
      button.setAttribute("aria-disabled", "true");
      button.textContent = button.dataset.busy || label;
    });
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) {
        sent = false;
        button.removeAttribute("aria-disabled");
        button.textContent = label;
      }
    });
  });

  // Secrets can be looked at before they are sent.
  each("button[data-reveal]", (button) => {
    const input = document.getElementById(button.dataset.reveal);
    button.hidden = false;
    button.addEventListener("click", () => {
      const shown = input.type === "text";
      input.type = shown ? "password" : "text";
      button.textContent = shown ? button.dataset.show : button.dataset.hide;
      button.setAttribute("aria-pressed", String(!shown));
      input.focus();
    });
  });

  // The search filters while typing; without JavaScript its button asks the server.
  each("form[data-filter]", (form) => {
    const input = form.querySelector("input[type=search]");
    const items = [...document.querySelectorAll("[data-name]")];
    const none = document.querySelector("[data-none]");
    form.querySelector("button").hidden = true;
    form.addEventListener("submit", (event) => event.preventDefault());
    const filter = () => {
      const wanted = input.value.trim().toLowerCase();
      let left = 0;
      for (const item of items) {
        item.hidden = !item.dataset.name.includes(wanted);
        left += item.hidden ? 0 : 1;
      }
      none.hidden = left > 0;
    };
    input.addEventListener("input", filter);
    filter();
  });

  each("button[data-close]", (button) => {
    button.hidden = !window.opener;
    button.addEventListener("click", () => window.close());
  });

  // On this machine an app may connect without a configured origin. Its own is remembered from the page that opened us.
  const LOCAL = /^https?:\/\/(localhost|[a-z0-9.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/;
  const referrer = () => {
    try {
      return new URL(document.referrer).origin;
    } catch {
      return "";
    }
  };
  const storage = {
    get: (key) => {
      try {
        return window.sessionStorage.getItem(key) || "";
      } catch {
        return "";
      }
    },
    set: (key, value) => {
      try {
        window.sessionStorage.setItem(key, value);
      } catch {
        // Storage may be switched off; then nothing is remembered.
      }
    },
  };
  each("[data-remember-opener]", () => {
    const origin = referrer();
    if (window.opener && origin !== window.location.origin && LOCAL.test(origin)) {
      storage.set("opener", origin);
    }
  });

  // The result goes to each allowed origin by name: the browser delivers it to the opener only if it has that origin.
  each("[data-result]", (element) => {
    const message = JSON.parse(element.dataset.result);
    const origins = JSON.parse(element.dataset.origins);
    if (element.dataset.anyLocal === "true" && LOCAL.test(storage.get("opener"))) {
      origins.push(storage.get("opener"));
    }
    if (window.opener) {
      for (const origin of origins) {
        window.opener.postMessage(message, origin);
        if (element.dataset.also) {
          window.opener.postMessage(JSON.parse(element.dataset.also), origin);
        }
      }
    }
    // The Nango client's pages say that they have heard.
    window.addEventListener("message", (event) => {
      if (origins.includes(event.origin) && event.data && event.data.type === "nango_oauth_callback_ack") {
        window.close();
      }
    });
    if (message.status !== "success") {
      return;
    }
    if (window.opener) {
      window.setTimeout(() => window.close(), RESULT_DELAY);
    } else if (element.dataset.return) {
      window.setTimeout(() => window.location.replace(element.dataset.return), RESULT_DELAY);
    }
  });
})();
